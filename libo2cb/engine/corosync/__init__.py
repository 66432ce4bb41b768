"""Corosync 3 as a cluster engine: both ports, over corosync's own C libraries.

    build.py       what is declared of the libraries; writes _declared.py, which is all that is needed at run time
    libraries.py   loads them; calls and their error codes
    errors.py      the error codes, and what to do
    said.py        what the callbacks say, as plain values
    handles.py     one class for each kind of connection: cpg, quorum, cmap, cfg
    process.py     whether corosync still lives, where its connections do not show it
    worker.py      the thread on which everything is called that may block
    nodelist.py    the configured nodes, from cmap's keys (pure); resolver.py: host names in it
    assembler.py   one Members event from corosync's two callbacks (pure)
    session.py     connects, and again whenever corosync went away
    membership.py  MembershipPort           channel.py   ChannelPort

What each call and callback really does: docs/corosync.md.
"""
