"""What SuperLink's database says of its nodes and messages, read beside a SuperLink that runs.

Its write-ahead log lets a reader see the last commit while others write, and neither waits for the
other. ``tests/flower/test_database.py`` checks the tables and columns relied on here.
"""

import contextlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from flwr.common.constant import HEARTBEAT_PATIENCE

from confide.errors import ConfideError
from confide.flower.processes import key_bytes

_TIMEOUT_S = 0.2
_NODES = (
    "SELECT public_key, status, online_until, heartbeat_interval, last_activated_at,"
    " last_deactivated_at FROM node WHERE status != 'unregistered'"
)
# Delivered ones stay until their replies were taken
_WAITING = "SELECT count(*) FROM message_ins WHERE delivered_at = ''"


@dataclass(frozen=True, kw_only=True)
class NodeSeen:
    """A node that SuperLink knows.

    Attributes:
        name: name of its institution.
        is_online: whether its last heartbeat still counts.
        last_seen: time of that, or of its signing off, in seconds since 1970; None if it was never
            there. Of one that fell silent it may be a minute late.
    """

    name: str
    is_online: bool
    last_seen: float | None


@dataclass(frozen=True, kw_only=True)
class LinkSeen:
    """What a SuperLink has.

    Attributes:
        nodes: those that are registered, and whose key is an institution's.
        waiting: number of messages that no node has fetched yet.
        size: size of the database in bytes.
    """

    nodes: tuple[NodeSeen, ...]
    waiting: int
    size: int


def link_seen(path: Path, keys: Mapping[str, Path], *, now: float) -> LinkSeen | None:
    """Read a SuperLink's database.

    Args:
        path: its file.
        keys: file of the public key of each institution.
        now: current time, in seconds since 1970.

    Returns:
        None if there is none, or it cannot be read now.
    """
    try:
        names = {key_bytes(file): name for name, file in keys.items()}
        size = path.stat().st_size
        # Nothing is written, nor made: without a write-ahead log nobody else has it open, and a
        # reader would make one that is this user's
        how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"
        opened = sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, timeout=_TIMEOUT_S)
        with contextlib.closing(opened) as connection:
            rows = [row for row in connection.execute(_NODES) if row[0] in names]
            (waiting,) = connection.execute(_WAITING).fetchone()
        nodes = tuple(_node(names[row[0]], row, now) for row in rows)
    except (ConfideError, OSError, sqlite3.Error, TypeError, ValueError):
        return None
    return LinkSeen(nodes=nodes, waiting=int(waiting), size=size)


_Row = tuple[bytes, str, float | None, float | None, str | None, str | None]


def _node(name: str, row: _Row, now: float) -> NodeSeen:
    _, status, online_until, interval, activated, deactivated = row
    until = online_until or 0.0
    last_seen: float | None = None
    if status == "online":  # so it says until somebody asks for what is no longer true
        last_seen = until - HEARTBEAT_PATIENCE * (interval or 0.0)
    elif activated:
        last_seen = datetime.fromisoformat(deactivated or activated).timestamp()
    return NodeSeen(name=name, is_online=status == "online" and until > now, last_seen=last_seen)


__all__ = ["LinkSeen", "NodeSeen", "link_seen"]
