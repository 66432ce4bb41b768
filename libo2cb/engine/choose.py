"""The cluster engine that the configuration names. Its code is imported here, before a daemon is ready, or never."""

from libo2cb.config import Config
from libo2cb.engine.port import ChannelPort, MembershipPort


def membership(config: Config, listener: str) -> MembershipPort:
    """The membership port of this node, not started.

    Args:
        config: the daemon's configuration.
        listener: name of the daemon.

    Raises:
        LibraryMissing: the engine's client libraries are not installed.
    """
    if config.engine.kind == "sandbox":
        from libo2cb.engine.sandbox import SandboxMembership  # noqa: PLC0415 (the other engine may not be installed)

        return SandboxMembership(config.engine.hub or "", config.engine.node or "", listener)
    from libo2cb.engine.corosync.membership import CorosyncMembership  # noqa: PLC0415 (as above)

    return CorosyncMembership(listener)


def channel(config: Config, listener: str) -> ChannelPort:
    """The channel of the daemons of this name, not started. Arguments and errors as for membership()."""
    if config.engine.kind == "sandbox":
        from libo2cb.engine.sandbox import SandboxChannel  # noqa: PLC0415 (as above)

        return SandboxChannel(config.engine.hub or "", config.engine.node or "", listener)
    from libo2cb.engine.corosync.channel import CorosyncChannel  # noqa: PLC0415 (as above)

    return CorosyncChannel(listener)
