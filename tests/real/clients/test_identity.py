"""Who is at the other end (law 14): SO_PEERCRED, both ways, with Debian's clients."""

import socket
import subprocess
import sys
from errno import EPERM

import pytest

from libo2cb.connection import Connection
from libo2cb.errors import PermissionDenied
from libo2cb.processes import socket_address
from protocol import client
from tests.process.lab import OCFS2
from tests.process.node import DEADLINE
from tests.real.clients.lab import SOCKET, ClientLab, ClientNode
from tests.real.clients.scene import records_of

pytestmark = pytest.mark.process

NOBODY = 65534
AS_NOBODY = ("setpriv", "--reuid", str(NOBODY), "--clear-groups")


def test_each_request_is_logged_with_who_made_it(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("who")
    device, a = node.device(vm), node.point("a")
    mount = node.run("mount.ocfs2", device, a)
    fsck = node.run("fsck.ocfs2", "-y", device)
    umount = node.unmount(a)
    assert umount is not None
    for program, event, ran in (
        ("mount.ocfs2", "mount_asked", mount),
        ("fsck.ocfs2", "mount_asked", fsck),
        ("fsck.ocfs2", "unmount_asked", fsck),
        ("ocfs2_hb_ctl", "unmount_asked", umount),
    ):
        line = node.event(OCFS2, event, fs=vm.uuid, program=program)
        assert (line["pid"], line["uid"]) == (ran.pid, 0)
    assert node.event(OCFS2, "mount_asked", fs=vm.uuid, program="mount.ocfs2")["device"] == device


def test_only_root_changes_anything_and_anybody_may_ask(lab: ClientLab, node: ClientNode) -> None:
    """As nobody the programs get no further than the device; so the words are said without them."""
    vm = lab.volume("nobody")
    words: list[client.ClientMessage] = [
        client.Mount("ocfs2", vm.uuid, "demo", node.device(vm), "ocfs2"),
        client.Unmount("ocfs2", vm.uuid, "ocfs2"),
        client.MountResult("ocfs2", vm.uuid, 0, "ocfs2"),
        client.Fenced("n2", "life"),
        client.Replace(),
    ]
    script = (
        "import os, socket, sys\n"
        "for record in sys.stdin.buffer.read().splitlines():\n"
        "    with socket.socket(socket.AF_UNIX) as s:\n"
        "        s.connect('\\0ocfs2_controld_sock'); s.sendall(record.ljust(256, b'\\0'))\n"
        "        print(s.recv(256, socket.MSG_WAITALL).rstrip(b'\\0').decode())\n"
    )
    records = b"\n".join(client.encode(word).rstrip(b"\0") for word in words)
    command = [*AS_NOBODY, "/usr/bin/python3", "-c", script]
    with node.spaces.entered():
        ran = subprocess.run(command, input=records, capture_output=True, timeout=DEADLINE, check=True)
    assert ran.stdout.decode().splitlines() == [f"STATUS {EPERM} Only root may say {word.word}" for word in words]
    assert not node.lines(OCFS2, "mount_asked", fs=vm.uuid)

    dump = node.run(*AS_NOBODY, "debugfs.ocfs2", "-R", "controld dump")
    assert dump.code == 0
    assert records_of(dump.deeds, "write") in ([], ["DUMP"])
    assert " ocfs2_controld " in dump.said


def test_a_daemon_that_finds_its_name_taken_says_by_whom(lab: ClientLab, node: ClientNode) -> None:
    vm = lab.volume("taken")
    node.kill(OCFS2)
    with node.spaces.entered():
        thief = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "/usr/bin/python3", "-c", _THIEF],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    with thief:
        assert thief.stdout is not None
        assert thief.stdout.readline() == b"taken\n"
        node.start(OCFS2)
        assert node.exit_code(OCFS2) == 1
        line = node.event(OCFS2, "name_taken")
        assert (line["socket"], line["pid"]) == (SOCKET, thief.pid)
        assert f"taken by pid {thief.pid} (python3)" in node.event(OCFS2, "exiting")["cause"]

        with node.spaces.entered(), pytest.raises(PermissionDenied, match="not the daemon's"):
            Connection(SOCKET)
        thief.communicate(b"go\n", DEADLINE)
    node.start(OCFS2)
    node.ready()
    assert node.run("mount.ocfs2", node.device(vm), node.point("a")).code == 0
    assert node.unmount(node.point("a")) is not None


_THIEF = f"""
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind("\\0{SOCKET[1:]}"); os.setuid({NOBODY}); s.listen()
print("taken", flush=True); sys.stdin.readline()
"""


def test_our_own_tools_ask_who_listens(node: ClientNode) -> None:
    with node.spaces.entered(), socket.socket(socket.AF_UNIX) as direct:
        direct.connect(socket_address(SOCKET))
        peer = direct.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    assert int.from_bytes(peer[:4], sys.byteorder) == node.process(OCFS2).pid
