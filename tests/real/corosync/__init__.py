"""Real corosync nodes on this machine, in namespaces of their own, and the daemons on them.

namespaces.py   machines that are namespaces, their network, and the end of all that lives in them
cluster.py      corosync on them: start, kill, pause, cut, heal, reload; knows nothing of the daemons
lab.py          the two daemons of each node on a sandbox's kernel, fencing, and the judges of the laws
nemesis.py      faults drawn from a seed
"""
