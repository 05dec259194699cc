"""What ``confide audit-log`` prints of a log that somebody else wrote."""

from pathlib import Path

import pytest

from confide.audit_log.command import main
from confide.audit_log.files import line_of
from confide.errors import UnreadableError
from confide.security import ec_keys
from confide.security.audit_heads import sign_head
from confide.security.chain import Event
from confide.terminal import plain

NASTY = "\x1b[2J\r\u202e"


def put(folder: Path, *events: tuple[str, dict[str, object]]) -> None:
    """Write a log as somebody could who has its key, and no confide."""
    folder.mkdir()
    last, lines = None, b""
    for number, (kind, content) in enumerate(events, start=1):
        before = last.hash if last else ""
        last = Event(number=number, time=1.0, kind=kind, content=content, previous=before)
        lines += line_of(last)
    assert last is not None
    (folder / "audit-0000000001.jsonl").write_bytes(lines)
    (folder / "audit.head").write_text(
        sign_head(last.number, last.hash, ec_keys.make_key()).to_text()
    )


@pytest.mark.parametrize("words", [["verify"], ["show"], ["export"], ["export", "--format=ocsf"]])
def test_a_log_of_others_cannot_move_the_readers_cursor(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(
        tmp_path / "log",
        ("begun", {"side": f"institution{NASTY}", "name": f"Mill{NASTY}"}),
        (f"odd\n{NASTY}", {f"name{NASTY}": NASTY}),
        ("torn", {"bytes": NASTY, "file": NASTY}),
        ("signer", {"now": NASTY, "before": NASTY}),
    )
    assert main([words[0], str(tmp_path / "log"), *words[1:]]) == 0
    out = capsys.readouterr().out
    assert out
    assert plain(out) == out
    assert out.count("\n") == (1 if words == ["verify"] else 4)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"events": [{}]}',
        '{"events": [1]}',
        '{"events": [{"number": 1, "time": NaN, "kind": "x", "content": {}, "previous": ""}]}',
    ],
)
def test_an_export_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    put(tmp_path / "log", ("begun", {"side": "institution", "name": "Mill"}))
    (tmp_path / "ledger.json").write_text(text)
    with pytest.raises(UnreadableError, match=r"ledger.json is no export of a ledger"):
        main(["verify", str(tmp_path / "log"), "--ledger", str(tmp_path / "ledger.json")])
