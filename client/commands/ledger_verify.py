"""``confide ledger verify``: whether a ledger, or its export, is what it was when heads left."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from confide.audit_log.words import seconds, when
from confide.client.commands.ledger_paths import files_at, one_at, open_file
from confide.client.ledger.names import SUFFIX
from confide.errors import LedgerError, words_of
from confide.security.chain import CLOCK, Event
from confide.terminal import plain

if TYPE_CHECKING:
    from confide.security.ec_keys import PublicKey


def verify(arguments: argparse.Namespace) -> int:
    """Print what is wrong with ledgers, or that they are sound.

    Returns:
        0 if all are sound, 1 if not.
    """
    from confide.security.ec_keys import read_public_key

    if arguments.head:
        one_at(arguments, "--head is of")
    trusted = read_public_key(arguments.coordinator) if arguments.coordinator else None
    lost: list[Path] = []
    if arguments.path.is_dir():
        # A ledger that was deleted is noticed only by the anchor that it left
        anchors = sorted((arguments.anchors or arguments.path).glob(f"*{SUFFIX}.anchor"))
        lost = [anchor for anchor in anchors if not (arguments.path / anchor.stem).exists()]
    for anchor in lost:
        print(f"{anchor.stem}: It is gone, and its anchor {anchor} knows of it.", file=sys.stderr)
    sound = not lost
    for path in files_at(arguments.path):
        try:
            check = _check_export if path.suffix == ".json" else _check_ledger
            problems, details = check(path, arguments, trusted)
        except LedgerError as error:
            problems, details = [str(error)], ""
        for problem in problems:
            print(plain(f"{path.name}: {problem}"), file=sys.stderr)
        if not problems:
            print(plain(f"{path.name}: sound. {details}"))
        sound = sound and not problems
    return 0 if sound else 1


def _check_ledger(
    path: Path, arguments: argparse.Namespace, trusted: "PublicKey | None"
) -> tuple[list[str], str]:
    """Return a ledger's problems and, if there are none, its details."""
    # Opening it checked its chain, its anchor and its signature; the key lies beside it
    file = open_file(path, arguments)
    events, public_key = file.log.events, file.state.public_key
    if public_key not in (None, file.keys.public_key):
        return [f"{file.keys.path} is not its key; bring the right one back."], ""
    problems = list(_vouched(events, public_key or "", arguments.head, trusted))
    number, digest = file.log.head
    details = [f"{number} events, head {number}:{digest}."]
    if not file.log.is_signed:
        details.append(
            "It is not signed: an earlier release wrote it, which the next event ends, or somebody"
            " made it look so; compare a head that left (--head)."
        )
    return problems, " ".join([*details, *_notes(events)])


def _check_export(
    path: Path, arguments: argparse.Namespace, trusted: "PublicKey | None"
) -> tuple[list[str], str]:
    """Return an export's problems and, if there are none, its details."""
    from confide.client.ledger.export import export_problems

    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        return [f"It cannot be read ({words_of(error)})."], ""
    problems = (
        export_problems(raw) if isinstance(raw, dict) else ["It is not an export of a ledger."]
    )
    if problems:
        return problems, ""
    events = [Event(**item) for item in raw["events"]]
    problems = list(_vouched(events, raw["public_key"], arguments.head, trusted))
    details = (
        f"{len(events)} events, head {raw['head']}. Its key is {raw['public_key']}: compare it with"
        " the one that the institution gave you."
    )
    return problems, " ".join([details, *_notes(events)])


def _vouched(
    events: Sequence[Event],
    public_key: str,
    heads: Sequence[str],
    trusted: "PublicKey | None",
) -> Iterator[str]:
    """Yield a sentence for each head, told or countersigned, that the events do not lead to."""
    from confide.client.ledger.heads import countersigned, head_problems

    for kept in countersigned(events):
        yield from kept.problems(trusted)
    for head in heads:
        yield from head_problems(head, events, public_key)


def _notes(events: Sequence[Event]) -> Iterator[str]:
    """Yield what a reader of a sound ledger has to know."""
    from confide.client.ledger.heads import countersigned
    from confide.security.ec_keys import key_fingerprint

    kept = countersigned(events)
    if kept:
        by = ", ".join(sorted({key_fingerprint(head.key) for head in kept}))
        yield (
            f"{len(kept)} heads countersigned, the newest of event {kept[-1].event}, by {by}:"
            " compare with the coordinator's heads.pub."
        )
    elif any(event.kind == "reserve" for event in events):
        yield (
            "No head is countersigned: whoever has its key could have rewritten it, unless a head"
            " that left is given with --head."
        )
    for event in events:
        if event.kind == CLOCK:
            content, ahead = event.content, seconds(event.content.get("ahead_s"))
            yield (
                f"Event {event.number}, {when(event.time)}: the clock had been {ahead} ahead, and"
                f" was repaired by {content.get('by')}: {content.get('reason')}."
            )


__all__ = ["verify"]
