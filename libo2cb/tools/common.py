"""What the commands share: configuration, the daemons' facts, the mount table, and errors as sentences."""

import argparse
import errno
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from libo2cb.config import Config, find_config, load
from libo2cb.errors import NotThere, O2cbError
from libo2cb.kernel import choose
from libo2cb.kernel.tree import TreeKernel
from libo2cb.mounts import MountTable
from libo2cb.report_client import START_IT, TIMEOUT, Unanswered, ask_report, server_uids
from libo2cb.sandbox.homes import SandboxError, register_process
from libo2cb.service.report import O2cbReport, Ocfs2Report
from libo2cb.superblock import Superblock, relabel_command, relabel_offline_command
from libo2cb.tools.facts import Facts, KernelNode, KernelView, Silent
from libo2cb.tools.human import clean
from libo2cb.wording import errno_words

O2CB: Final = "o2cb_controld"
OCFS2: Final = "ocfs2_controld"
UUID_DIGITS: Final = 32
REPORT_TIMEOUT: Final = 5.0
"""Seconds for a report that a person waits for."""
SOON: Final = 1.0
"""Seconds for a report while something else is waited for."""
STACK: Final = "cman"

R = TypeVar("R", O2cbReport, Ocfs2Report)


class UsageError(Exception):
    """The command line cannot be meant."""


class Arguments(argparse.ArgumentParser):
    """A parser that raises UsageError: each command has an exit code of its own for bad usage.

    Options are typed whole: nobody is sure by "--y", and none changes its meaning when another is added.

    Args:
        command: the program's name.
    """

    def __init__(self, command: str) -> None:
        super().__init__(command, add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Bad usage.

        Raises:
            UsageError: always.
        """
        raise UsageError(message)


class Failure(Exception):
    """A command cannot do what it was asked for. Its text is the sentence that the user reads.

    Attributes:
        code: the exit code; None for the command's ordinary one.
    """

    def __init__(self, sentence: str, code: int | None = None) -> None:
        super().__init__(sentence)
        self.code = code


def say(command: str, sentence: str) -> None:
    """One line for the user, on stderr. A closed stderr is no reason to fail."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{command}: {clean(sentence)}\n")
        sys.stderr.flush()


def answer(text: str) -> None:
    """What a command was asked for, on stdout, with a line end.

    Raises:
        BrokenPipeError: its reader has gone.
        Failure: it cannot be written.
    """
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failure(f"the answer cannot be written to stdout: {errno_words(error.errno or errno.EIO)}") from error


def given(text: str, what: str) -> str:
    """An argument that names something.

    Raises:
        UsageError: it is empty, as a variable of a script that was never set.
    """
    if not text:
        raise UsageError(f"the {what} is empty")
    return text


def complain(command: str, error: Exception) -> None:
    """Say an error, each of its lines."""
    for line in str(error).splitlines():
        say(command, line)


def configuration(option: str | None, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration: --config, then $OCFS2_CONTROLD_CONFIG, then the default path.

    Raises:
        ConfigError: there is none, or it cannot be used.
        UsageError: --config is empty.
    """
    if option is not None:
        given(option, "FILE of --config")
    return load(find_config(option, environ))


def uuid(text: str) -> str:
    """A UUID as it travels: 32 upper-case hexadecimal digits; dashes are taken out.

    Raises:
        Failure: it is none.
    """
    digits = text.replace("-", "").upper()
    if len(digits) != UUID_DIGITS or set(digits) - set("0123456789ABCDEF"):
        raise Failure(f'"{text}" is no UUID: {UUID_DIGITS} hexadecimal digits are needed, as `mounted.ocfs2 -d` shows')
    return digits


def sandbox_home(config: Config) -> Path | None:
    """The home of this node, with the sandbox driver; None with every other.

    Raises:
        Failure: kernel.root is in no home.
    """
    if config.kernel.driver != "sandbox":
        return None
    home = choose.sandbox_home(config)
    if not (home / "kernel").is_dir():
        root = config.kernel.root
        raise Failure(f"kernel.root {root} belongs to no sandbox home: is the sandbox up (`o2cb_sandbox up`)?")
    return home


def enter_home(config: Config, program: str) -> Path | None:
    """The home of this node with the sandbox driver, of which this process is a part from now on; None otherwise.

    A power-off of the node ends this process too, as it would on a real machine.

    Raises:
        Failure: the node is off, or there is no such home.
    """
    home = sandbox_home(config)
    if home is not None:
        try:
            register_process(home, program)
        except SandboxError as error:
            raise Failure(str(error)) from error
        except OSError as error:
            why = errno_words(error.errno or errno.EIO)
            raise Failure(f"the sandbox home {home} cannot be entered: {why}; do it as who made it") from error
    return home


def ask_for(kind: type[R], config: Config, timeout: float = TIMEOUT) -> R | Silent:
    """A daemon's report, or why there is none."""
    of_nodes = issubclass(kind, O2cbReport)
    name = config.sockets.ordering if of_nodes else config.sockets.clients
    try:
        return ask_report(kind, name, server_uids(config), timeout)
    except Unanswered as silence:
        return Silent(silence.daemon, silence.why, _how_to_start(config, silence))


def facts(config: Config, timeout: float = TIMEOUT) -> Facts:
    """What both daemons say, and what stands without their word when one is silent."""
    # With the classic driver no mount asks us, and ocfs2_controld need not run.
    o2cb = ask_for(O2cbReport, config, timeout)
    ocfs2 = ask_for(Ocfs2Report, config, timeout) if config.kernel.driver != "classic" else None
    silent = tuple(answer for answer in (o2cb, ocfs2) if isinstance(answer, Silent))
    return Facts(
        None if isinstance(o2cb, Silent) else o2cb,
        None if isinstance(ocfs2, Silent) else ocfs2,
        silent,
        kernel_view(config) if silent else None,
    )


def group_facts(config: Config) -> Facts:
    """What ocfs2_controld alone says, for a wait that shows what it waits for: soon, or not at all."""
    report = ask_for(Ocfs2Report, config, SOON)
    return Facts(silent=(report,)) if isinstance(report, Silent) else Facts(ocfs2=report)


def kernel(config: Config) -> TreeKernel:
    """The kernel's cluster tree, as the configuration has it.

    Raises:
        Failure: the sandbox home is not there.
    """
    sandbox_home(config)
    return choose.choose_kernel(config)


def kernel_view(config: Config) -> KernelView:
    """What the kernel tree and the mount table say by themselves. Never fails: what cannot be read is told."""
    trouble: list[str] = []
    clusters: list[str] = []
    nodes: list[KernelNode] = []
    regions: list[tuple[str, tuple[str, ...]]] = []
    mounts: tuple[tuple[str, str], ...] = ()
    try:
        port = kernel(config)
        clusters = _clusters(config, port)
        for cluster in clusters:
            nodes += [KernelNode(clean(n.name), n.number, n.address, n.port, n.local) for n in port.nodes(cluster)]
            regions += [(fs, tuple(map(clean, port.links(cluster, fs)))) for fs in port.regions(cluster)]
    except (O2cbError, OSError, Failure) as refusal:
        trouble.append(str(refusal))
    try:
        mounts = tuple((clean(device), clean(point)) for device, point in mounted(config))
    except (O2cbError, OSError, Failure) as error:
        trouble.append(f"the mount table: {error}")
    return KernelView(tuple(map(clean, clusters)), tuple(nodes), tuple(regions), mounts, tuple(trouble))


def _clusters(config: Config, port: TreeKernel) -> list[str]:
    """The clusters in the kernel's tree.

    Raises:
        O2cbError: it cannot be read.
        Failure: there is no tree.
    """
    try:
        return port.clusters()
    except NotThere as refusal:
        if config.kernel.driver == "sandbox":
            raise Failure(f"there is no kernel tree: node {config.engine.node} is off") from refusal
        root = config.kernel.tree
        raise Failure(
            f"{root} has no directory cluster: mount configfs there, and modprobe ocfs2_nodemanager"
        ) from refusal


def _how_to_start(config: Config, silence: Unanswered) -> str:
    if silence.do != START_IT:
        return silence.do
    if config.kernel.driver == config.engine.kind == "sandbox":
        return f"start it: o2cb_sandbox start {config.engine.node}; meanwhile all stays as it stands"
    return f"start it: systemctl start {silence.daemon}; meanwhile mounts stay, and none begins"


def mount_table(config: Config) -> MountTable:
    """This node's mount table: the kernel's, or the sandbox's.

    Raises:
        Failure: the sandbox home is not there.
    """
    sandbox_home(config)
    return choose.choose_mounts(config)


def mounted(config: Config) -> list[tuple[str, str]]:
    """Device and mount point of each OCFS2 mount of this node.

    Raises:
        ServiceUnavailable: the table cannot be read.
        Failure: the sandbox home is not there.
    """
    return [(mount.source, mount.mount_point) for mount in mount_table(config).mounts()]


def check_stack(volume: Superblock, device: str) -> None:
    """Refuse a volume whose clients would not ask this daemon.

    "cman" is the one label with which the clients of ocfs2-tools 1.8.7 always speak MOUNT.

    Raises:
        Failure: names the line that relabels it.
    """
    if volume.stack != STACK:
        cluster = volume.cluster or "CLUSTER"
        raise Failure(
            f'{device} is labelled for the cluster stack "{volume.stack or "none"}", and only "{STACK}" is served here:'
            f" with no node using it, relabel it with `{relabel_command(device)}`"
            f" or, with the cluster down, `{relabel_offline_command(device, STACK, cluster)}`"
        )
    if not volume.cluster:
        raise Failure(
            f"{device} names no cluster: with no node using it, relabel it with"
            f" `{relabel_offline_command(device, STACK, 'CLUSTER')}`"
        )
