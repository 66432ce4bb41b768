"""The services of a filesystem on this node: who uses it, by name. Pure.

Mounts are counted by the mount table. What is no mount is a holder: a tool ends with its process at the latest; a
region started by hand ends by UNMOUNT alone, and so the kernel counts it (libo2cb.semaphores), for a later run of the
daemon to know. The kernel counts and knows no names: after a restart such a holder is unnamed, and any UNMOUNT of a
name that is not known ends one of them.
"""

from collections.abc import Iterable

from ocfs2_controld.events import Tool
from ocfs2_controld.state import Service, ServiceKind
from protocol.client import MOUNT_SERVICE
from protocol.frozen import FrozenMap

TOOLS = frozenset({"fsck.ocfs2", "tunefs.ocfs2", "mkfs.ocfs2", "debugfs.ocfs2", "defragfs.ocfs2"})
UNNAMED = "somebody since before the restart"
"""The service, for people, of who has held a region since before the restart; with a number behind."""


def kind_of(service: str) -> ServiceKind:
    """What a service is, by its name: "ocfs2" or a mount point is a mount, as clients of 1.8.7 and of 2007 say it."""
    if service == MOUNT_SERVICE or service.startswith("/"):
        return ServiceKind.MOUNT
    return ServiceKind.TOOL if service in TOOLS else ServiceKind.HAND


def mounts(services: FrozenMap[str, Service]) -> list[str]:
    """The services that are mounts."""
    return [name for name, service in services.items() if service.kind is ServiceKind.MOUNT]


def holders(services: FrozenMap[str, Service]) -> FrozenMap[str, Service]:
    """The services that are no mounts, and outlast them."""
    return FrozenMap({name: x for name, x in services.items() if x.kind is not ServiceKind.MOUNT})


def hands(services: FrozenMap[str, Service]) -> int:
    """How many hold the region by hand."""
    return sum(service.kind is ServiceKind.HAND for service in services.values())


def ended(services: FrozenMap[str, Service], said: str) -> str | None:
    """The service that an UNMOUNT of a holder ends: its own or, of a region held by hand, an unnamed one."""
    if said in services:
        return said
    if kind_of(said) is not ServiceKind.HAND:
        return None
    return next((name for name, service in sorted(services.items()) if not service.named), None)


def found(tools: Iterable[Tool], count: int) -> FrozenMap[str, Service]:
    """The holders that the kernel shows at start: tools at work, and so many references."""
    known = {t.service: Service(ServiceKind.TOOL, t.pid, t.started, t.service) for t in tools}
    unnamed = Service(ServiceKind.HAND, 0, 0.0, "", named=False)
    return FrozenMap({**known, **{f"{UNNAMED} #{n}": unnamed for n in range(1, count + 1)}})
