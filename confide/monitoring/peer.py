"""Which user of this machine asks over loopback, as the kernel knows it.

Every user of a machine may connect to its loopback. A page that tells more than metrics do is for
the user alone who runs it, and for root, who could read the files themselves.
"""

import functools
import ipaddress
import os
import pwd
import sys
from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

_TABLES = {4: Path("/proc/net/tcp"), 6: Path("/proc/net/tcp6")}
_ESTABLISHED = "01"
_LOCAL, _REMOTE, _STATE, _USER = 1, 2, 3, 7
"""Columns of a table."""

Endpoint = Callable[[Request], Response]


def for_own_user(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint that answers the user of this process, and root, alone."""

    @functools.wraps(endpoint)
    def guarded(request: Request) -> Response:
        # A Unix socket's mode lets nobody else connect
        if request.client is None or asker(request) in (os.geteuid(), 0):
            return endpoint(request)
        user = pwd.getpwuid(os.geteuid()).pw_name
        return PlainTextResponse(
            f"This page is for the user {user} of this machine alone; /metrics, /health and /ready"
            " are for every user. From elsewhere: `ssh -L` as that user.\n",
            status_code=403,
        )

    return guarded


def asker(request: Request) -> int | None:
    """Return the user id of who asks over loopback; None if the kernel does not tell."""
    client, server = request.client, request.scope.get("server")
    if client is None or server is None:
        return None
    try:
        # Their end of the connection: from their address to ours
        wanted = [_written(*client), _written(*server)]
        rows = _TABLES[ipaddress.ip_address(client.host).version].read_text().splitlines()[1:]
    except (OSError, TypeError, ValueError):
        return None
    for row in rows:
        columns = row.split()
        # One that was closed has no owner any more, and would be told as root's
        if columns[_LOCAL : _REMOTE + 1] == wanted and columns[_STATE] == _ESTABLISHED:
            return int(columns[_USER])
    return None


def _written(host: str, port: int) -> str:
    """Write an address as the kernel's tables do: words of four bytes in the machine's order."""
    packed = ipaddress.ip_address(host).packed
    words = [packed[start : start + 4] for start in range(0, len(packed), 4)]
    ordered = (word[::-1] if sys.byteorder == "little" else word for word in words)
    return f"{b''.join(ordered).hex().upper()}:{port:04X}"


__all__ = ["asker", "for_own_user"]
