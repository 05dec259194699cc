"""An audit log that is written to: an event is on the disk and signed before its writer goes on.

Several processes may write to one log: the trainer, and the commands of an institution's people.
An event is written as one line, then the head that signs it: killed in between, a head lags behind
by one event, which the next writer signs first. A torn line is kept in a file of its own, and the
event that takes its place names it.

Trusted: the user who writes the log, and whoever has its key. Others detect by ``verify`` what was
changed, removed or cut off; what this user rewrote together with the head is told by what others
have: heads that were kept elsewhere, the ledger's events, the other side's log.
"""

import contextlib
import hashlib
import io
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from confide.audit_log.files import (
    CONTINUED,
    HEAD,
    TORN,
    Line,
    alone,
    file_name,
    files_of,
    first_number,
    line_of,
    lines_of,
    read_head,
    read_rest,
    to_line,
)
from confide.errors import StorageError, UnreadableError
from confide.security.audit_heads import AuditHead, sign_head
from confide.security.chain import CLOCK, Event, chain_problems
from confide.security.ec_keys import (
    PrivateKey,
    key_fingerprint,
    make_key,
    parse_public_line,
    private_pem,
    public_line,
    read_private_key,
)
from confide.storage.files import make_private_folder, sync, write_secret, write_text

BEGUN = "begun"
"""Kind of the first event of a log."""
SIGNER = "signer"
"""Kind of the event from which another key signs heads."""
FORMAT = 1
_OWN_KEY = "signing.key"
_CLOCK_SLACK_S = 300.0
_LARGEST = 16 * 2**20
_FIX = (
    "Nothing more is written to it. `confide audit-log verify {folder}` says what is wrong; keep"
    " the folder as it is for those who look into it, move it away, and a new log begins."
)


class AuditLog:
    """One side's log.

    Args:
        folder: made if need be, for its owner alone.
        side: ``institution``, ``coordinator`` or ``authority``.
        name: of the institution or the federation.
        key: signs heads.
        largest: size of a file in bytes beyond which the next one is begun, > 0.
        now_fn: clock; seconds since 1970.

    Raises:
        ConfideError: if it cannot be read or is not whole, or written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        side: str,
        name: str,
        key: PrivateKey,
        largest: int = _LARGEST,
        now_fn: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self._begun = {"side": side, "name": name, "format": FORMAT}
        self._key, self._largest, self._now_fn = key, largest, now_fn
        self._last: Event | None = None
        self._head: AuditHead | None = None
        self._signer: str | None = None
        self._file: Path | None = None
        self._end = self._lines = 0  # bytes and number of the whole lines in it that were read
        self._torn = b""
        make_private_folder(folder)
        with alone(self.folder):
            self._read_on()

    def append(self, kind: str, content: Mapping[str, Any]) -> Event:
        """Write an event, and wait until it is on the disk and signed.

        Args:
            kind: kind of event; one word.
            content: what it says, as plain JSON.

        Raises:
            ConfideError: if it cannot be written; then it is not in the log, or it is and its head
                is not, which the next event makes good.
        """
        try:
            with alone(self.folder):
                self._read_on()
                self._signer = self._head.key if self._head else None
                self._sign()
                self._go_on()
                return self._write(kind, content)
        except OSError as error:
            raise StorageError(
                f"The audit log {self.folder} cannot be written: {error.strerror}. Free space, or"
                " give its folder back to this user."
            ) from None

    def newest_first(self) -> Iterator[Event]:
        """Yield the events, the newest first, file by file.

        Raises:
            UnreadableError: if one is not what was written.
        """
        for path in reversed(files_of(self.folder)):
            yield from reversed([self._whole(line) for line in lines_of(path)])

    def is_in_newest_file(self, event: Event) -> bool:
        """Say whether an event of this log is in its newest file."""
        return event.number >= first_number(files_of(self.folder)[-1])

    # --- reading

    def _read_on(self) -> None:
        """Read what other processes wrote, or where an earlier one stopped."""
        files = files_of(self.folder)
        if self._file is not None and self._file not in files:
            raise self._damaged(f"{self._file.name} is gone")
        if self._file is None:
            # A file that was begun may have no whole line yet: the chain ends in the one before
            self._last, new = None, files[-2:]
        else:
            new = files[files.index(self._file) :]
        for path in new:
            self._read(path)
        self._check_head(read_head(self.folder))

    def _read(self, path: Path) -> None:
        if path != self._file:
            self._file, self._end, self._lines = path, 0, 0
        rest = read_rest(path, self._end)
        for raw in io.BytesIO(rest):  # `splitlines` would take other ends of lines, too
            if not raw.endswith(b"\n"):
                break
            self._lines += 1
            line = to_line(path, self._lines, raw)
            event = self._whole(line)
            # What the older of two files follows is not read here
            for problem in chain_problems(self._last, [event]) if self._last else ():
                raise self._damaged(f"{line.place}: {problem}")
            self._last = event
            self._end += len(raw)
        self._torn = rest[rest.rfind(b"\n") + 1 :]

    def _check_head(self, head: AuditHead | None) -> None:
        number = self._last.number if self._last else 0
        signed = head.number if head else 0
        if signed > number:
            raise self._damaged(f"it ends with event {number}, and its head knows of {signed}")
        if number - signed > 1:
            raise self._damaged(f"its head names event {signed} of {number}")
        if head is not None and self._last is not None:
            if head.hash != (self._last.hash if signed == number else self._last.previous):
                raise self._damaged(f"event {signed} is not the one that its head names")
            if not head.is_signed:
                raise self._damaged(f"its head {self.folder / HEAD} is not signed")
        self._head = head

    def _whole(self, line: Line) -> Event:
        if line.event is None:
            raise self._damaged(f"{line.place} is not what was written: {line.problem}")
        return line.event

    def _damaged(self, why: str) -> UnreadableError:
        fix = _FIX.format(folder=self.folder)
        return UnreadableError(f"The audit log {self.folder} is not whole: {why}. {fix}")

    # --- writing

    @property
    def _hash(self) -> str:
        return self._last.hash if self._last else ""

    def _go_on(self) -> None:
        """Write what has to come before the next event."""
        aside = self._set_aside() if self._torn else None
        if self._last is None:
            self._write(BEGUN, self._begun)
        if aside is not None:
            # In the file that has the torn line, also where that is full: it takes its place
            self._begin_file_if_empty()
            self._write(TORN, aside)
        if self._end >= self._largest:
            self._file, self._end, self._lines = None, 0, 0
        self._begin_file_if_empty()
        assert self._last is not None
        ahead = self._last.time - self._now_fn()
        if ahead > _CLOCK_SLACK_S:
            self._write(CLOCK, {"ahead_s": round(ahead, 3)})
        own = public_line(self._key.public_key()).strip()
        before = self._signer or own
        if before != own:
            keys = {"before": before, "now": own}
            told = {name: key_fingerprint(parse_public_line(key)) for name, key in keys.items()}
            self._write(SIGNER, told)
        self._signer = own

    def _begin_file_if_empty(self) -> None:
        last = self._last
        if self._end or last is None:
            return
        before = [path for path in files_of(self.folder) if path != self._file][-1]
        self._write(CONTINUED, {"file": before.name, "number": last.number, "last": last.hash})

    def _set_aside(self) -> dict[str, Any]:
        """Keep the torn line in a file of its own, before something takes its place."""
        assert self._file is not None
        digest = hashlib.sha256(self._torn).hexdigest()
        name = f"{self._file.name}.torn-{self._end}-{digest[:8]}"
        write_secret(self.folder / name, self._torn)
        self._give_named(name)
        return {"file": name, "bytes": len(self._torn), "sha256": digest}

    def _write(self, kind: str, content: Mapping[str, Any]) -> Event:
        last = self._last
        before = last.time if last and kind != CLOCK else 0.0
        event = Event(
            number=last.number + 1 if last else 1,
            time=round(max(self._now_fn(), before), 3),
            kind=kind,
            # Through JSON: the hash is taken of what a reader will parse, lists for tuples
            content=json.loads(json.dumps(content, allow_nan=False)),
            previous=self._hash,
        )
        line = line_of(event)
        path = self._file or self.folder / file_name(event.number)
        is_new = not path.exists()
        # An administrator who writes must not follow a link of the log's own user elsewhere
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self._file = path
        try:
            if is_new:
                self._give(handle)
            self._put(handle, line)
        finally:
            os.close(handle)
        if is_new:
            sync(self.folder)
        self._end, self._lines = self._end + len(line), self._lines + 1
        self._last, self._torn = event, b""
        self._sign()
        return event

    def _put(self, handle: int, line: bytes) -> None:
        # In place of a torn line, whose rest is cut off last: killed on the way, it is torn again
        try:
            os.lseek(handle, self._end, os.SEEK_SET)
            rest = line
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.ftruncate(handle, self._end + len(line))
            os.fsync(handle)
        except OSError:
            # What may not be on the disk must not be taken for written
            with contextlib.suppress(OSError):
                os.ftruncate(handle, self._end)
            raise

    def _sign(self) -> None:
        last = self._last
        if last is None or (self._head is not None and self._head.number == last.number):
            return
        head = sign_head(last.number, last.hash, self._key)
        write_text(self.folder / HEAD, head.to_text(), mode=0o600)
        self._give_named(HEAD)
        self._head = head

    def _give_named(self, name: str) -> None:
        handle = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            self._give(handle)
        finally:
            os.close(handle)

    def _give(self, handle: int) -> None:
        """Give a file that an administrator wrote to the log's own user, who could not read it."""
        owner, found = self.folder.stat(), os.fstat(handle)
        is_ours = found.st_uid == 0 and found.st_nlink == 1 and stat.S_ISREG(found.st_mode)
        if os.geteuid() == 0 and owner.st_uid != 0 and is_ours:
            os.fchown(handle, owner.st_uid, owner.st_gid)


def signing_key(path: Path, folder: Path) -> PrivateKey:
    """Return the key that signs a log's heads: a kit's own, or one that is made for the log.

    Args:
        path: key of the kit, which those of earlier releases lack.
        folder: the log's.

    Raises:
        ConfideError: if it cannot be read, or made.
    """
    if not path.exists():
        path = folder / _OWN_KEY
        if not path.exists():
            make_private_folder(folder)
            write_text(path, private_pem(make_key()), mode=0o600)
    return read_private_key(path)


__all__ = ["BEGUN", "SIGNER", "AuditLog", "signing_key"]
