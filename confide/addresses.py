"""Addresses of databases, fit to be shown."""

import re

HIDDEN = "***"
_PASSWORD = re.compile(r"(?<=://)([^:/@]*:).*(?=@)")
_SECRET_PARAMETER = re.compile(r"(?i)([?&;](?:[^=&;]*(?:password|passwd|pwd|secret|token)[^=&;]*|odbc_connect)=)[^&;]*")


def redact(path: str) -> str:
    """Mask the password of a database's URL; anything else is returned as it is.

    >>> redact("postgresql+psycopg://ann:secret@db/ward?sslmode=require&sslpassword=other")
    'postgresql+psycopg://ann:***@db/ward?sslmode=require&sslpassword=***'
    """
    if "://" not in path:
        return path
    return _SECRET_PARAMETER.sub(rf"\g<1>{HIDDEN}", _PASSWORD.sub(rf"\g<1>{HIDDEN}", path))


__all__ = ["HIDDEN", "redact"]
