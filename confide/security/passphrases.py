"""Passphrases of private keys, each in a file of its own: never an argument, never a variable.

The passphrase of ``trainer.key`` is the file ``trainer.key.passphrase`` in the folder of systemd's
credentials (``LoadCredential=``), or else in the one that ``CONFIDE_PASSPHRASES`` names.
"""

import os
import stat
from pathlib import Path

from confide.errors import UnreadableError

FOLDER = "CONFIDE_PASSPHRASES"
CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Variables that name folders; systemd sets the second one for a service."""
_LONGEST = 1000


def passphrase_name(key: Path) -> str:
    """Return the name of the file that holds a key's passphrase."""
    return f"{key.name}.passphrase"


def passphrase_for(key: Path) -> bytes | None:
    """Return the passphrase of the key in a file; None if there is none.

    Raises:
        UnreadableError: if it cannot be read, others may read it, or it is empty or too long.
    """
    for variable in (CREDENTIALS, FOLDER):
        folder = os.environ.get(variable)
        path = Path(folder or ".") / passphrase_name(key)
        if folder and path.is_file():
            # systemd's own folder is the service's alone, by access lists that a mode hides
            return _read(path, is_guarded=variable == CREDENTIALS)
    return None


def _read(path: Path, *, is_guarded: bool) -> bytes:
    try:
        with path.open("rb") as file:
            # Of the file that is read, whatever is at its path by then
            found = os.fstat(file.fileno())
            text = file.read(_LONGEST + 1)
    except OSError as error:
        raise UnreadableError(
            f"{path} cannot be read ({error.strerror}); let this user read it, mode 0600."
        ) from None
    mode = stat.S_IMODE(found.st_mode)
    if not is_guarded and (mode & 0o077 or found.st_uid not in (0, os.geteuid())):
        raise UnreadableError(
            f"{path} has mode {mode:04o} and owner {found.st_uid}: others may read or change it;"
            f" chmod 600 {path}, and let the user who runs this own it."
        )
    passphrase = text.rstrip(b"\r\n")
    if not 1 <= len(passphrase) <= _LONGEST:
        raise UnreadableError(
            f"{path} holds {len(passphrase)} bytes; expected a passphrase of 1 to {_LONGEST}."
        )
    return passphrase


__all__ = ["CREDENTIALS", "FOLDER", "passphrase_for", "passphrase_name"]
