"""The configuration of both daemons and of the tools: one TOML file, checked when it is read.

Nothing is guessed: an unknown key is an error, the engine and the kernel driver are named, and the sandbox is never
chosen because something else is missing. Each error names file, line and key.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from libo2cb.config_problems import ConfigError, Problem, problems_of, syntax_problem

__all__ = [
    "DEFAULT_PATH",
    "ENVIRONMENT",
    "Cluster",
    "Config",
    "ConfigError",
    "Engine",
    "Fencing",
    "Kernel",
    "Log",
    "Sockets",
    "Status",
    "Timeouts",
    "find_config",
    "load",
    "parse",
]

DEFAULT_PATH: Final = Path("/etc/ocfs2/controld.toml")
ENVIRONMENT: Final = "OCFS2_CONTROLD_CONFIG"
MAX_FILE_BYTES: Final = 64 * 1024
SUN_PATH_BYTES: Final = 108
"""Size of sun_path in unix(7): a path with its NUL, or an abstract name with its leading NUL."""
_MAX_CLUSTER_BYTES: Final = 16


def _socket_name(name: str) -> str:
    size = len(os.fsencode(name)) + (0 if name.startswith("@") else 1)
    if name in ("", "@"):
        raise ValueError('a socket needs a name: "@NAME" (abstract) or an absolute path')
    if "\0" in name:
        raise ValueError("a socket's name holds no NUL")
    if not name.startswith(("@", "/")):
        raise ValueError(f'"{name}" is neither "@NAME" (abstract) nor an absolute path')
    if size > SUN_PATH_BYTES:
        raise ValueError(
            f"the name takes {size} bytes, and the kernel has room for {SUN_PATH_BYTES} (sun_path in unix(7)): "
            "use a shorter directory, or an abstract name (@NAME)"
        )
    return name


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f'"{path}" is not an absolute path')
    return path


def _cluster_name(name: str) -> str:
    size = len(os.fsencode(name))
    if not 1 <= size <= _MAX_CLUSTER_BYTES:
        raise ValueError(f"a cluster's name has 1 to {_MAX_CLUSTER_BYTES} bytes, this one has {size}")
    if name in (".", "..") or set(name) & set("/\0\n"):
        raise ValueError('a cluster\'s name is a directory name in the kernel: no "/", NUL or newline, not "." or ".."')
    return name


SocketName = Annotated[str, AfterValidator(_socket_name)]
AbsolutePath = Annotated[Path, Field(strict=False), AfterValidator(_absolute)]
Port = Annotated[int, Field(ge=1, le=65534)]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Cluster(_Table):
    """Table [cluster].

    Attributes:
        name: 1 to 16 bytes. When given, an engine that serves another cluster is refused.
        port: TCP port of the kernels' cluster traffic, one per cluster.
    """

    name: Annotated[str, AfterValidator(_cluster_name)] | None = None
    port: Port = 7777


class Engine(_Table):
    """Table [engine].

    Attributes:
        kind: which cluster engine tells who is here.
        hub: the sandbox's hub (its socket). Sandbox only, and needed there.
        node: name of this node in the sandbox, as the hub knows it. Sandbox only, and needed there.
    """

    kind: Literal["corosync", "sandbox"]
    hub: SocketName | None = None
    node: Annotated[str, Field(min_length=1)] | None = None

    @field_validator("hub", "node")
    @classmethod
    def _sandbox_only(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("kind") == "corosync" and value is not None:
            raise ValueError("only the sandbox has this key; corosync says by itself who we are (remove it)")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [f"engine.{key}" for key in ("hub", "node") if getattr(self, key) is None]
        if self.kind == "sandbox" and missing:
            raise ValueError(f"the sandbox also needs {' and '.join(missing)}; `o2cb_sandbox up` writes them")
        return self


class Kernel(_Table):
    """Table [kernel].

    Attributes:
        driver: how nodes and groups are told to the kernel: "links" (user heartbeat), "classic" (disk heartbeat),
            "sandbox" (links on a directory tree).
        root: where the tree is: the mount point of configfs, or the sandbox's directory (needed there).
    """

    driver: Literal["links", "classic", "sandbox"]
    root: AbsolutePath | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.driver == "sandbox" and self.root is None:
            raise ValueError("the sandbox also needs kernel.root, the directory that stands for the kernel's tree")
        return self

    @property
    def tree(self) -> Path:
        """Where the tree is; on a real kernel /sys/kernel/config unless root says otherwise."""
        return self.root or Path("/sys/kernel/config")


class Sockets(_Table):
    """Table [sockets]. A leading "@" is an abstract name, anything else a path.

    Attributes:
        clients: where ocfs2_controld hears mount.ocfs2 and the other tools.
        ordering: where o2cb_controld hears ocfs2_controld.
        run: run directory: pid files and node locks. It outlives the daemons.
        max_per_uid: connections that one uid may hold on one socket; root's are counted apart.
    """

    clients: SocketName = "@ocfs2_controld_sock"
    ordering: SocketName = "@o2cb_controld_sock"
    run: AbsolutePath = Path("/run/ocfs2")
    max_per_uid: Annotated[int, Field(ge=1, le=100_000)] = 1000

    @field_validator("ordering")
    @classmethod
    def _distinct(cls, value: str, info: ValidationInfo) -> str:
        if value == info.data.get("clients"):
            raise ValueError("the two sockets need two names; this one is sockets.clients too")
        return value


class Fencing(_Table):
    """Table [fencing].

    Attributes:
        kind: "manual" (an operator says `ocfs2_hb_ctl --fenced NODE`), "command", or "none", which loses data as soon
            as a node that is believed dead still writes. Unless given: manual with corosync, command in the sandbox.
        command: program and arguments, run without a shell.
        timeout: seconds until a try counts as failed.
        retry: seconds from a failed try to the next.
        retry_max: the pause doubles from try to try, up to this many seconds.
    """

    kind: Literal["none", "manual", "command"] = "manual"
    command: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)] = ()
    timeout: Seconds = 60.0
    retry: Seconds = 5.0
    retry_max: Seconds = 60.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == "command" and not self.command:
            raise ValueError(
                'fencing.kind is "command", so fencing.command must name the program that switches a node off, '
                'such as ["/usr/local/sbin/fence", "--off"]'
            )
        if self.kind != "command" and self.command:
            raise ValueError(f'fencing.command would never be run with kind = "{self.kind}"; say kind = "command"')
        return self


class Log(_Table):
    """Table [log].

    Attributes:
        format: "human", one readable line an event, or "json".
        level: the least that is written. The ring behind DUMP keeps everything.
    """

    format: Literal["human", "json"] = "human"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Timeouts(_Table):
    """Table [timeouts], in seconds.

    Attributes:
        mount: how long a MOUNT may wait before it is refused.
        grace: how long a daemon may be away before its node is fenced.
        join_delay: how long a cluster that starts without knowing waits for nodes that it has not seen.
    """

    mount: Seconds = 300.0
    grace: Seconds = 30.0
    join_delay: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = 30.0


class Status(_Table):
    """Table [status].

    Attributes:
        waiting: seconds after which whatever waits says for what. Never more than 5.
        ring: bytes of log that are kept for `debugfs.ocfs2 -R "controld dump"`.
    """

    waiting: Annotated[float, Field(gt=0, le=5, allow_inf_nan=False)] = 5.0
    ring: Annotated[int, Field(ge=4096, le=2 << 20)] = 1 << 20


class Config(_Table):
    """The whole file. Frozen: a daemon reads it once, at start."""

    engine: Engine
    kernel: Kernel
    cluster: Cluster = Cluster()
    sockets: Sockets = Sockets()
    fencing: Fencing = Fencing()
    log: Log = Log()
    timeouts: Timeouts = Timeouts()
    status: Status = Status()

    @model_validator(mode="before")
    @classmethod
    def _default_fencing(cls, data: Any) -> Any:
        """In the sandbox fencing is a command unless the file says otherwise."""
        if not isinstance(data, dict):
            return data
        engine, fencing = data.get("engine"), data.get("fencing", {})
        if isinstance(engine, dict) and engine.get("kind") == "sandbox" and isinstance(fencing, dict):
            return {**data, "fencing": {"kind": "command", **fencing}}
        return data

    def with_port(self, port: int | None) -> "Config":
        """The same configuration with `--port` applied; None changes nothing."""
        if port is None:
            return self
        return self.model_copy(update={"cluster": self.cluster.model_copy(update={"port": port})})


def find_config(option: str | os.PathLike[str] | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The configuration file to read: --config, else $OCFS2_CONTROLD_CONFIG, else /etc/ocfs2/controld.toml.

    Raises:
        ConfigError: there is no such file; the text names both ways to go on.
    """
    if option is not None:
        path, source = Path(option), "named by --config"
    elif environ.get(ENVIRONMENT):
        path, source = Path(environ[ENVIRONMENT]), f"named by ${ENVIRONMENT}"
    else:
        path, source = DEFAULT_PATH, "the default; no --config was given"
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _no_file(path, source) from error
    except OSError as error:
        raise ConfigError(path, (Problem("", f"cannot be read: {error.strerror} ({source})"),)) from error
    return path


def _no_file(path: Path, source: str) -> ConfigError:
    return ConfigError(
        path,
        (
            Problem(
                "",
                f"there is no such configuration file ({source}). For a real cluster write {DEFAULT_PATH}, or name "
                "another file with --config FILE. To try it out on this machine alone, without root, say "
                "`o2cb_sandbox up DIR` and give --config the file in the home of one of its nodes",
            ),
        ),
    )


def load(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: it cannot be read, is no TOML, or says something that it may not.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(path, (Problem("", f"cannot be read: {error.strerror}"),)) from error
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(path, (Problem("", f"is larger than {MAX_FILE_BYTES} bytes: is it the right file?"),))
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(path, (Problem("", "TOML is written in UTF-8, and this is not", line),)) from error
    return parse(text, path)


def parse(text: str, path: Path = DEFAULT_PATH) -> Config:
    """Check a configuration given as text; path is named in errors.

    Raises:
        ConfigError: it is no TOML, or says something that it may not.
    """
    text = text.replace("\r\n", "\n")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, (syntax_problem(str(error), text),)) from error
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(path, problems_of(text, error, Config)) from error
