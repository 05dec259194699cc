"""Connections to a page: whoever opens many, or says nothing on them, keeps nobody else out.

Every user of a machine may connect to its loopback. Who sends no request, or one byte by byte, or
takes no answer, is cut after a while, and earlier where many wait: the oldest gives way. How long a
request may be is bounded by h11; httptools, which uvicorn prefers, bounds nothing.
"""

import asyncio
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

_MOST_LOOKS = 4


class Patience:
    """The connections of one server.

    Args:
        most: number of connections beyond which the oldest gives way.
        idle_s: seconds after which one without a request under way is cut, and one with it after
            four times as many.
    """

    def __init__(self, *, most: int, idle_s: float) -> None:
        self._most, self._idle_s = most, idle_s
        self._looks: dict[Connection, int] = {}  # the oldest first

    def begin(self, one: "Connection") -> None:
        """Take in a connection."""
        self._looks[one] = 0
        if len(self._looks) > self._most:
            waiting = (it for it in self._looks if not it.is_answered)
            self._cut(next(waiting, next(iter(self._looks))))
        asyncio.get_running_loop().call_later(self._idle_s, self._look, one)

    def end(self, one: "Connection") -> None:
        """Forget a connection."""
        self._looks.pop(one, None)

    def _look(self, one: "Connection") -> None:
        if one not in self._looks:
            return
        self._looks[one] += 1
        if one.is_answered and self._looks[one] < _MOST_LOOKS:
            asyncio.get_running_loop().call_later(self._idle_s, self._look, one)
        else:
            self._cut(one)

    def _cut(self, one: "Connection") -> None:
        self.end(one)
        one.transport.abort()


class Connection(H11Protocol):
    """A connection, of one server: a class of its own has ``patience``."""

    patience: ClassVar[Patience]

    @property
    def is_answered(self) -> bool:
        """Whether a request came whole and its answer is under way."""
        cycle = cast("Any", self.cycle)  # None before the first one, which its type does not say
        return cycle is not None and not cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self.patience.begin(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.patience.end(self)
        super().connection_lost(exc)


def connections(*, most: int, idle_s: float) -> type[Connection]:
    """Return what uvicorn makes of each connection of a server; see :class:`Patience`."""
    return type("OfOneServer", (Connection,), {"patience": Patience(most=most, idle_s=idle_s)})


__all__ = ["connections"]
