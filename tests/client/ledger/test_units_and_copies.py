"""Alarms of a ledger: units that are known elsewhere, and copies of its files."""

import logging
from pathlib import Path

import pytest
from ledger_runs import BUDGET, copied, head_of, opened, terms, train

from confide.client.ledger.file import LedgerFile
from confide.errors import LedgerError

# --- units raise alarms


def test_units_of_another_population_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened(tmp_path).know_units(["ann", "bob", "eve"])
    LedgerFile(tmp_path / "ward.ledger").declare("other", BUDGET)
    with caplog.at_level(logging.WARNING):
        opened(tmp_path, population="other").know_units(["bob", "eve", "joe"])
    assert "2 units of population other belong to another one too: they carry both" in caplog.text


def test_units_new_to_a_charged_population_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = opened(tmp_path)
    ledger.know_units(["ann", "bob"])
    train(ledger)
    with caplog.at_level(logging.WARNING):
        ledger.know_units(["ann", "bob"])
        assert caplog.text == ""
        ledger.know_units(["ann", "joe"])
    assert "1 of 2 units are new to population ward; it was charged before" in caplog.text


def test_unit_hashes_of_two_ledgers_have_nothing_in_common(tmp_path: Path) -> None:
    hashes = []
    for folder in ("x", "y"):
        opened(tmp_path / folder).know_units(["ann", "bob"])
        hashes.append({mac for _, mac in LedgerFile(tmp_path / folder / "ward.ledger").units()})
    assert len(hashes[0]) == len(hashes[1]) == 2
    assert not hashes[0] & hashes[1]


def test_no_unit_id_stands_in_any_file(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.know_units(["patient-4711"])
    train(ledger)
    assert all(
        b"patient-4711" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    )


def test_a_backup_restored_with_its_anchor_is_noticed_by_the_echo(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "now")
    train(ledger, rounds=1)
    backup = copied(tmp_path / "now", "backup")
    ledger.reserve(terms(), 2, "a/2", key=None)
    restored = opened(backup)  # whole in itself
    restored.check_head("")
    with pytest.raises(
        LedgerError,
        match=r"event '[0-9a-f]{16}', which a coordinator has seen: it is an older copy",
    ):
        restored.check_head(head_of(ledger))
    ledger.check_head(head_of(restored))  # an older head is no alarm


def test_a_clone_that_goes_its_own_way_is_noticed_by_the_echo(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "now")
    train(ledger, rounds=1)
    clone = opened(copied(tmp_path / "now", "clone"))
    for one, digest in ((ledger, "a/2"), (clone, "a/2'")):
        one.reserve(terms(), 2, digest, key=None)
    with pytest.raises(LedgerError, match="another machine has a copy too"):
        clone.check_head(head_of(ledger))


@pytest.mark.parametrize("echoed", ["x", "1:", "-1:abc", "999999999999999999999999:a", "2:zz", "1"])
def test_an_echo_that_is_none_is_refused(echoed: str, tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    train(ledger, rounds=1)
    with pytest.raises(LedgerError):
        ledger.check_head(echoed)


def test_the_echo_of_what_another_process_wrote_is_known(tmp_path: Path) -> None:
    one, two = opened(tmp_path), opened(tmp_path)
    train(one, rounds=1)
    two.check_head(head_of(one))


def test_a_ledger_without_its_key_is_refused(tmp_path: Path) -> None:
    train(opened(tmp_path), rounds=1)
    key = tmp_path / "ward.ledger.key"
    raw = key.read_bytes()
    key.unlink()
    with pytest.raises(LedgerError, match="bring the key back"):
        opened(tmp_path).reserve(terms(), 2, "a/2", key=None)
    key.write_bytes(raw[::-1])
    with pytest.raises(LedgerError, match="is not the key of"):
        opened(tmp_path).reserve(terms(), 2, "a/2", key=None)
