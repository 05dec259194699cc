"""Who runs this process, as an audit log and a ledger name them: by what the kernel knows."""

import os
import pwd
from pathlib import Path

_LOGIN = Path("/proc/self/loginuid")
_NOBODY = 2**32 - 1
"""Of a process that no login began, such as a service's."""
_LONGEST = 64


def user() -> str:
    """Return who runs this process, and who logged in to do so.

    Variables such as ``LOGNAME`` may say anything. ``SUDO_USER`` is told where the kernel does not
    know of a login, as what it is.
    """
    name, login = _name(os.geteuid()), _login()
    if login is not None:
        return name if login == os.geteuid() else f"{name} (logged in as {_name(login)})"
    behind = os.environ.get("SUDO_USER", "")[:_LONGEST]
    return f"{name} (by sudo from {behind}, as it says)" if behind else name


def _name(number: int) -> str:
    """Return a user's name, or the number where the machine knows no name."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _login() -> int | None:
    """Return which user logged in, as the kernel's audit knows it; None if it does not."""
    try:
        number = int(_LOGIN.read_text())
    except (OSError, ValueError):
        return None
    return None if number == _NOBODY else number


__all__ = ["user"]
