"""An audit log is followed while it is written: each event once, whole lines alone."""

import shutil
from pathlib import Path

from confide.audit_log.files import files_of
from confide.audit_log.log import AuditLog
from confide.monitoring.audit_reader import AuditReader
from confide.security import ec_keys
from confide.security.chain import Event

KEY = ec_keys.make_key()


class Numbers:
    """Takes the numbers of events."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def take(self, event: Event) -> None:
        if event.kind == "odd":
            raise KeyError("content")
        self.taken.append(event.number)


def opened(folder: Path, largest: int = 2**20) -> AuditLog:
    return AuditLog(folder, side="institution", name="A", key=KEY, largest=largest)


def test_each_event_is_taken_once_over_files(tmp_path: Path) -> None:
    log, reader = opened(tmp_path, largest=1000), AuditReader(Numbers)
    for _ in range(12):
        log.append("answered", {"round": 1})
        reader.read(tmp_path)
    assert len(files_of(tmp_path)) > 2
    assert reader.problem == ""
    assert reader.last is not None
    assert reader.made.taken == list(range(1, reader.last.number + 1))
    again = AuditReader(Numbers)
    again.read(tmp_path)
    assert again.made.taken == reader.made.taken
    assert [event.number for event in again.tail] == again.made.taken[-50:]


def test_a_line_that_is_being_written_is_taken_when_it_is_whole(tmp_path: Path) -> None:
    reader = AuditReader(Numbers)
    opened(tmp_path).append("answered", {})
    (path,) = files_of(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    reader.read(tmp_path)
    assert (reader.made.taken, reader.problem) == ([1], "")
    path.write_bytes(whole)
    reader.read(tmp_path)
    assert reader.made.taken == [1, 2]


def test_a_torn_line_is_nothing_and_what_takes_its_place_counts(tmp_path: Path) -> None:
    reader = AuditReader(Numbers)
    opened(tmp_path).append("answered", {})
    (path,) = files_of(tmp_path)
    with path.open("ab") as file:
        file.write(b'{"number":3,"time":17')
    reader.read(tmp_path)
    assert reader.made.taken == [1, 2]
    opened(tmp_path).append("answered", {})
    reader.read(tmp_path)
    assert (reader.made.taken, reader.problem) == ([1, 2, 3, 4], "")


def test_a_changed_line_is_told_and_what_was_before_it_stays(tmp_path: Path) -> None:
    log, reader = opened(tmp_path), AuditReader(Numbers)
    for number in range(3):
        log.append("answered", {"round": number})
    (path,) = files_of(tmp_path)
    whole = path.read_text()
    path.write_text(whole.replace('"round":1', '"round":7'))
    for _ in range(2):
        reader.read(tmp_path)
        assert reader.made.taken == [1, 2]
        assert "audit-0000000001.jsonl line 3 is not what was written" in reader.problem
    path.write_text(whole)
    reader.read(tmp_path)
    assert (reader.made.taken, reader.problem) == ([1, 2, 3, 4], "")


def test_a_removed_line_is_told(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for number in range(3):
        log.append("answered", {"round": number})
    (path,) = files_of(tmp_path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2] + lines[3:]))
    reader = AuditReader(Numbers)
    reader.read(tmp_path)
    assert "Event 3 is missing" in reader.problem


def test_another_log_in_its_place_is_read_from_its_beginning(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    log, reader = opened(folder, largest=1000), AuditReader(Numbers)
    for _ in range(8):
        log.append("answered", {})
    reader.read(folder)
    shutil.move(folder, tmp_path / "away")
    reader.read(folder)
    assert (reader.made.taken, reader.problem) == ([], "")
    opened(folder).append("answered", {})
    reader.read(folder)
    assert reader.made.taken == [1, 2]


def test_older_files_may_be_archived(tmp_path: Path) -> None:
    log, reader = opened(tmp_path, largest=1000), AuditReader(Numbers)
    for _ in range(8):
        log.append("answered", {})
    reader.read(tmp_path)
    before = list(reader.made.taken)
    files_of(tmp_path)[0].unlink()
    log.append("answered", {})
    reader.read(tmp_path)
    assert (reader.made.taken[: len(before)], reader.problem) == (before, "")
    assert len(reader.made.taken) > len(before)
    fresh = AuditReader(Numbers)
    fresh.read(tmp_path)
    assert fresh.problem == ""
    assert fresh.made.taken == reader.made.taken[-len(fresh.made.taken) :]


def test_an_event_of_another_release_is_told_and_raises_nothing(tmp_path: Path) -> None:
    opened(tmp_path).append("odd", {})
    reader = AuditReader(Numbers)
    reader.read(tmp_path)
    assert "is an event of another release (KeyError)" in reader.problem


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("a file")
    reader = AuditReader(Numbers)
    reader.read(tmp_path / "audit")
    assert "cannot be listed" in reader.problem
