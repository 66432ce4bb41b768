"""`make demo`: a cluster of three nodes on this machine, and the stories of its two daemons to watch.

    python -m tests.demo [--plain] [--keep]

Each node has a kernel tree and a pair of daemons of its own, all separate processes, under one hub in place of the
cluster engine. What is shown is read from what they write: the daemons' logs, the journals of the kernel trees and of
the mount tables, the hub's history, in the order of one monotonic clock. At the end the laws are judged over all of it.

    stage.py      the cluster, its volumes, a fence command that can be made to wait
    scenes.py     what is done, scene by scene; no order is slept for, all are forced by the hub
    timeline.py   what was recorded, in order
    telling.py    a sentence for each step that matters
    paper.py      how it looks
"""
