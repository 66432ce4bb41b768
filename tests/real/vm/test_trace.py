"""The audit of strace's word: it reads what strace writes, and finds each way to break the rule."""

import pytest

from tests.real.vm.trace import Call, audit, read

N2 = "/sys/kernel/config/cluster/demo/node/n2"
TREE = "/sys/kernel/config/cluster"
LINK = "/sys/kernel/config/cluster/demo/heartbeat/F/n2"


def trace(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


MADE = f'10 100.000000000 symlink("{N2}", "{LINK}") = 0 <0.001000>'
GONE = f'10 101.000000000 unlink("{LINK}") = 0 <0.001000>'
REMOVED = f'11 102.000000000 rmdir("{N2}") = 0 <0.001000>'


def test_the_right_order_is_no_breach() -> None:
    found = audit(read(trace(MADE, GONE, REMOVED)))
    assert (found.breaches, found.links, found.removals, found.refused) == ((), 1, 1, 0)


@pytest.mark.parametrize(
    "line",
    [
        f'11 100.500000000 rmdir("{N2}") = -1 EBUSY (Device or resource busy) <0.000100>',
        f'11 100.500000000 rmdir("{N2}") = 0 <0.000100>',
        f'11 100.500000000 unlinkat(AT_FDCWD</>, "{N2}", AT_REMOVEDIR) = -1 EBUSY (Device or resource busy) <0.0001>',
        '11 100.500000000 unlinkat(7</sys/kernel/config/cluster/demo/node>, "n2", AT_REMOVEDIR) = 0 <0.000100>',
        f'11 101.000500000 rmdir("{N2}") = 0 <0.000100>',
        f'11 99.999500000 rmdir("{N2}") = 0 <0.001000>',
        f'11 100.500000000 write(5<{N2}/ipv4_address>, "10.0.0.9", 8) = -1 EBUSY (Device or resource busy) <0.0001>',
        f'11 100.500000000 rename("{N2}", "{N2}x") = 0 <0.000100>',
    ],
)
def test_what_is_done_to_a_node_under_a_link_is_a_breach(line: str) -> None:
    assert len(audit(read(trace(MADE, line, GONE))).breaches) == 1


def test_calls_that_were_interrupted_in_the_trace_are_put_together() -> None:
    begun = f'10 101.000000000 unlink("{LINK}" <unfinished ...>'
    early = f'11 101.500000000 rmdir("{N2}") = -1 EBUSY (Device or resource busy) <0.000100>'
    ended = "10 102.000000000 <... unlink resumed>) = 0 <1.000000>"
    assert len(audit(read(trace(MADE, begun, early, ended))).breaches) == 1
    assert not audit(read(trace(MADE, begun, ended, REMOVED.replace("102.", "103.")))).breaches


def test_a_call_that_never_returned_counts_in_the_worse_way() -> None:
    killed = f'10 100.000000000 symlink("{N2}", "{LINK}" <unfinished ...>'
    assert len(audit(read(trace(killed, REMOVED))).breaches) == 1
    unfinished = f'10 101.000000000 unlink("{LINK}") = ?'
    assert len(audit(read(trace(MADE, unfinished, REMOVED))).breaches) == 1


def test_a_refused_link_never_stood() -> None:
    refused = f'10 100.000000000 symlink("{N2}", "{LINK}") = -1 EPERM (Operation not permitted) <0.001000>'
    found = audit(read(trace(refused, REMOVED)))
    assert (found.breaches, found.links) == ((), 0)


def test_names_and_values_are_read_as_they_were() -> None:
    name = '10 1.000000000 mkdir("/sys/kernel/config/cluster/c/node/a \\"b\\303\\274\\n", 0755) = 0 <0.000010>'
    value = '10 2.000000000 write(5</sys/kernel/config/cluster/c/node/n1/num>, "1", 1) = 1 <0.000010>'
    injected = (
        '10 3.000000000 unlink("/sys/kernel/config/cluster/c/heartbeat/F/n1") = -1 EBUSY (...) (INJECTED) <0.00001>'
    )
    assert read(trace(name, value, injected)) == [
        Call(10, "mkdir", 'c/node/a "bü\n', "", "", 1.0, 1.00001),
        Call(10, "write", "c/node/n1/num", "1", "", 2.0, 2.00001),
        Call(10, "unlink", "c/heartbeat/F/n1", "", "EBUSY", 3.0, 3.00001),
    ]


def test_what_is_elsewhere_or_no_call_is_left_out() -> None:
    other = '10 1.000000000 rmdir("/tmp/x") = 0 <0.000010>'
    assert read(trace(other, "10 1.000000000 +++ killed by SIGKILL +++", "strace: Process 10 attached")) == []
