"""What an operator should know of a cluster before something happens: sentences for the log and for status. Pure."""

from typing import Final

TWO: Final = 2

NOT_ALONE: Final = "fencing is manual: the cluster will not recover alone from the loss of a node"
"""Said to every mount as well."""
UNSAFE: Final = "fencing is none: a lost node that still writes destroys data"
"""Said to every mount as well."""

_OPERATOR: Final = "its filesystems stay stopped until an operator has switched it off and said `ocfs2_hb_ctl --fenced`"
_CUT: Final = "when the network between the two nodes is cut, two_node gives each of them quorum alone"


def about_fencing(kind: str) -> str:
    """What fencing of this kind (fencing.kind) means for everybody who mounts; empty when nothing has to be said."""
    return {"manual": NOT_ALONE, "none": UNSAFE}.get(kind, "")


def advice(nodes: int, kind: str, *, two_node: bool) -> tuple[str, ...]:
    """What can happen to such a cluster.

    Two nodes without two_node need both for quorum. With it each is a quorum alone after both have seen each other once
    (wait_for_all, which two_node implies), so after a cut nothing but a fence decides who goes on:

        A and B have F mounted, and the cable between them goes. A and B each have quorum, each take the other for lost.
        By a command one of them is off first. By hand both wait, and both write on meanwhile, until an operator has
        switched one off. Without fencing both go on for good, each with its own view of F.

    Args:
        nodes: how many are configured.
        kind: fencing.kind; "" where fencing is not ours.
        two_node: whether the engine grants quorum to either of two nodes alone.
    """
    said: list[str] = []
    if kind == "manual":
        said.append(f"{NOT_ALONE}: {_OPERATOR}")
    elif kind == "none":
        said.append(f"{UNSAFE}: set fencing.command, or fencing.kind to manual")
    if nodes != TWO or not kind:
        return tuple(said)
    if not two_node:
        said.append(
            "two nodes without two_node: when one is lost the other has no quorum, and stops all filesystems until it"
            " is back"
        )
    elif kind == "manual":
        said.append(f"{_CUT}: both stop their filesystems, both write on, and both wait for an operator")
    elif kind == "none":
        said.append(f"{_CUT}: both go on with the same filesystems, and data is lost: set fencing.command")
    return tuple(said)
