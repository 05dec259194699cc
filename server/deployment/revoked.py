"""The list of revoked keys in a coordinator's folder, as it is now.

Whoever revokes a key, or brings the list from where keys are made, has nothing to restart: a
process that holds one of these reads the file again once it is another.
"""

import logging
from pathlib import Path

from confide.errors import UnreadableError
from confide.security.revocations import Revocations, read_revocations
from confide.storage.files import mark_of

log = logging.getLogger(__name__)


class RevokedKeys:
    """A list that is read again when it changes.

    Args:
        path: of the list; a file that is not there is a list without keys.

    Raises:
        UnreadableError: if it is none.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._mark = path, mark_of(path)
        self._known = read_revocations(path)

    def now(self) -> Revocations:
        """Return the list; the last one that could be read, where the file is gone or damaged."""
        mark = mark_of(self._path)
        if mark == self._mark:
            return self._known
        self._mark = mark
        try:
            read = read_revocations(self._path)
        except UnreadableError as error:
            log.error("%s Until then the list of before counts.", error)
            return self._known
        if read.number < self._known.number:
            log.error(
                "%s is gone or older than the list that was heeded (%d, and now %d); bring back the"
                " newest one. Until then the list of before counts.",
                self._path,
                self._known.number,
                read.number,
            )
            return self._known
        self._known = read
        return read


__all__ = ["RevokedKeys"]
