"""Whatever is done to an audit log afterwards is told, with the line where it breaks."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from confide.audit_log.files import files_of, line_of, parse_line
from confide.audit_log.log import AuditLog
from confide.audit_log.verify import verify
from confide.errors import UnreadableError
from confide.security import ec_keys
from confide.security.audit_heads import sign_head
from confide.security.chain import Event

KEY = ec_keys.make_key()
FINGERPRINT = ec_keys.key_fingerprint(KEY.public_key())


@pytest.fixture(name="folder")
def make_log(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    log = AuditLog(folder, side="institution", name="Mill", key=KEY, largest=2000)
    for number in range(20):
        log.append("answered", {"round": number})
    assert len(files_of(folder)) >= 3
    assert verify(folder, keys=[FINGERPRINT]).problems == []
    return folder


def problems(folder: Path) -> str:
    return " ".join(verify(folder, keys=[FINGERPRINT]).problems)


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def edited(path: Path, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(edit(lines(path))))


def forged(path: Path) -> None:
    """Change an event, and compute all hashes of its file after it anew."""
    last: Event | None = None
    out = []
    for raw in lines(path):
        event = parse_line(raw)
        if event.content.get("round") == 1:
            event = replace(event, content={"round": 99})
        if last is not None:
            event = replace(event, previous=last.hash)
        out.append(line_of(event))
        last = event
    path.write_bytes(b"".join(out))


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda it: [*it[:2], it[2].replace(b'"round":1', b'"round":4'), *it[3:]], "line 3: not"),
        (lambda it: [*it[:2], *it[3:]], "line 3: Event 3 is missing"),
        (lambda it: [it[0], it[2], it[1], *it[3:]], "line 2: Event 2 is missing"),
        (lambda it: [*it[:3], it[2], *it[3:]], "line 4: Event 4 is missing"),
        (lambda it: [it[0], it[1].replace(b'":', b'": ', 1), *it[2:]], "line 2: not what was"),
        (lambda it: [it[0], b"{}\n", *it[2:]], "line 2: not what was written: it is no event"),
        (lambda it: [it[0], b"[" * 100_000 + b"\n", *it[2:]], "line 2: not what was written"),
        (lambda it: it[1:], "line 1: Event 1 is missing"),
        (lambda it: it[:-1], "line 1: Event"),
        (lambda it: [], "is empty, and another file follows"),
    ],
)
def test_a_changed_first_file_is_told_by_its_line(
    folder: Path, edit: Callable[[list[bytes]], list[bytes]], told: str
) -> None:
    edited(files_of(folder)[0], edit)
    assert told in problems(folder)


def test_a_key_that_stands_twice_in_a_line_is_told(folder: Path) -> None:
    path = files_of(folder)[0]
    edited(path, lambda it: [it[0], it[1][:-2] + b',"kind":"answered"}\n', *it[2:]])
    assert "line 2: not what was written: it is written in another way" in problems(folder)


def test_a_file_that_is_gone_is_told(folder: Path) -> None:
    for place, told in ((0, "Event 1 is missing"), (1, "is missing"), (-1, "was cut off")):
        copy = folder.with_name(f"copy{place}")
        shutil.copytree(folder, copy)
        files_of(copy)[place].unlink()
        assert told in problems(copy)


def test_a_file_under_another_name_is_told(folder: Path) -> None:
    files = files_of(folder)
    files[0].rename(folder / "audit-0000000002.jsonl")
    assert "audit-0000000002.jsonl line 1: It is event 1, and the file is named" in problems(folder)


def test_an_end_that_was_cut_off_is_told_by_the_head(folder: Path) -> None:
    edited(files_of(folder)[-1], lambda it: it[:-1])
    assert "its signed head names event" in problems(folder)
    for path in files_of(folder):
        path.unlink()
    assert "It has no event, and its signed head names event" in problems(folder)
    (folder / "audit.head").unlink()
    with pytest.raises(UnreadableError, match="holds no audit log"):
        verify(folder)


def test_a_head_that_is_gone_or_unreadable_is_told(folder: Path) -> None:
    (folder / "audit.head").write_text("[]")
    assert "audit.head cannot be read: expected number" in problems(folder)
    (folder / "audit.head").unlink()
    assert "Its signed head audit.head is gone." in problems(folder)


def test_a_chain_that_was_computed_anew_is_told_without_the_key(folder: Path) -> None:
    forged(files_of(folder)[0])
    assert f"{files_of(folder)[1].name} line 1: Event" in problems(folder)
    for path in files_of(folder)[1:]:
        path.unlink()
    last = parse_line(lines(files_of(folder)[0])[-1])
    other = sign_head(last.number, last.hash, ec_keys.make_key())
    (folder / "audit.head").write_text(other.to_text())
    assert f"and not by {FINGERPRINT}" in problems(folder)
    own = json.loads(other.to_text()) | {"key": ec_keys.public_line(KEY.public_key()).strip()}
    (folder / "audit.head").write_text(json.dumps(own))
    assert "is not signed with the key that stands in it" in problems(folder)


def test_an_older_copy_is_told_by_a_head_that_was_kept(folder: Path) -> None:
    older = folder.with_name("older")
    shutil.copytree(folder, older)
    log = AuditLog(folder, side="institution", name="Mill", key=KEY)
    kept = log.append("answered", {"round": 20}).hash
    assert verify(folder, keys=[FINGERPRINT], heads=[kept]).problems == []
    assert verify(older, keys=[FINGERPRINT]).problems == []
    told = verify(older, keys=[FINGERPRINT], heads=[kept]).problems
    assert told == [
        f"It does not hold event {kept[:16]}, which was kept elsewhere: its end was cut off, or it"
        " was written anew."
    ]


def test_archived_files_are_vouched_for_by_their_last_hash(folder: Path) -> None:
    first = files_of(folder)[0]
    last = parse_line(lines(first)[-1])
    first.rename(folder.parent / first.name)
    assert "give --after HASH" in problems(folder)
    assert verify(folder, keys=[FINGERPRINT], after=last.hash).problems == []
    assert "does not follow the archived event" in verify(folder, after="0" * 64).problems[0]


def test_a_folder_without_a_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"holds no audit log .*state/trainer/audit"):
        verify(tmp_path)
    with pytest.raises(UnreadableError, match="nowhere cannot be opened: No such file"):
        verify(tmp_path / "nowhere")


def written(folder: Path, time: float) -> Path:
    """Write a log of one event, signed, that no release writes."""
    content = {"side": "institution", "name": "Mill", "format": 1}
    event = Event(number=1, time=time, kind="begun", content=content, previous="")
    folder.mkdir()
    (folder / "audit-0000000001.jsonl").write_bytes(line_of(event))
    (folder / "audit.head").write_text(sign_head(1, event.hash, KEY).to_text())
    return folder


@pytest.mark.parametrize("time", [1e300, -1e11, 2.6e11])
def test_a_time_that_no_calendar_has_is_told(time: float, tmp_path: Path) -> None:
    assert "line 1: not what was written: its time is none" in problems(
        written(tmp_path / "another", time)
    )


def put_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def put_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def put_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


@pytest.mark.parametrize("put", [put_pipe, put_folder, put_link_to_nothing])
@pytest.mark.parametrize("name", ["audit-0000000001.jsonl", "audit.head"])
def test_what_is_no_file_is_told_and_not_waited_for(
    name: str, put: Callable[[Path], None], folder: Path
) -> None:
    put(folder / name)
    try:
        told = problems(folder)
    except UnreadableError as error:
        told = str(error)
    assert f"{name} cannot be read" in told or "head audit.head is gone" in told


def test_a_head_of_brackets_inside_brackets_is_told(folder: Path) -> None:
    (folder / "audit.head").write_text("[" * 60_000)
    assert "audit.head cannot be read" in problems(folder)


def test_a_file_with_digits_of_another_script_is_none_of_the_log(folder: Path) -> None:
    (folder / "audit-\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0661.jsonl").touch()
    assert problems(folder) == ""


def test_a_log_is_written_while_it_is_verified(folder: Path) -> None:
    log = AuditLog(folder, side="institution", name="Mill", key=KEY, largest=2000)
    seen = 0

    def write(event: Event) -> None:
        nonlocal seen
        seen = event.number
        if event.number % 5 == 0:
            log.append("answered", {"round": event.number})

    before = log.newest_first()
    last = next(before).number
    found = verify(folder, keys=[FINGERPRINT], take_fn=write)
    assert (found.problems, seen) == ([], last)
    now = verify(folder, keys=[FINGERPRINT])
    assert now.problems == []
    assert now.last is not None
    assert now.last.number > last
