"""The log beneath a ledger.

Appended or not at all, and every change by somebody else is noticed.
"""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from confide.client.ledger import database
from confide.client.ledger.database import FORMAT
from confide.client.ledger.event_log import EventLog
from confide.errors import LedgerError
from confide.security.chain import Event

SECRET = b"\xa5" * 32


class Clock:
    """A clock that the test sets."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def write(log: EventLog, *words: str) -> None:
    for word in words:
        with log.transaction() as transaction:
            transaction.append(word, {"word": word})


def words(log: EventLog) -> list[str]:
    return [event.kind for event in log.events]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "ward.ledger"
    write(EventLog(found), "one", "two", "three")
    return found


def test_what_was_appended_is_there_when_opened_again(path: Path) -> None:
    log = EventLog(path)
    assert words(log) == ["one", "two", "three"]
    assert log.head == (3, log.events[-1].hash)
    assert log.problems() == []


def test_two_handles_see_each_others_events(path: Path) -> None:
    first, second = EventLog(path), EventLog(path)
    write(first, "four")
    write(second, "five")
    first.read_again()
    assert words(first) == words(second) == ["one", "two", "three", "four", "five"]


def test_a_block_that_raises_appends_nothing(path: Path) -> None:
    log = EventLog(path)

    def fail() -> None:
        with log.transaction() as transaction:
            transaction.append("four", {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert words(log) == words(EventLog(path)) == ["one", "two", "three"]


def test_a_change_without_an_event_is_refused(path: Path) -> None:
    with (
        pytest.raises(ValueError, match="needs an event"),
        EventLog(path).transaction() as transaction,
    ):
        transaction.keep_key("digest", SECRET)
    assert EventLog(path).problems() == []


def test_a_wiped_key_is_in_no_byte_of_the_file(path: Path) -> None:
    log = EventLog(path)
    with log.transaction() as transaction:
        transaction.keep_key("digest", SECRET)
        transaction.append("reserve", {})
    assert SECRET in path.read_bytes()
    with log.transaction() as transaction:
        assert transaction.key("digest") == SECRET
        transaction.wipe_key("digest")
        transaction.append("settle", {})
    assert SECRET not in path.read_bytes()
    with log.transaction() as transaction:
        assert transaction.key("digest") is None


def test_only_the_owner_may_read(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def test_events_cannot_be_changed_through_sqlite(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        for statement in ("DELETE FROM events", "UPDATE events SET kind = 'x'"):
            with pytest.raises(sqlite3.DatabaseError, match="events are only appended"):
                connection.execute(statement)
    connection.close()


# --- what somebody else did


def without_triggers(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in ("DROP TRIGGER events_stay", "DROP TRIGGER events_stand", *statements):
        connection.execute(statement)
    connection.commit()
    connection.close()


TAMPERING: dict[str, tuple[str, ...]] = {
    "a changed event": ('UPDATE events SET content = \'{"word": "zwei"}\' WHERE number = 2',),
    "a deleted event": ("DELETE FROM events WHERE number = 2",),
    "a deleted first event": ("DELETE FROM events WHERE number = 1",),
    "a cut tail": ("DELETE FROM events WHERE number = 3",),
    "reordered events": (
        "UPDATE events SET number = 9 WHERE number = 2",
        "UPDATE events SET number = 2 WHERE number = 3",
        "UPDATE events SET number = 3 WHERE number = 9",
    ),
    "another time": ("UPDATE events SET time = time - 1 WHERE number = 3",),
    "nothing but a trigger": (),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_tampering_is_noticed_when_the_file_is_opened(what: str, path: Path) -> None:
    without_triggers(path, *TAMPERING[what])
    with pytest.raises(LedgerError, match="Nothing is trained on it"):
        EventLog(path)


@pytest.mark.parametrize("what", ["a cut tail", "reordered events"])
def test_tampering_at_the_end_is_noticed_by_who_has_it_open(what: str, path: Path) -> None:
    log = EventLog(path)
    without_triggers(path, *TAMPERING[what])
    with pytest.raises(LedgerError), log.transaction():
        pass


def test_a_rewritten_chain_is_noticed_by_its_anchor(path: Path) -> None:
    """Somebody who may write the file can compute every hash anew; the anchor knows better."""
    events = list(EventLog(path).events)
    changed, before = [], ""
    for event in events:
        content = {"word": "zwei"} if event.number == 2 else event.content
        made = Event(
            number=event.number, time=event.time, kind=event.kind, content=content, previous=before
        )
        changed.append(made)
        before = made.hash
    rows = [
        f"({e.number}, {e.time}, '{e.kind}', '{json.dumps(e.content)}', '{e.previous}', '{e.hash}')"
        for e in changed
    ]
    without_triggers(path, "DELETE FROM events", f"INSERT INTO events VALUES {', '.join(rows)}")
    with pytest.raises(LedgerError, match="Event 3 is not the one that its anchor knows"):
        EventLog(path)


def test_no_flipped_byte_goes_unseen(path: Path) -> None:
    whole = path.read_bytes()
    for position in (*range(0, 120), *range(120, len(whole), 61), len(whole) - 1):
        flipped = bytearray(whole)
        flipped[position] ^= 0x40
        path.write_bytes(flipped)
        with pytest.raises(LedgerError):
            EventLog(path)
    path.write_bytes(whole)
    assert EventLog(path).problems() == []


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_noticed(share: float, path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(LedgerError):
        EventLog(path)


def test_an_older_copy_put_back_is_noticed(path: Path) -> None:
    backup = path.with_name("backup")
    shutil.copy(path, backup)
    log = EventLog(path)
    write(log, "four")
    shutil.copy(backup, path)
    with pytest.raises(LedgerError, match="its anchor knows of event 4: this is an older copy"):
        EventLog(path)
    with (
        pytest.raises(LedgerError, match="event 4 is missing or is not the one"),
        log.transaction(),
    ):
        pass


def test_a_removed_file_or_anchor_is_noticed(path: Path) -> None:
    log = EventLog(path)
    anchor = log.anchor.read_text()
    log.anchor.unlink()
    with pytest.raises(LedgerError, match="is missing"):
        EventLog(path)
    log.anchor.write_text("{}")
    with pytest.raises(LedgerError, match=r"anchor cannot be read"):
        EventLog(path)
    log.anchor.write_text(anchor)
    path.unlink()
    with pytest.raises(LedgerError, match="is gone"):
        EventLog(path)
    with pytest.raises(LedgerError, match="is gone"), log.transaction():
        pass


def test_the_anchor_may_lag_behind_by_what_a_killed_process_committed(path: Path) -> None:
    log = EventLog(path)
    anchor = log.anchor.read_text()
    write(log, "four")
    log.anchor.write_text(anchor)
    again = EventLog(path)
    assert words(again) == ["one", "two", "three", "four"]
    write(again, "five")
    assert json.loads(log.anchor.read_text())["number"] == 5


def test_an_anchor_elsewhere_outlives_the_folder(tmp_path: Path) -> None:
    anchor = tmp_path / "other-disk"
    log = EventLog(tmp_path / "a" / "ward.ledger", anchor=anchor)
    write(log, "one")
    shutil.copytree(tmp_path / "a", tmp_path / "backup")
    write(log, "two")
    shutil.rmtree(tmp_path / "a")
    shutil.move(tmp_path / "backup", tmp_path / "a")
    with pytest.raises(LedgerError, match="an older copy"):
        EventLog(tmp_path / "a" / "ward.ledger", anchor=anchor)


def test_an_anchor_that_is_an_older_copy_is_noticed(path: Path) -> None:
    log = EventLog(path)
    anchor = log.anchor.read_text()
    write(log, *"45678")
    log.anchor.write_text(anchor)
    with pytest.raises(LedgerError, match="knows of 3 of 8 events: the anchor is an older copy"):
        EventLog(path)
    log.anchor.write_text('{"number": 0, "hash": "", "file": ""}')
    with pytest.raises(LedgerError, match="knows of 0 of 8 events"):
        EventLog(path)


def test_a_handle_from_before_the_first_event_makes_no_new_anchor(tmp_path: Path) -> None:
    early = EventLog(tmp_path / "x")
    write(EventLog(tmp_path / "x"), "one")
    early.anchor.unlink()
    with pytest.raises(LedgerError, match="is missing"):
        write(early, "two")


def test_a_hash_does_not_tell_what_it_covers(tmp_path: Path) -> None:
    logs = [EventLog(tmp_path / name, now_fn=Clock()) for name in "xy"]
    for log in logs:
        write(log, "one")
    assert logs[0].events[0].hash != logs[1].events[0].hash  # same number, time, kind and content


def test_a_commit_is_on_the_disk_when_it_returns(path: Path) -> None:
    connection = database.connect(path)
    values = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("synchronous", "journal_mode", "secure_delete")
    }
    connection.close()
    assert values == {"synchronous": 3, "journal_mode": "delete", "secure_delete": 1}


def test_a_file_of_a_newer_release_is_refused(path: Path) -> None:
    without_triggers(path, f"PRAGMA user_version = {FORMAT + 1}")
    with pytest.raises(
        LedgerError,
        match=rf"It has format {FORMAT + 1}, this release reads up to {FORMAT}; use a newer",
    ):
        EventLog(path)


def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("my notes")
    with pytest.raises(LedgerError, match="cannot be read"):
        EventLog(tmp_path / "x")


# --- clock, disk, company


def test_a_clock_that_goes_back_is_an_error(tmp_path: Path) -> None:
    clock = Clock()
    log = EventLog(tmp_path / "x", now_fn=clock)
    write(log, "one")
    clock.now -= 100.0  # a correction
    write(log, "two")
    assert log.events[1].time == log.events[0].time
    clock.now -= 1000.0
    with pytest.raises(LedgerError, match="the clock is 1100 s behind the newest event"):
        write(log, "three")
    assert words(EventLog(tmp_path / "x")) == ["one", "two"]


def test_threads_that_write_at_once_lose_nothing(path: Path) -> None:
    def work(number: int) -> None:
        log = EventLog(path)
        for turn in range(5):
            write(log, f"{number}/{turn}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = EventLog(path)
    assert len(log.events) == 3 + 20
    assert log.problems() == []


def test_waiting_for_another_process_is_bounded(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("confide.client.ledger.database._LOCK_TIMEOUT_S", 0.1)
    log = EventLog(path)
    with (
        log.transaction() as transaction,
        pytest.raises(LedgerError, match=r"Another process has held .* for 0.1 s"),
        EventLog(path).transaction(),
    ):
        transaction.append("never", {})


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a disk of 256 KiB; mount it again with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a tmpfs")

    def mount(options: str) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "confide", folder],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.skip(f"no tmpfs here: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", "-l", folder], check=False)


def test_a_full_disk_is_an_error_and_what_stood_there_stands(
    mounted: Callable[[str], Path],
) -> None:
    folder = mounted("size=256k")
    log = EventLog(folder / "ward.ledger")
    write(log, "one")
    (folder / "ballast").write_bytes(b"x" * 2**17)
    with contextlib.suppress(OSError), (folder / "more").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    with pytest.raises(LedgerError, match=r"cannot be written: .*(full|space)"):
        write(log, "two", "three", "four", "five", "six", "seven", "eight")
    (folder / "ballast").unlink()
    again = EventLog(folder / "ward.ledger")
    assert words(again)[0] == "one"
    write(again, "after")
    assert EventLog(folder / "ward.ledger").problems() == []


def test_a_read_only_disk_can_be_read_and_not_written(mounted: Callable[[str], Path]) -> None:
    folder = mounted("size=1m")
    write(EventLog(folder / "ward.ledger"), "one")
    mounted("remount,ro")
    log = EventLog(folder / "ward.ledger")
    assert words(log) == ["one"]
    with pytest.raises(LedgerError, match=r"cannot be written: .*Read-only"):
        write(log, "two")
