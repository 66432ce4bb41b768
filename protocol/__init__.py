"""The words: typed messages and their bytes.

Nothing here opens a file, asks a clock or imports another package of this project.
"""
