"""Masks passwords in databases' addresses and in arguments before they are shown or stored."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
# Up to the last @, because a password that is not percent-encoded may hold one itself.
_PASSWORD = re.compile(r"(?<=://)([^:/@]*:).*(?=@)")
_SECRET_NAME = re.compile(r"(?i)password|passwd|pwd|secret|token|api_?key")
# ODBC's whole connection string, password included, is one parameter of SQLAlchemy's URL.
_SECRET_PARAMETER = re.compile(
    r"(?i)([?&;](?:[^=&;]*(?:password|passwd|pwd|secret|token)[^=&;]*|odbc_connect)=)[^&;]*"
)
_INTERPOLATION = re.compile(r"\$\{[^{}]*\}")


def redact(path: str) -> str:
    """Mask the passwords in a database's URL; anything else is returned unchanged.

    >>> redact("postgresql+psycopg://ann:secret@db/ward?sslmode=require&sslpassword=other")
    'postgresql+psycopg://ann:***@db/ward?sslmode=require&sslpassword=***'
    """
    if "://" not in path:
        return path
    return _SECRET_PARAMETER.sub(rf"\g<1>{HIDDEN}", _PASSWORD.sub(rf"\g<1>{HIDDEN}", path))


def holds_password(text: str) -> bool:
    """Say whether a URL spells out a password; ``${oc.env:NAME}`` stands for one and does not.

    >>> [holds_password(f"mysql://ann:{word}@db/ward") for word in ("secret", "${oc.env:WARD}")]
    [True, False]
    """
    plain = _INTERPOLATION.sub("", text)
    return "://" in plain and any(
        match.end() > match.end(1)
        for pattern in (_PASSWORD, _SECRET_PARAMETER)
        for match in pattern.finditer(plain)
    )


def names_secret(name: str) -> bool:
    """Say whether an argument is called like a secret."""
    return _SECRET_NAME.search(name) is not None


def redact_arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Mask a custom part's arguments: passwords in URLs, and those named like a secret.

    >>> redact_arguments({"password": "hunter2", "url": "mysql://ann:secret@db/ward", "year": 2026})
    {'password': '***', 'url': 'mysql://ann:***@db/ward', 'year': 2026}
    """
    masked = {
        name: redact(value) if isinstance(value, str) else value for name, value in kwargs.items()
    }
    return {
        name: HIDDEN if _SECRET_NAME.search(str(name)) else value for name, value in masked.items()
    }


__all__ = ["HIDDEN", "holds_password", "names_secret", "redact", "redact_arguments"]
