"""Whether an audit log is what was written: every line, every file, up to the signed head.

Detected: a line that was changed, removed, moved or added, a file that is gone, an end that was cut
off, and a log that was written anew without its key. An end that was cut off *together with an
older head put back* is whole in itself; it is told by the ledger, by the other side's log
(:mod:`~confide.audit_log.compare`), or by a head that was kept elsewhere.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from confide.audit_log.files import (
    CONTINUED,
    HEAD,
    TORN,
    Line,
    alone,
    files_of,
    first_number,
    lines_of,
    read_head,
    read_rest,
)
from confide.audit_log.log import BEGUN, SIGNER
from confide.audit_log.words import seconds
from confide.errors import UnreadableError
from confide.security.audit_heads import AuditHead
from confide.security.chain import CLOCK, Event, chain_problems
from confide.security.ec_keys import key_fingerprint

_SHOWN = 16


@dataclass(kw_only=True)
class Verified:
    """What was found.

    Attributes:
        problems: one sentence each; none for a log that is whole.
        notes: what a reader of a whole log has to know.
        begun: its first event; None if that is not here.
        last: its newest event; None for none.
        files: number of its files.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    begun: Event | None = None
    last: Event | None = None
    files: int = 0


def verify(
    folder: Path,
    *,
    after: str = "",
    keys: Collection[str] = (),
    heads: Collection[str] = (),
    take_fn: Callable[[Event], None] | None = None,
) -> Verified:
    """Check a log from its first line to its head.

    Args:
        folder: the log's.
        after: hash of the last event of files that were archived; empty: the log is here whole.
        keys: fingerprints of keys that may have signed the head; empty: any, which a note tells.
        heads: hashes of events that the log has to hold, as somebody kept them.
        take_fn: called with every event that follows from those before it.

    Raises:
        UnreadableError: if the folder holds no log.
    """
    found = Verified()
    wanted = set(heads)

    def take(event: Event) -> None:
        wanted.discard(event.hash)
        if event.kind == BEGUN and event.number == 1:
            found.begun = event
        found.notes += _notes(event)
        found.last = event
        if take_fn is not None:
            take_fn(event)

    files, head = _as_it_is(folder)
    found.files = len(files)
    found.problems += _chain(files, after, take)
    if not found.problems:
        found.problems += [head] if isinstance(head, str) else _head_problems(head, found, keys)
        found.notes += _torn(files)
    if not found.problems:
        found.problems += [
            f"It does not hold event {digest[:_SHOWN]}, which was kept elsewhere: its end was cut"
            " off, or it was written anew."
            for digest in sorted(wanted)
        ]
    return found


def _as_it_is(folder: Path) -> tuple[dict[Path, int], AuditHead | str | None]:
    """Return each file with its size, oldest first, and the head, or why it cannot be read.

    Its writers wait so long and no longer, however long the log is: a file of it only grows.
    """
    with alone(folder):
        paths = files_of(folder)
        if not paths and not (folder / HEAD).exists():
            raise UnreadableError(
                f"{folder} holds no audit log (audit-*.jsonl); name its folder, such as"
                " KIT/state/trainer/audit of an institution."
            )
        try:
            head: AuditHead | str | None = read_head(folder)
        except UnreadableError as error:
            head = str(error)
        return {path: _size_of(path) for path in paths}, head


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}.") from None


def _chain(sizes: dict[Path, int], after: str, take_fn: Callable[[Event], None]) -> Iterator[str]:
    """Take every event up to the first that does not follow; yield why it does not."""
    last: Event | None = None
    files = list(sizes)
    for path, size in sizes.items():
        before, is_first = last, True
        for line in lines_of(path, end=size):
            problem = _problem(line, last, after)
            if problem is None and is_first:
                problem = _first_problem(path, line.event, before, files)
            if problem is not None:
                yield f"{line.place}: {problem}"
                return
            assert line.event is not None
            take_fn(line.event)
            last, is_first = line.event, False
        if path == files[-1]:
            return
        if is_first:
            yield f"{path.name} is empty, and another file follows: its lines were removed."
            return
        if _torn_bytes(path, size):
            yield f"{path.name} ends with a piece of a line, and another file follows."
            return


def _problem(line: Line, last: Event | None, after: str) -> str | None:
    """Return why a line does not follow what is before it."""
    if line.event is None:
        return f"not what was written: {line.problem}."
    if last is None and after:
        if line.event.previous == after:
            return None
        return f"Event {line.event.number} does not follow the archived event {after[:_SHOWN]}."
    problem = next(chain_problems(last, [line.event]), None)
    if problem is not None and last is None:
        return (
            f"{problem} The files before are gone; if they were archived, give --after HASH, the"
            " hash of their last event."
        )
    return problem


def _first_problem(
    path: Path, event: Event | None, before: Event | None, files: list[Path]
) -> str | None:
    """Return why the first event of a file is not one."""
    assert event is not None
    if event.number != first_number(path):
        return f"It is event {event.number}, and the file is named after another."
    if before is None:
        return None
    expected = {
        "file": files[files.index(path) - 1].name,
        "number": before.number,
        "last": before.hash,
    }
    if event.kind != CONTINUED or dict(event.content) != expected:
        return "The file does not begin with the hash of the file before."
    return None


def _head_problems(head: AuditHead | None, found: Verified, keys: Collection[str]) -> Iterator[str]:
    number = found.last.number if found.last else 0
    if head is None:
        yield f"Its signed head {HEAD} is gone."
    elif found.last is None:
        yield f"It has no event, and its signed head names event {head.number}."
    elif head.number > number:
        yield (
            f"It ends with event {number}, and its signed head names event {head.number}: its end"
            " was cut off, or this is an older copy."
        )
    elif number - head.number > 1:
        yield f"Its signed head names event {head.number} of {number}: it is an older one."
    else:
        yield from _signature_problems(head, found, keys)


def _signature_problems(head: AuditHead, found: Verified, keys: Collection[str]) -> Iterator[str]:
    last = found.last
    assert last is not None
    if head.hash != (last.hash if head.number == last.number else last.previous):
        yield f"Its signed head is not of event {head.number} as it stands here."
        return
    if not head.is_signed:
        yield f"Its head {HEAD} is not signed with the key that stands in it."
        return
    signer = key_fingerprint(head.public_key)
    if keys and signer not in keys:
        yield f"Its head is signed by {signer}, and not by {', '.join(sorted(keys))}."
        return
    if head.number != last.number:
        found.notes.append(
            f"Event {last.number} is not signed yet: its writer was killed, or is writing."
        )
    if not keys:
        found.notes.append(f"Signed by {signer}: compare it with what its owner told you (--key).")


def _torn(sizes: dict[Path, int]) -> Iterator[str]:
    for path, size in list(sizes.items())[-1:]:
        torn = _torn_bytes(path, size)
        if torn:
            yield (
                f"{path.name} ends with {torn} bytes of a line that was not written to its end; the"
                " next event keeps them in a file of their own."
            )


def _torn_bytes(path: Path, size: int) -> int:
    """Return how many of a file's first bytes follow its last whole line."""
    rest = read_rest(path, 0)[:size]
    return len(rest) - rest.rfind(b"\n") - 1


def _notes(event: Event) -> Iterator[str]:
    """Yield what a reader of a whole log has to know of an event."""
    content = event.content
    if event.kind == TORN:
        yield (
            f"Event {event.number}: a line of {content.get('bytes')} bytes had not been"
            " written to its end, by a process that was killed or on a full disk; it is in"
            f" {content.get('file')}."
        )
    elif event.kind == CLOCK:
        yield f"Event {event.number}: the clock had been {seconds(content.get('ahead_s'))} ahead."
    elif event.kind == SIGNER:
        yield (
            f"Event {event.number}: from here on {content.get('now')} signs, before it"
            f" {content.get('before')} did."
        )


__all__ = ["Verified", "verify"]
