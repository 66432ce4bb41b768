"""IPv4 addresses of host names in a nodelist."""

import socket
from collections.abc import Callable, Iterable, Mapping
from threading import Condition, Thread
from typing import Final

RESOLVE_TIME: Final = 2.0
"""Seconds that a question may take. corosync waits five for an answer that may stand behind it."""


class Resolver:
    """Asks the system's resolver, for a bounded time, on a thread of its own: a name server may be silent for minutes.

    What was once found stays until something else is found, so that a name server's failure readdresses no node. There
    is one thread at most: while it waits for an answer, nothing more is asked.

    Args:
        enter: called first on the thread, as in Worker.
    """

    def __init__(self, enter: Callable[[], None] | None = None) -> None:
        self._found: dict[str, str] = {}
        self._enter = enter
        self._asking = False
        self._answered = Condition()

    def resolve(self, names: Iterable[str], patience: float = RESOLVE_TIME) -> Mapping[str, str]:
        """The IPv4 addresses of those names that have one. Blocks for up to that many seconds."""
        wanted = sorted(set(names))
        if wanted:
            with self._answered:
                if not self._asking:
                    self._asking = self._begin(wanted)
                self._answered.wait_for(lambda: not self._asking, patience)
        with self._answered:
            return {name: self._found[name] for name in wanted if name in self._found}

    def _begin(self, names: list[str]) -> bool:
        """Whether there is a thread that asks; without one they are asked for another time."""
        try:
            Thread(target=self._ask, args=(names,), name="corosync names", daemon=True).start()
        except RuntimeError:
            return False
        return True

    def _ask(self, names: list[str]) -> None:
        try:
            if self._enter is not None:
                self._enter()
            for name in names:
                try:
                    # As bytes: for text Python would import its codec for international names, long after ready.
                    host = name.encode("utf-8", "surrogateescape")
                    found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
                except OSError:
                    continue
                with self._answered:
                    self._found[name] = str(found[0][4][0])
        finally:
            with self._answered:
                self._asking = False
                self._answered.notify_all()
