"""The hands: ports to the kernel and to the cluster engine, their adapters, and what both daemons share.

The only package that touches configfs, /proc, devices, sockets and the engine.
"""
