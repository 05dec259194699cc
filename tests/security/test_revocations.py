"""The signed list of revoked keys: what is believed of it, and what is not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from confide.errors import UnreadableError
from confide.security import certificates, ec_keys
from confide.security.revocations import Revocations, RevokedKey, read_revocations

KEY = ec_keys.make_key()
AUTHORITY = certificates.make_authority("heart", KEY)
FINGERPRINT = ec_keys.key_fingerprint(ec_keys.make_key().public_key())
ENTRY = RevokedKey(key=FINGERPRINT, name="Hungary", since="2026-11-30")


def listed(*entries: RevokedKey) -> Revocations:
    return Revocations(authority=certificates.fingerprint(AUTHORITY)).plus(entries)


def test_a_signed_list_is_believed_after_it_was_written(tmp_path: Path) -> None:
    signed = listed(ENTRY).signed_by(KEY)
    (tmp_path / "revoked.json").write_text(signed.to_text())
    read = read_revocations(tmp_path / "revoked.json")
    read.check(AUTHORITY, "here")
    assert read == signed
    assert read.get(FINGERPRINT) == ENTRY
    assert read.of("Hungary") == [ENTRY]
    assert read.get("SHA256:another") is None


def test_each_change_has_a_number_and_takes_the_signature_off() -> None:
    first = listed(ENTRY).signed_by(KEY)
    assert first.plus([ENTRY]) is first
    second = first.plus([replace(ENTRY, key="SHA256:other")])
    assert (first.number, second.number, second.signature) == (1, 2, "")
    assert len(second.keys) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"number": 2},
        {"keys": []},
        {"keys": [{"key": FINGERPRINT, "name": "Cleveland", "since": "2026-11-30"}]},
        {"signature": ""},
        {"signature": "AAAA"},
        {"signature": "no base64"},
    ],
)
def test_a_list_that_was_changed_is_not_believed(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "revoked.json"
    path.write_text(json.dumps(json.loads(listed(ENTRY).signed_by(KEY).to_text()) | change))
    with pytest.raises(UnreadableError, match="not signed by the federation's authority"):
        read_revocations(path).check(AUTHORITY, str(path))


def test_a_list_of_another_authority_is_not_believed() -> None:
    other = certificates.make_authority("heart", ec_keys.make_key())
    with pytest.raises(UnreadableError, match="list of another federation"):
        listed(ENTRY).signed_by(KEY).check(other, "here")
    # Whoever signs for itself in this federation's name
    forged = listed(ENTRY).signed_by(ec_keys.make_key())
    with pytest.raises(UnreadableError, match="not signed"):
        forged.check(AUTHORITY, "here")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"authority": "", "number": 1, "keys": [{"key": "x"}], "signature": ""}',
        '{"authority": "", "number": "1", "keys": [], "signature": ""}',
        '{"authority": 1, "number": 1, "keys": [], "signature": ""}',
        '{"keys": []}',
        "9" * 2**21,
    ],
)
def test_what_is_no_list_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "revoked.json"
    path.write_text(text)
    with pytest.raises(UnreadableError, match=r"revoked\.json cannot be read as a list of revoked"):
        read_revocations(path)


def test_where_there_is_no_file_nobody_is_revoked(tmp_path: Path) -> None:
    assert read_revocations(tmp_path / "revoked.json").keys == ()
    with pytest.raises(UnreadableError, match="Is a directory"):
        read_revocations(tmp_path)
