"""A ledger is read beside its trainer: whole or not at all, and nothing ever waits for it."""

import contextlib
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from ledger_runs import DELTA, REPLY, UPDATE, name, opened, terms, train

from confide.client.ledger import database
from confide.client.ledger.file import LedgerFile
from confide.client.monitoring.ledger_reader import LedgerReader, LedgerSeen
from confide.config.privacy import BudgetConfig

FEW_S = 10.0


def read(folder: Path, reader: LedgerReader | None = None) -> LedgerSeen:
    path = folder / "ward.ledger"
    return (reader or LedgerReader()).read(path, path.with_name("ward.ledger.anchor"))


def test_no_ledger_is_none_and_one_that_is_gone_is_damage(tmp_path: Path) -> None:
    assert read(tmp_path) == LedgerSeen(condition="none")
    train(opened(tmp_path), rounds=1)
    (tmp_path / "ward.ledger").unlink()
    seen = read(tmp_path)
    assert seen.condition == "damaged"
    assert "is gone, and its anchor" in seen.problem


def test_budgets_are_those_of_the_ledger_rounded_up(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    train(ledger, rounds=2)
    seen = read(tmp_path)
    (account,) = seen.accounts
    population = LedgerFile(tmp_path / "ward.ledger").state.populations["ward"]
    assert seen.condition == "sound"
    assert (account.population, account.unit, account.budget, account.delta) == (
        "ward",
        "record",
        8.0,
        DELTA,
    )
    for rounded, exact in (
        (account.spent, population.spent),
        (account.committed, population.committed),
    ):
        assert exact <= rounded < exact + 0.01 + 1e-9
        assert rounded == round(rounded, 2)
    assert 0 < account.spent < account.committed
    assert account.left == pytest.approx(8.0 - account.committed)


def test_nothing_is_left_of_a_budget_that_was_lowered(tmp_path: Path) -> None:
    train(opened(tmp_path), rounds=1)
    file = LedgerFile(tmp_path / "ward.ledger")
    file.declare("ward", BudgetConfig(epsilon=0.5, delta=DELTA))
    (account,) = read(tmp_path).accounts
    assert account.left == 0.0


def test_a_round_is_under_way_between_its_charge_and_its_answer(tmp_path: Path) -> None:
    ledger, reader = opened(tmp_path), LedgerReader()
    assert read(tmp_path, reader).under_way is None
    before = time.time()
    ledger.reserve(terms(), 3, "a/3", key=None)
    under_way = read(tmp_path, reader).under_way
    assert under_way is not None
    assert (under_way.job, under_way.server_round) == ("a", 3)
    assert before - 1 <= under_way.since <= time.time() + 1
    ledger.settle(name("a"), "a/3", REPLY, UPDATE)
    assert read(tmp_path, reader).under_way is None


def test_approvals_are_told(tmp_path: Path) -> None:
    train(opened(tmp_path), rounds=1)
    LedgerFile(tmp_path / "ward.ledger").approve("trial", "abc")
    assert read(tmp_path).approved == {("trial", "abc")}


def test_a_ledger_that_did_not_change_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, reader = opened(tmp_path), LedgerReader()
    train(ledger, rounds=1)
    first = read(tmp_path, reader)
    copies: list[Path] = []
    plain = Path.read_bytes

    def counted(path: Path) -> bytes:
        copies.append(path)
        return plain(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    assert all(read(tmp_path, reader) is first for _ in range(100))
    assert copies == []
    ledger.reserve(terms(), 2, "a/2", key=None)
    assert read(tmp_path, reader) is not first
    assert copies.count(tmp_path / "ward.ledger") == 1


# --- a trainer beside it


def test_locks_of_a_writer_keep_no_reader_waiting(tmp_path: Path) -> None:
    train(opened(tmp_path), rounds=1)
    path = tmp_path / "ward.ledger"
    started = time.monotonic()
    with (
        database.locked(tmp_path / "ward.ledger.lock"),
        contextlib.closing(database.connect(path)) as writer,
    ):
        writer.execute("BEGIN EXCLUSIVE")
        # Nothing is written yet, and so the last commit is what there is
        assert read(tmp_path).condition == "sound"
        writer.execute("ROLLBACK")
    assert time.monotonic() - started < FEW_S


def test_a_reader_holds_no_lock_that_a_writer_could_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(opened(tmp_path), rounds=1)
    path = tmp_path / "ward.ledger"
    plain, met = Path.read_bytes, []

    def meets(file: Path) -> bytes:
        data = plain(file)
        # In the midst of the reading: a reader of SQLite's would make this one wait
        with contextlib.closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as writer:
            writer.execute("BEGIN EXCLUSIVE")
            writer.execute("ROLLBACK")
        with database.locked(path.with_name("ward.ledger.lock")):
            met.append(file)
        return data

    monkeypatch.setattr(Path, "read_bytes", meets)
    assert read(tmp_path).condition == "sound"
    assert met == [path]


def test_a_transaction_under_way_leaves_what_was_known(tmp_path: Path) -> None:
    train(opened(tmp_path), rounds=1)
    path, reader = tmp_path / "ward.ledger", LedgerReader()
    known = read(tmp_path, reader)
    journal = path.with_name("ward.ledger-journal")
    journal.touch()  # as SQLite does before it changes a byte
    path.touch()
    assert read(tmp_path, reader) is known
    fresh = read(tmp_path)
    assert fresh.condition == "unknown"
    assert "is being written" in fresh.problem
    journal.unlink()
    assert read(tmp_path).condition == "sound"


def test_what_a_writer_does_meanwhile_is_seen_whole(tmp_path: Path) -> None:
    ledger, reader, done = opened(tmp_path), LedgerReader(), threading.Event()
    train(ledger, rounds=1)
    seen = [read(tmp_path, reader)]

    def follow() -> None:
        while not done.is_set():
            seen.append(read(tmp_path, reader))

    thread = threading.Thread(target=follow)
    thread.start()
    for number in range(2, 5):
        for job in "abc":
            ledger.reserve(terms(job), number, f"{job}/{number}", key=None)
            ledger.settle(name(job), f"{job}/{number}", REPLY, UPDATE)
    done.set()
    thread.join()
    assert {one.condition for one in seen} == {"sound"}
    spent = [one.accounts[0].spent for one in seen]
    assert spent == sorted(spent)
    assert read(tmp_path, reader).accounts[0].spent > spent[0]


# --- damages


def test_an_anchor_that_lags_after_a_kill_is_sound(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    train(ledger, rounds=1)
    anchor = tmp_path / "ward.ledger.anchor"
    shutil.copy(anchor, tmp_path / "kept")
    ledger.reserve(terms(), 2, "a/2", key=None)
    shutil.copy(tmp_path / "kept", anchor)
    assert read(tmp_path).condition == "sound"


@pytest.mark.parametrize(
    "damage", ["anchor missing", "older copy", "a byte", "half", "no database"]
)
def test_a_damaged_ledger_is_told_as_the_trainer_tells_it(tmp_path: Path, damage: str) -> None:
    ledger = opened(tmp_path)
    path = tmp_path / "ward.ledger"
    train(ledger, rounds=1)
    before = path.read_bytes()
    train(ledger, job="b", rounds=3)
    data = path.read_bytes()
    if damage == "anchor missing":
        (tmp_path / "ward.ledger.anchor").unlink()
    else:
        path.write_bytes(
            {
                "older copy": before,
                "a byte": data.replace(b'"round": 2', b'"round": 3', 1),
                "half": data[: len(data) // 2],
                "no database": b"x" * len(data),
            }[damage]
        )
        assert path.read_bytes() != data
    seen = read(tmp_path)
    assert seen.condition == "damaged"
    assert str(path) in seen.problem
    assert seen.accounts == ()


def test_a_ledger_of_a_newer_release_is_unknown(tmp_path: Path) -> None:
    train(opened(tmp_path), rounds=1)
    with contextlib.closing(database.connect(tmp_path / "ward.ledger")) as writer:
        writer.execute("PRAGMA user_version = 99")
    seen = read(tmp_path)
    assert (seen.condition, "newer release" in seen.problem) == ("unknown", True)


def test_a_ledger_of_another_users_is_unknown(tmp_path: Path) -> None:
    train(opened(tmp_path), rounds=1)
    path = tmp_path / "ward.ledger"
    path.unlink()
    path.mkdir()  # what root, too, cannot read
    seen = read(tmp_path)
    assert (seen.condition, "cannot be read" in seen.problem) == ("unknown", True)
