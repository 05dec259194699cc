"""Who runs this process, as an audit log names them."""

import getpass
import os


def user() -> str:
    """Return who runs this process: by name, or by number where the machine knows no name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):
        name = str(os.geteuid())
    behind = os.environ.get("SUDO_USER")
    return f"{name} (by sudo from {behind})" if behind else name


__all__ = ["user"]
