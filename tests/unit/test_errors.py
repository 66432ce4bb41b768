"""The o2cb error table, the sentences, the kernel's refusals, and which nodes are refused."""

import errno
import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libo2cb import errors
from libo2cb.errors import (
    BASE,
    KernelRefusal,
    Kind,
    NodeExists,
    O2cbError,
    Pinned,
    RegionInUse,
    describe_code,
    from_code,
)

TABLE = [
    ("INVALID_CLUSTER_NAME", "Cluster name is invalid"),
    ("NO_MEMORY", "Memory allocation failed"),
    ("IO", "I/O error on channel"),
    ("SERVICE_UNAVAILABLE", "Unable to access cluster service"),
    ("INTERNAL_FAILURE", "Internal logic failure"),
    ("PERMISSION_DENIED", "Insufficient permissions to access cluster service"),
    ("CLUSTER_EXISTS", "Cluster already exists"),
    ("NODE_EXISTS", "Node already exists"),
    ("REGION_EXISTS", "Heartbeat region already exists"),
    ("REGION_IN_USE", "Heartbeat region in use"),
    ("INVALID_BLOCK_SIZE", "Block size is invalid"),
    ("INVALID_BLOCK_COUNT", "Block count is invalid"),
    ("HOSTNAME_UNKNOWN", "Could not determine local host name"),
    ("CONFIGURATION_ERROR", "Configuration error discovered"),
    ("INVALID_NODE_NUM", "Node number is invalid"),
    ("MODULE_NOT_LOADED", "Node manager kernel module is not loaded"),
    ("BAD_SEM", "Could not access heartbeat region semaphore set"),
    ("NO_SEM", "Region semaphore set destroyed"),
    ("BAD_VERSION", "Revision of OCFS2-Tools is out of date."),
    ("INVALID_STACK_NAME", "Cluster stack is invalid"),
    ("UNKNOWN_REGION", "Heartbeat region could not be found"),
    ("INVALID_HEARTBEAT_MODE", "Heartbeat mode is invalid"),
]


@pytest.mark.parametrize(("number", "entry"), list(enumerate(TABLE)))
def test_the_table_is_com_errs(number: int, entry: tuple[str, str]) -> None:
    cls = from_code(-1485349888 + number)
    assert (cls.code, cls.name, cls.text) == (-1485349888 + number, f"O2CB_ET_{entry[0]}", entry[1])
    python_name = "".join(w.title() for w in entry[0].split("_"))
    assert getattr(errors, {"Io": "IoError"}.get(python_name, python_name)) is cls


@pytest.mark.parametrize("code", [BASE - 1, BASE + 22, 0, 16])
def test_a_code_outside_the_table_is_refused(code: int) -> None:
    with pytest.raises(ValueError, match="no code of the o2cb error table"):
        from_code(code)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "success"),
        (16, "EBUSY (Device or resource busy)"),
        (-1485330940, "o2dlm error 4"),
        (BASE + 9, "Heartbeat region in use"),
        (-16, "error -16"),
        (2**31 - 1, "error 2147483647"),
    ],
)
def test_the_number_of_an_mresult_has_words(code: int, words: str) -> None:
    assert describe_code(code) == words


def test_a_chain_becomes_one_sentence() -> None:
    wait = O2cbError("fencing of db3", says="is not done", why="waiting 4.2 s for fencing", do="switch db3 off")
    link = RegionInUse("filesystem A1B2", says="still links it", cause=wait)
    with pytest.raises(O2cbError) as raised:
        raise NodeExists("node db3", says="cannot be removed yet") from link
    assert raised.value.sentence() == (
        "node db3 cannot be removed yet: filesystem A1B2 still links it; fencing of db3 is not done; "
        "waiting 4.2 s for fencing; switch db3 off"
    )
    assert str(raised.value) == raised.value.sentence()


@pytest.mark.parametrize(("path", "names"), [("/dev/x", ""), ("/dev/y", "/dev/y: ")])
def test_an_os_error_in_the_chain_names_errno_and_a_path_that_was_not_named_yet(path: str, names: str) -> None:
    cause = OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    error = O2cbError("volume /dev/x", says="cannot be read", cause=cause)
    assert str(error) == f"volume /dev/x cannot be read: {names}ENOENT (No such file or directory)"


def test_a_circle_of_causes_ends() -> None:
    one, two = O2cbError("one"), O2cbError("two")
    one.__cause__, two.__cause__ = two, one
    assert str(one) == "one: internal logic failure: two: internal logic failure"


@given(st.text(), st.text(), st.text(), st.text())
def test_a_sentence_is_one_line_whatever_the_names(subject: str, says: str, why: str, do: str) -> None:
    sentence = O2cbError(subject, says=says, why=why, do=do, cause=ValueError(why)).sentence()
    assert len(sentence.splitlines()) <= 1
    assert sentence.isprintable()


@pytest.mark.parametrize(
    ("number", "kind", "named", "stands_for"),
    [
        (errno.EBUSY, Kind.NODE, Pinned, RegionInUse),
        (errno.EBUSY, Kind.REGION, Pinned, RegionInUse),
        (errno.ENOTEMPTY, Kind.REGION, errors.NotEmpty, RegionInUse),
        (errno.ENOTEMPTY, Kind.CLUSTER, errors.NotEmpty, errors.InternalFailure),
        (errno.EEXIST, Kind.CLUSTER, errors.AlreadyThere, errors.ClusterExists),
        (errno.EEXIST, Kind.NODE, errors.AlreadyThere, NodeExists),
        (errno.EEXIST, Kind.LINK, errors.AlreadyThere, NodeExists),
        (errno.EEXIST, Kind.REGION, errors.AlreadyThere, errors.RegionExists),
        (errno.EACCES, Kind.NODE, errors.NotAllowed, errors.PermissionDenied),
        (errno.EPERM, Kind.LINK, errors.NotAllowed, errors.PermissionDenied),
        (errno.EROFS, Kind.NODE, errors.NotAllowed, errors.PermissionDenied),
        (errno.ENOMEM, Kind.NODE, KernelRefusal, errors.NoMemory),
        (errno.ENOTDIR, Kind.NODE, KernelRefusal, errors.ServiceUnavailable),
        (errno.ENOENT, Kind.REGION, errors.NotThere, errors.ServiceUnavailable),
        (errno.EISDIR, Kind.ATTRIBUTE, KernelRefusal, errors.ServiceUnavailable),
        (errno.EISDIR, Kind.NODE, KernelRefusal, errors.InternalFailure),
        (errno.EIO, Kind.ATTRIBUTE, KernelRefusal, errors.IoError),
        (errno.ENOSPC, Kind.CLUSTER, errors.NoRoom, errors.InternalFailure),
        (errno.ENAMETOOLONG, Kind.NODE, errors.NameTooLong, errors.InternalFailure),
        (errno.ERANGE, Kind.ATTRIBUTE, errors.BadValue, errors.InternalFailure),
    ],
)
def test_an_errno_is_an_answer(
    number: int, kind: Kind, named: type[KernelRefusal], stands_for: type[O2cbError]
) -> None:
    refusal = KernelRefusal("rmdir", "cluster/c/node/n3", number, kind=kind)
    assert type(refusal) is named
    assert refusal.errno == number
    assert refusal.stands_for is stands_for
    assert (refusal.code, refusal.name, refusal.text) == (stands_for.code, stands_for.name, stands_for.text)
    assert str(refusal) == f"rmdir cluster/c/node/n3: {errno.errorcode[number]} ({os.strerror(number)})"


def test_a_named_refusal_takes_only_its_errno() -> None:
    with pytest.raises(ValueError, match="Pinned is not the name of ENOENT"):
        Pinned("rmdir", "x", errno.ENOENT)


def test_refusals_do_not_spoil_their_classes() -> None:
    KernelRefusal("rmdir", "x", errno.EBUSY)
    assert KernelRefusal.code == BASE + 4
    assert Pinned.code == BASE + 4


def test_a_refusal_survives_pickling() -> None:
    refusal = KernelRefusal("rmdir", "x", errno.EBUSY, kind=Kind.NODE, why="A1B2 links it")
    copy = pickle.loads(pickle.dumps(refusal))  # noqa: S301 (our own bytes)
    assert (type(copy), str(copy), copy.kind) == (Pinned, str(refusal), Kind.NODE)


def test_a_refusal_of_an_os_error() -> None:
    assert type(KernelRefusal.from_os("rmdir", "x", OSError(errno.EBUSY, "busy"))) is Pinned
    assert KernelRefusal.from_os("rmdir", "x", OSError("odd")).errno == errno.EIO
