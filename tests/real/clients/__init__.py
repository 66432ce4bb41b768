"""The clients of Debian's ocfs2-tools, unmodified, against the real daemons.

lab.py tells how; scene.py writes down what passes between them, and expected/ holds what should.
"""
