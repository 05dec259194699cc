"""``confide audit-log``: verifies, shows and exports the audit log of either side."""

import argparse
import importlib
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from confide.audit_log.compare import Told, ledger_problems, side_problems
from confide.audit_log.files import files_of, line_of, lines_of
from confide.audit_log.ocsf import Exporter, to_ocsf_line
from confide.audit_log.verify import Verified, verify
from confide.audit_log.words import in_words, when
from confide.errors import ConfigError, UnreadableError
from confide.security import certificates, ec_keys
from confide.security.chain import Event
from confide.terminal import is_reader_gone, plain

_HELP = """Verify, show or export an audit log: who did what, when, and why it was refused.

usage: confide audit-log verify FOLDER [--key KEY]... [--head HASH]... [--after HASH]
                                       [--ledger LEDGER] [--against FOLDER]
           say whether every line and file is what was written, up to the signed head
       confide audit-log show FOLDER [--last N]
           print events in words, the newest last
       confide audit-log export FOLDER [--format jsonl|ocsf]
           print events as JSON lines, as written or in the schema of SIEMs (OCSF)

FOLDER is KIT/state/trainer/audit of an institution, KIT/state/audit of a coordinator's kit, or
kits/audit, where certificates are made.

--key       whose signature on the head counts: trainer.crt, a public key, or its fingerprint
--head      hash of an event that the log has to hold, as somebody kept it
--after     hash of the last event of older files that were archived
--ledger    the institution's ledger, or an export of it, whose events the log names
--against   the other side's log: what one side accepted or refused, the other has to know

verify ends with status 1 if anything is wrong, and names the file and the line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Report a mistake in the way of every command.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.prog}: {message}; see `confide audit-log --help`.")


def main(argv: Sequence[str]) -> int:
    """Run ``confide audit-log``.

    Args:
        argv: arguments after ``audit-log``.

    Returns:
        The exit status: 0 the log is whole, 1 it is not.

    Raises:
        ConfideError: if the command is wrong, or there is no log.
    """
    words = list(argv)
    if not words or {"-h", "--help"} & set(words) or words[0] == "help":
        print(_HELP)
        return 0
    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "verify": _verify,
        "show": _show,
        "export": _export,
    }
    if words[0] not in commands:
        raise ConfigError(
            f"confide audit-log: unknown command {words[0]!r}; expected {', '.join(commands)}."
        )
    return commands[words[0]](words[1:])


def _verify(words: Sequence[str]) -> int:
    parser = _Parser(prog="confide audit-log verify", add_help=False)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("--key", action="append", default=[])
    parser.add_argument("--head", action="append", default=[])
    parser.add_argument("--after", default="")
    parser.add_argument("--ledger", type=Path)
    parser.add_argument("--against", type=Path)
    given = parser.parse_args(words)
    told = Told()
    keys = [_fingerprint(key) for key in given.key]
    found = verify(given.folder, after=given.after, keys=keys, heads=given.head, take_fn=told.take)
    if given.ledger is not None and not found.problems:
        found.problems += ledger_problems(told, _ledger_events(given.ledger))
    if given.against is not None and not found.problems:
        found.problems += _against(told, given.against)
    return _tell(given.folder, found)


def _tell(folder: Path, found: Verified) -> int:
    for problem in found.problems:
        print(plain(f"{folder}: {problem}"), file=sys.stderr)
    if found.problems:
        return 1
    last, begun = found.last, found.begun
    assert last is not None
    whose = f"{begun.content['side']} {begun.content['name']}, " if begun else ""
    notes = " ".join(found.notes)
    files = "1 file" if found.files == 1 else f"{found.files} files"
    told = (
        f"{folder}: whole. {whose}{last.number} events in {files}, the last of"
        f" {when(last.time)}, head {last.hash}. {notes}"
    )
    print(plain(told.strip()))
    return 0


def _fingerprint(text: str) -> str:
    """Return the fingerprint that a word names: itself, or that of a file's key."""
    path = Path(text)
    if not path.exists():
        if not text.startswith("SHA256:"):
            raise ConfigError(
                f"--key={text}: there is no such file, and it is no fingerprint (SHA256:...)."
            )
        return text
    if path.suffix == ".crt":
        key = ec_keys.expect_public(text, certificates.read_certificate(path).public_key())
    else:
        key = ec_keys.read_public_key(path)
    return ec_keys.key_fingerprint(key)


def _ledger_events(path: Path) -> Sequence[Event]:
    """Return the events of a ledger, or of its export."""
    if path.suffix != ".json":
        # By name: this room is below both sides and imports neither
        events: Sequence[Event] = (
            importlib.import_module("confide.client.ledger.file").LedgerFile(path).log.events
        )
        return events
    try:
        told = [Event(**raw) for raw in json.loads(path.read_text())["events"]]
        # Events without a hash, such as of a number that is none, are those of no ledger
        return [event for event in told if event.hash]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableError(
            f"--ledger={path} is no export of a ledger ({type(error).__name__}: {error}); make one"
            " with `confide ledger export`."
        ) from None


def _against(told: Told, folder: Path) -> Iterable[str]:
    other = Told()
    found = verify(folder, take_fn=other.take)
    if found.problems:
        return [f"{folder}: {problem}" for problem in found.problems]
    sides = {one.side: one for one in (told, other)}
    if set(sides) != {"institution", "coordinator"}:
        raise ConfigError(
            f"--against={folder}: expected one institution's log and one coordinator's, got"
            f" {told.side} and {other.side}."
        )
    return side_problems(sides["institution"], sides["coordinator"])


def _show(words: Sequence[str]) -> int:
    parser = _Parser(prog="confide audit-log show", add_help=False)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("--last", type=int, default=50)
    given = parser.parse_args(words)
    for event in deque(_events(given.folder), maxlen=max(0, given.last)):
        line = f"{event.number:>6} {when(event.time)} {event.kind:<9} {in_words(event)}"
        print(plain(line).replace("\n", r"\n"))
    return 0


def _export(words: Sequence[str]) -> int:
    parser = _Parser(prog="confide audit-log export", add_help=False)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("--format", choices=("jsonl", "ocsf"), default="jsonl")
    given = parser.parse_args(words)
    exporter = Exporter()
    for event in _events(given.folder):
        is_ocsf = given.format == "ocsf"
        print(to_ocsf_line(exporter, event) if is_ocsf else line_of(event).decode().rstrip("\n"))
        if is_reader_gone():
            break
    return 0


def _events(folder: Path) -> Iterable[Event]:
    """Yield a log's events; what is not what was written is an error, and not left out."""
    if not files_of(folder):
        raise UnreadableError(f"{folder} holds no audit log (audit-*.jsonl).")
    for path in files_of(folder):
        for line in lines_of(path):
            if line.event is None:
                raise UnreadableError(
                    f"{line.place} is not what was written: {line.problem}; `confide audit-log"
                    f" verify {folder}` says more."
                )
            yield line.event


__all__ = ["main"]
