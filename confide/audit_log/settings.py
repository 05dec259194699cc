"""Which settings changed since the last start: their names, and values that hold no secret.

A value that may hold one (a path, an address, a password that an environment variable gave) is told
by a keyed hash: it shows that it changed, and cannot be guessed without the key, which lies beside
the log. Names are those of settings and never of columns: a mapping is one value.
"""

import dataclasses
import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from confide.audit_log.log import AuditLog
from confide.errors import UnreadableError
from confide.security.redaction import names_secret, redact
from confide.storage.files import write_secret

SETTINGS = "settings"
"""Kind of the event that tells them."""
_KEY, _KEY_BYTES = "settings.key", 32
_SHOWN = 16


def log_settings(log: AuditLog, config: object, *, shown: tuple[str, ...]) -> None:
    """Write which settings changed since this was called last; nothing where none did.

    They are also written once a file, so that the next start need not read a log of years.

    Args:
        log: the log.
        config: a dataclass of settings.
        shown: beginnings of the names of settings whose values hold no secrets and are told.

    Raises:
        ConfideError: if it cannot be written.
    """
    key = _key(log.folder)
    now = {name: told(name, value, key, shown) for name, value in flat(config)}
    newest = next((event for event in log.newest_first() if event.kind == SETTINGS), None)
    before: Mapping[str, str] | None = None if newest is None else newest.content["now"]
    if newest is not None and now == before and log.is_in_newest_file(newest):
        return
    changed = {
        name: {"old": (before or {}).get(name), "new": now.get(name)}
        for name in sorted({*now, *(before or {})})
        if before is not None and before.get(name) != now.get(name)
    }
    log.append(SETTINGS, {"first": before is None, "changed": changed, "now": now})


def flat(config: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield name and value of each setting of a dataclass, and of those inside it."""
    assert dataclasses.is_dataclass(config)
    for field in dataclasses.fields(config):
        name, value = f"{prefix}{field.name}", getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from flat(value, f"{name}.")
        else:
            yield name, value


def told(name: str, value: Any, key: bytes, shown: tuple[str, ...]) -> str:
    """Return what the log tells of a setting's value.

    Args:
        name: of the setting.
        value: its value.
        key: of the hash.
        shown: beginnings of the names of settings whose values are told.
    """
    text = json.dumps(value, sort_keys=True, default=str)
    is_plain = value is None or isinstance(value, bool | int | float)
    if not names_secret(name) and (is_plain or name.startswith(shown)) and redact(text) == text:
        return text
    digest = hmac.digest(key, f"{name}\0{text}".encode(), hashlib.sha256).hex()
    return f"hmac:{digest[:_SHOWN]}"


def _key(folder: Path) -> bytes:
    path = folder / _KEY
    if not path.exists():
        write_secret(path, os.urandom(_KEY_BYTES))
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}.") from None


__all__ = ["SETTINGS", "flat", "log_settings", "told"]
