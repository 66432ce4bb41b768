"""The tree as configfs answers, row for row of what was measured on a real kernel."""

import pytest

from libo2cb.errors import AlreadyThere, BadValue, NoRoom, NotAllowed, NotEmpty, NotThere, Pinned
from libo2cb.heartbeat import create_region, node_down, node_up, remove_region
from libo2cb.kernel.port import StandingNode
from libo2cb.kernel.tree import What
from tests.kernel.conftest import CLUSTER, REGION, Lab, answer, make_node

C = CLUSTER
N1 = f"{C}/node/n1"
N2 = f"{C}/node/n2"
R = f"{C}/heartbeat/{REGION}"


def names(lab: Lab, path: str, what: What) -> set[str]:
    return {entry.name for entry in lab.fs.listdir(path) if entry.what is what}


def test_second_cluster_duplicates_and_strangers(cluster: Lab) -> None:
    fs = cluster.fs
    fs.mkdir(N1)
    assert answer(fs.mkdir, "another") == "ENOSPC"
    assert answer(fs.mkdir, C) == "EEXIST"
    assert answer(fs.mkdir, N1) == "EEXIST"
    assert answer(fs.mkdir, f"{C}/foo") == "EPERM"
    assert answer(fs.mkdir, f"{N1}/sub") == "EPERM"
    assert answer(fs.mkdir, "nope/x") == "ENOENT"
    assert answer(fs.mkdir, f"{N1}/num/x") == "ENOTDIR"


def test_rmdir_of_what_cannot_go(cluster: Lab) -> None:
    fs = cluster.fs
    fs.mkdir(N1)
    assert answer(fs.rmdir, f"{C}/node") == "EPERM"
    assert answer(fs.rmdir, f"{C}/heartbeat") == "EPERM"
    assert answer(fs.rmdir, C) == "ENOTEMPTY"
    assert answer(fs.rmdir, f"{C}/node/nobody") == "ENOENT"
    assert answer(fs.rmdir, f"{N1}/num") == "ENOTDIR"
    fs.rmdir(N1)
    fs.mkdir(R)
    assert answer(fs.rmdir, C) == "ENOTEMPTY"
    fs.rmdir(R)
    assert answer(fs.rmdir, C) == "ok"
    assert answer(fs.rmdir, C) == "ENOENT"
    fs.mkdir(C)


def test_cluster_defaults(cluster: Lab) -> None:
    fs = cluster.fs
    assert names(cluster, C, What.DIRECTORY) == {"node", "heartbeat"}
    assert {a: fs.read(f"{C}/{a}") for a in ("idle_timeout_ms", "keepalive_delay_ms", "reconnect_delay_ms")} == {
        "idle_timeout_ms": b"30000\n",
        "keepalive_delay_ms": b"2000\n",
        "reconnect_delay_ms": b"2000\n",
    }
    assert fs.read(f"{C}/fence_method") == b"reset\n"
    assert fs.read(f"{C}/heartbeat/dead_threshold") == b"31\n"
    assert fs.read(f"{C}/heartbeat/mode") == b"local\n"


def test_node_defaults(cluster: Lab) -> None:
    cluster.fs.mkdir(N1)
    assert names(cluster, N1, What.ATTRIBUTE) == {"num", "ipv4_address", "ipv4_port", "local"}
    assert cluster.fs.read(f"{N1}/num") == b"0\n"
    assert cluster.fs.read(f"{N1}/ipv4_address") == b"0.0.0.0\n"
    assert cluster.fs.read(f"{N1}/ipv4_port") == b"0\n"
    assert cluster.fs.read(f"{N1}/local") == b"0\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("y" * 64, "ok"),
        ("y" * 65, "ENAMETOOLONG"),
        ("y" * 256, "ENAMETOOLONG"),
        ("ü" * 32, "ok"),
        ("ü" * 33, "ENAMETOOLONG"),
        ("a b", "ok"),
        ("a\nb", "ok"),
        (".hidden", "ok"),
        ("\udcff", "ok"),
    ],
)
def test_node_names(cluster: Lab, name: str, said: str) -> None:
    assert answer(cluster.fs.mkdir, f"{C}/node/{name}") == said
    assert names(cluster, f"{C}/node", What.DIRECTORY) == ({name} if said == "ok" else set())


def test_cluster_names(lab: Lab) -> None:
    assert answer(lab.fs.mkdir, "c" * 256) == "ENAMETOOLONG"
    assert answer(lab.fs.mkdir, "c" * 255) == "ok"
    lab.fs.rmdir("c" * 255)


def test_region_names_and_attributes(cluster: Lab) -> None:
    fs = cluster.fs
    assert answer(fs.mkdir, f"{C}/heartbeat/{'B' * 33}") == "ENAMETOOLONG"
    assert answer(fs.mkdir, R) == "ok"
    assert answer(fs.mkdir, R) == "EEXIST"
    assert names(cluster, R, What.ATTRIBUTE) >= {"block_bytes", "start_block", "blocks", "dev", "pid"}
    assert answer(fs.write, f"{R}/pid", b"1") == "EACCES"


@pytest.mark.parametrize("value", [b"x", b"1x", b"254 ", b"-1", b" 1", b"0x", b"08"])
def test_num_that_is_none(cluster: Lab, value: bytes) -> None:
    cluster.fs.mkdir(N1)
    cluster.fs.write(f"{N1}/ipv4_port", b"7777")
    cluster.fs.write(f"{N1}/ipv4_address", b"127.0.0.1")
    assert answer(cluster.fs.write, f"{N1}/num", value) == "EINVAL"
    assert cluster.fs.read(f"{N1}/num") == b"0\n"


@pytest.mark.parametrize("written", [("ipv4_port",), ("ipv4_address",), ()])
def test_num_before_address_and_port(cluster: Lab, written: tuple[str, ...]) -> None:
    cluster.fs.mkdir(N1)
    for attribute in written:
        cluster.fs.write(f"{N1}/{attribute}", {"ipv4_port": b"7777", "ipv4_address": b"127.0.0.1"}[attribute])
    assert answer(cluster.fs.write, f"{N1}/num", b"1") == "EINVAL"
    assert answer(cluster.fs.write, f"{N1}/num", b"255") == "ERANGE"
    assert answer(cluster.fs.write, f"{N1}/local", b"1") == "EINVAL"


@pytest.mark.parametrize(("value", "said"), [(b"255", "ERANGE"), (b"256", "ERANGE"), (b"254\n", "ok"), (b"0x10", "ok")])
def test_num_range(cluster: Lab, value: bytes, said: str) -> None:
    cluster.fs.mkdir(N1)
    cluster.fs.write(f"{N1}/ipv4_port", b"7777")
    cluster.fs.write(f"{N1}/ipv4_address", b"127.0.0.1")
    assert answer(cluster.fs.write, f"{N1}/num", value) == said
    assert cluster.fs.read(f"{N1}/num") == (b"%d\n" % int(value, 0) if said == "ok" else b"0\n")


def test_num_is_set_once_and_is_nobody_elses(cluster: Lab) -> None:
    fs = cluster.fs
    make_node(fs, "n1", 1, "127.0.0.1")
    assert answer(fs.write, f"{N1}/num", b"1") == "EEXIST"
    assert answer(fs.write, f"{N1}/num", b"2") == "EBUSY"
    fs.mkdir(N2)
    fs.write(f"{N2}/ipv4_port", b"7777")
    fs.write(f"{N2}/ipv4_address", b"127.0.0.2")
    assert answer(fs.write, f"{N2}/num", b"1") == "EEXIST"
    assert answer(fs.write, f"{N2}/num", b"2") == "ok"


def test_num_zero_counts_as_set_though_it_reads_as_before(cluster: Lab) -> None:
    fs = cluster.fs
    make_node(fs, "n1", 0, "127.0.0.1")
    assert fs.read(f"{N1}/num") == b"0\n"
    assert answer(fs.write, f"{N1}/num", b"5") == "EBUSY"
    assert [node.complete for node in cluster.kernel.nodes(C)] == [False]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"0", "EINVAL"),
        (b"-1", "EINVAL"),
        (b"x", "EINVAL"),
        (b"65536", "ERANGE"),
        (b"65535", "ERANGE"),
        (b"65534\n", "ok"),
    ],
)
def test_port(cluster: Lab, value: bytes, said: str) -> None:
    cluster.fs.mkdir(N1)
    assert answer(cluster.fs.write, f"{N1}/ipv4_port", value) == said
    assert answer(cluster.fs.write, f"{N1}/ipv4_port", b"7777") == ("EBUSY" if said == "ok" else "ok")


@pytest.mark.parametrize(
    ("value", "said", "reads"),
    [
        (b"x", "EINVAL", b"0.0.0.0\n"),
        (b"1.2.3", "EINVAL", b"0.0.0.0\n"),
        (b"::1", "EINVAL", b"0.0.0.0\n"),
        (b"host", "EINVAL", b"0.0.0.0\n"),
        (b"1.2.3.256", "ERANGE", b"0.0.0.0\n"),
        (b"300.1.1.1", "ERANGE", b"0.0.0.0\n"),
        (b"1.2.3.4.5", "ok", b"1.2.3.4\n"),
        (b"127.0.0.1\n", "ok", b"127.0.0.1\n"),
    ],
)
def test_address(cluster: Lab, value: bytes, said: str, reads: bytes) -> None:
    cluster.fs.mkdir(N1)
    assert answer(cluster.fs.write, f"{N1}/ipv4_address", value) == said
    assert cluster.fs.read(f"{N1}/ipv4_address") == reads
    assert answer(cluster.fs.write, f"{N1}/ipv4_address", b"127.0.0.9") == ("EBUSY" if said == "ok" else "ok")


def test_address_is_one_nodes_alone_until_it_goes(cluster: Lab) -> None:
    fs = cluster.fs
    make_node(fs, "n1", 1, "127.0.0.1")
    assert answer(fs.write, f"{N1}/ipv4_address", b"127.0.0.1") == "EEXIST", "its own as well"
    fs.mkdir(N2)
    assert answer(fs.write, f"{N2}/ipv4_address", b"127.0.0.1") == "EEXIST"
    assert answer(fs.rmdir, N1) == "ok"
    assert answer(fs.write, f"{N2}/ipv4_address", b"127.0.0.1") == "ok"


@pytest.mark.parametrize("attribute", ["num", "ipv4_address", "ipv4_port", "local"])
def test_empty_write_to_a_node(cluster: Lab, attribute: str) -> None:
    cluster.fs.mkdir(N1)
    assert answer(cluster.fs.write, f"{N1}/{attribute}", b"") == "EFAULT"


def test_fence_method(cluster: Lab) -> None:
    fs, path = cluster.fs, f"{C}/fence_method"
    assert answer(fs.write, path, b"") == "EFAULT"
    assert answer(fs.write, path, b"panic") == "EINVAL"
    assert answer(fs.write, path, b"bogus\n") == "EINVAL"
    assert answer(fs.write, path, b"panic\n") == "ok"
    assert fs.read(path) == b"panic\n"
    assert answer(fs.write, path, b"reset\n") == "ok"


def test_timeouts(cluster: Lab) -> None:
    fs = cluster.fs
    assert answer(fs.write, f"{C}/idle_timeout_ms", b"2000") == "EINVAL"
    assert answer(fs.write, f"{C}/keepalive_delay_ms", b"30000") == "EINVAL"
    assert answer(fs.write, f"{C}/reconnect_delay_ms", b"0") == "EINVAL"
    assert answer(fs.write, f"{C}/reconnect_delay_ms", b"99999999999") == "ERANGE"
    assert answer(fs.write, f"{C}/idle_timeout_ms", b"60000\n") == "ok"
    assert fs.read(f"{C}/idle_timeout_ms") == b"60000\n"
    assert answer(fs.write, f"{C}/nope", b"1") == "ENOENT"
    assert answer(fs.write, f"{C}/node", b"1") == "EISDIR"


def test_local_is_one_node_with_an_address_of_this_host(cluster: Lab) -> None:
    fs = cluster.fs
    make_node(fs, "n1", 1, "127.0.0.1")
    make_node(fs, "n2", 2, "127.0.0.2")
    make_node(fs, "far", 3, "192.0.2.77")
    assert answer(fs.write, f"{C}/node/far/local", b"1") == "EADDRNOTAVAIL"
    assert answer(fs.write, f"{N1}/local", b"x") == "EINVAL"
    assert answer(fs.write, f"{N1}/local", b"0") == "ok"
    assert answer(fs.write, f"{N1}/local", b"2") == "ok"
    assert fs.read(f"{N1}/local") == b"1\n"
    assert answer(fs.write, f"{N1}/local", b"1") == "ok"
    assert answer(fs.write, f"{N2}/local", b"0") == "ok"
    assert answer(fs.write, f"{N2}/local", b"1") == "EBUSY"
    assert answer(fs.rmdir, N1) == "ok"
    assert answer(fs.write, f"{N2}/local", b"1") == "ok"
    assert answer(fs.write, f"{N2}/local", b"0") == "ok"


def test_rmdir_of_a_complete_node(cluster: Lab) -> None:
    make_node(cluster.fs, "n1", 1, "127.0.0.1")
    assert answer(cluster.fs.rmdir, N1) == "ok"
    assert cluster.kernel.nodes(C) == []


def test_links_are_made_in_regions_only(cluster: Lab) -> None:
    fs = cluster.fs
    make_node(fs, "n1", 1, "127.0.0.1")
    assert answer(fs.symlink, N1, f"{C}/n1") == "EPERM"
    assert answer(fs.symlink, N1, f"{C}/heartbeat/n1") == "EPERM"
    assert answer(fs.symlink, N1, f"{N1}/self") == "EPERM"
    assert answer(fs.symlink, N1, f"{C}/heartbeat/nowhere/n1") == "ENOENT"


def test_stock_regions_refuse_links(cluster: Lab) -> None:
    if cluster.links:
        pytest.skip("the regions of this kernel allow links")
    make_node(cluster.fs, "n1", 1, "127.0.0.1")
    cluster.fs.mkdir(R)
    with pytest.raises(NotAllowed) as refusal:
        node_up(cluster.kernel, C, REGION, "n1")
    assert refusal.value.call == "symlink"


def test_the_pin_rule(linking: Lab) -> None:
    fs = linking.fs
    second = f"{C}/heartbeat/{'A' * 32}"
    fs.mkdir(second)
    fs.symlink(N1, f"{R}/n1")
    fs.symlink(N1, f"{second}/n1")
    assert answer(fs.rmdir, N1) == "EBUSY"
    assert answer(fs.rmdir, R) == "ENOTEMPTY"
    assert answer(fs.rmdir, f"{R}/n1") == "ENOTDIR"
    assert answer(fs.symlink, N1, f"{R}/n1") == "EEXIST"
    assert answer(fs.symlink, N2, f"{R}/n1") == "EEXIST"
    assert answer(fs.write, f"{N1}/local", b"1") == "ok", "a link freezes no attribute"
    fs.unlink(f"{R}/n1")
    assert answer(fs.rmdir, N1) == "EBUSY", "one more region links it"
    fs.unlink(f"{second}/n1")
    assert answer(fs.rmdir, N1) == "ok"


def test_through_a_link_one_reaches_the_node(linking: Lab) -> None:
    fs = linking.fs
    fs.symlink(N1, f"{R}/n1")
    assert fs.read(f"{R}/n1/num") == b"1\n"
    assert answer(fs.write, f"{R}/n1/num", b"3") == "EBUSY"
    assert answer(fs.mkdir, f"{R}/n1/sub") == "EPERM"
    assert answer(fs.rmdir, f"{R}/n1/num") == "ENOTDIR"


def test_links_to_what_is_no_node(linking: Lab) -> None:
    fs = linking.fs
    assert answer(fs.symlink, f"{C}/node/nobody", f"{R}/nobody") == "ENOENT"
    assert answer(fs.symlink, f"{N1}/num", f"{R}/num") == "ENOTDIR"
    assert answer(fs.symlink, R, f"{R}/self") == "EINVAL"
    assert answer(fs.symlink, f"{C}/node", f"{R}/group") == "EINVAL"
    assert answer(fs.symlink, "/etc", f"{R}/etc") == "EPERM"
    assert answer(fs.symlink, N1, f"{R}/pid") == "EEXIST"


def test_unlink(linking: Lab) -> None:
    fs = linking.fs
    fs.symlink(N1, f"{R}/n1")
    assert fs.readlink(f"{R}/n1") == N1
    assert answer(fs.unlink, f"{R}/n2") == "ENOENT"
    assert answer(fs.unlink, f"{R}/pid") == "EPERM"
    assert answer(fs.unlink, N1) == "EISDIR"
    assert answer(fs.unlink, f"{R}/n1") == "ok"
    assert answer(fs.unlink, f"{R}/n1") == "ENOENT"


def test_the_port_tells_what_stands(linking: Lab) -> None:
    kernel = linking.kernel
    kernel.make_node(C, "half")
    create_region(kernel, C, "B" * 32)
    for region, name in ((REGION, "n2"), (REGION, "n1"), ("B" * 32, "n2")):
        node_up(kernel, C, region, name)
    assert kernel.clusters() == [C]
    assert kernel.regions(C) == [REGION, "B" * 32]
    assert kernel.links(C, REGION) == ["n1", "n2"]
    assert kernel.linked(C, "n2") == [REGION, "B" * 32]
    assert kernel.linked(C, "n1") == [REGION]
    assert kernel.linked(C, "half") == []
    assert kernel.nodes(C) == [
        StandingNode("half", 0, "0.0.0.0", 0, local=False),  # noqa: S104 (the kernel's "not set")
        StandingNode("n1", 1, "127.0.0.1", 7777, local=False),
        StandingNode("n2", 2, "127.0.0.2", 7777, local=False),
    ]


def test_a_link_with_another_name_pins_its_target(linking: Lab) -> None:
    linking.fs.symlink(N1, f"{R}/n2")
    assert linking.kernel.linked(C, "n1") == [REGION]
    assert linking.kernel.linked(C, "n2") == []


def test_refusals_have_call_path_and_errno(linking: Lab) -> None:
    kernel = linking.kernel
    node_up(kernel, C, REGION, "n1")
    with pytest.raises(Pinned) as pinned:
        kernel.remove_node(C, "n1")
    assert (pinned.value.call, pinned.value.subject, pinned.value.name) == ("rmdir", N1, "O2CB_ET_REGION_IN_USE")
    with pytest.raises(NotEmpty) as full:
        remove_region(kernel, C, REGION)
    assert full.value.name == "O2CB_ET_REGION_IN_USE"
    with pytest.raises(AlreadyThere) as twice:
        node_up(kernel, C, REGION, "n1")
    assert twice.value.name == "O2CB_ET_NODE_EXISTS"
    with pytest.raises(NoRoom):
        kernel.create_cluster("another")
    with pytest.raises(BadValue):
        kernel.set_node(C, "n1", "num", "x")
    node_down(kernel, C, REGION, "n1")
    with pytest.raises(NotThere):
        node_down(kernel, C, REGION, "n1")
    remove_region(kernel, C, REGION)
    with pytest.raises(NotThere) as gone:
        remove_region(kernel, C, REGION)
    assert gone.value.name == "O2CB_ET_SERVICE_UNAVAILABLE"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b"])
def test_names_that_leave_the_tree_are_refused_before_any_call(cluster: Lab, name: str) -> None:
    with pytest.raises(BadValue):
        cluster.kernel.make_node(C, name)
    with pytest.raises(BadValue):
        cluster.kernel.remove_node(C, name)
    with pytest.raises(BadValue):
        cluster.kernel.linked(C, name)


def test_this_boot_has_a_name(lab: Lab) -> None:
    assert len(lab.kernel.boot_id()) == 36
    assert lab.kernel.boot_id() == lab.kernel.boot_id()


def test_power_off_is_refused_where_nobody_allowed_it(lab: Lab) -> None:
    with pytest.raises(NotAllowed):
        lab.kernel.power_off("a test asks for it")
