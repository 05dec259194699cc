"""Writes a ledger anew, as whoever can write its folder may."""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from confide.client.ledger.database import file_hash
from confide.client.ledger.file import LedgerFile
from confide.client.ledger.keys import LedgerKeys
from confide.security.chain import Event

Edit = Callable[[Event], Event | None]
"""Event, as it was -> as it is to be; None takes it out."""


def with_less_spent(event: Event) -> Event:
    """Let a run have added more noise than it did."""
    if event.kind != "run":
        return event
    return replace(event, content={**event.content, "noise_multiplier": 50.0})


def rewrite(
    path: Path,
    edit: Edit,
    *,
    anchor: bool = False,
    keys: LedgerKeys | None = None,
    signed: bool = True,
    new_heads: bool = False,
) -> None:
    """Change events, and compute every hash after them anew.

    Args:
        path: the ledger.
        edit: what is done to each event.
        anchor: whether the anchor is written anew as well.
        keys: stolen keys, to sign the newest event with.
        signed: whether the file still says that it is signed.
        new_heads: whether countersigned heads are replaced by hashes that are there.
    """
    events: list[Event] = []
    hashes: dict[str, str] = {}
    for old in LedgerFile(path).log.events:
        new = edit(old)
        if new is None:
            continue
        content = dict(new.content)
        if new_heads and new.kind == "countersigned":
            head = str(content["head"])
            content["head"] = head.replace(head[:64], hashes[head[:64]])
        last = events[-1] if events else None
        new = replace(
            new,
            content=content,
            number=last.number + 1 if last else 1,
            previous=last.hash if last else "",
        )
        hashes[old.hash] = new.hash
        events.append(new)
    connection = sqlite3.connect(path)
    for name in ("events_stay", "events_stand"):
        connection.execute(f"DROP TRIGGER IF EXISTS {name}")
    connection.execute("DELETE FROM events")
    for it in events:
        row = (it.number, it.time, it.kind, json.dumps(it.content), it.previous, it.hash)
        connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", row)
    if keys is not None:
        connection.execute(
            "UPDATE seal SET number = ?, signature = ?",
            (events[-1].number, keys.sign(events[-1].hash)),
        )
    if not signed:
        connection.execute("DROP TABLE seal")
        connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    if anchor:
        place = path.with_name(f"{path.name}.anchor")
        newest = {"number": events[-1].number, "hash": events[-1].hash, "file": file_hash(path)}
        place.write_text(json.dumps(newest))
