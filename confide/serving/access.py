"""Who may ask: whoever has the token, or, without one, this machine by its own name."""

import hashlib
import hmac
import os
import stat
from pathlib import Path

from starlette.datastructures import Headers

from confide.errors import ConfigError
from confide.monitoring.guarding import names_loopback
from confide.serving.refusal import RefusedError, bad

_SHORTEST = 20
_LONGEST = 4096
_OPEN = frozenset({"/health", "/ready", "/v2/health/live", "/v2/health/ready"})
"""Paths that tell nothing but that something runs, for load balancers that have no token."""
_SAFE = frozenset({"same-origin", "none"})


class Access:
    """Decides who may ask.

    Args:
        token: that a request has to bring; None: none has.
        is_named: whether a request without a token has to call this machine by a name of loopback.
    """

    def __init__(self, token: str | None, *, is_named: bool) -> None:
        self._digest = None if token is None else _digest(token)
        self._is_named = is_named

    def refuse_stranger(self, path: str, headers: Headers) -> None:
        """Check a request before anything of it is read.

        Raises:
            RefusedError: if its sender may not ask.
        """
        # A browser says which page asks; programs send neither
        if "origin" in headers or headers.get("sec-fetch-site", "none") not in _SAFE:
            raise RefusedError(403, "Web pages may not ask here; ask from a program.")
        if self._digest is None:
            if self._is_named and not names_loopback(headers):
                raise bad(
                    "Without a token this answers to the names 127.0.0.1, localhost and [::1]"
                    " alone; a proxy before it has to send one of them as Host."
                )
            return
        if path in _OPEN:
            return
        given = headers.getlist("authorization")
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        # Of digests, so that the time it takes tells nothing, not even a length
        is_right = hmac.compare_digest(_digest(token.strip()), self._digest)
        if scheme.lower() != "bearer" or not is_right:
            raise RefusedError(
                401,
                "Expected Authorization: Bearer TOKEN, the token of --token-file.",
                {"www-authenticate": "Bearer"},
            )


def read_token(path: Path) -> str:
    """Read a token from a file that no other user can read.

    Raises:
        ConfigError: if there is none, others can read it, or it is too short to be one.
    """
    fix = "Make one: (umask 077; openssl rand -hex 32 > FILE)."
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(_LONGEST + 1)
    except OSError as error:
        raise ConfigError(f"--token-file {path} cannot be read: {error.strerror}. {fix}") from None
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or status.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"--token-file {path}: mode={stat.S_IMODE(status.st_mode):o}, uid={status.st_uid};"
            " expected a file of this user's that nobody else can read. Run chmod 600 on it, and"
            " replace the token if others may have read it."
        )
    token = data.strip()
    if not _SHORTEST <= len(token) <= _LONGEST or not token.isascii() or len(token.split()) != 1:
        raise ConfigError(
            f"--token-file {path}: expected one word of {_SHORTEST} to {_LONGEST} ASCII characters."
            f" {fix}"
        )
    return token.decode("ascii")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


__all__ = ["Access", "read_token"]
