"""An audit log stays one chain through kills, full disks, rotation and other processes."""

import itertools
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from confide.audit_log import files as log_files
from confide.audit_log import log as writing
from confide.audit_log.files import files_of, lines_of
from confide.audit_log.log import AuditLog
from confide.audit_log.verify import verify
from confide.errors import ConfideError, StorageError, UnreadableError
from confide.security import ec_keys
from confide.security.chain import Event

KEY = ec_keys.make_key()
FINGERPRINT = ec_keys.key_fingerprint(KEY.public_key())
WRITER = """
import sys
from pathlib import Path
from confide.audit_log.log import AuditLog
from confide.security.ec_keys import read_private_key
key = read_private_key(Path(sys.argv[2]))
log = AuditLog(Path(sys.argv[1]), side="institution", name="A", key=key, largest=20_000)
while True:
    print(log.append("answered", {"by": sys.argv[3], "pad": "x" * 3000}).number, flush=True)
"""


def opened(folder: Path, **settings: float) -> AuditLog:
    largest = int(settings.get("largest", 2**20))
    now_fn = (lambda: settings["now"]) if "now" in settings else time.time
    return AuditLog(
        folder, side="institution", name="Mill", key=KEY, largest=largest, now_fn=now_fn
    )


def written(folder: Path, count: int, **settings: float) -> AuditLog:
    log = opened(folder, **settings)
    for number in range(count):
        log.append("answered", {"round": number})
    return log


def events(folder: Path) -> list[Event]:
    taken: list[Event] = []
    found = verify(folder, keys=[FINGERPRINT], take_fn=taken.append)
    assert found.problems == []
    return taken


def kinds(folder: Path) -> list[str]:
    return [event.kind for event in events(folder)]


def test_a_log_begins_with_whose_it_is_and_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    written(folder, 2)
    assert kinds(folder) == ["begun", "answered", "answered"]
    assert events(folder)[0].content == {"side": "institution", "name": "Mill", "format": 1}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in (*files_of(folder), folder / "audit.head"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_new_file_names_the_last_hash_of_the_one_before(tmp_path: Path) -> None:
    written(tmp_path, 30, largest=1500)
    files = files_of(tmp_path)
    assert len(files) > 3
    for before, after in itertools.pairwise(files):
        last = list(lines_of(before))[-1].event
        first = next(lines_of(after)).event
        assert last is not None
        assert first is not None
        assert first.kind == "continued"
        assert first.content["last"] == first.previous == last.hash
        assert after.name == f"audit-{first.number:010}.jsonl"
    assert [event.content["round"] for event in events(tmp_path) if "round" in event.content] == [
        *range(30)
    ]


def test_writers_take_turns_and_continue_each_other(tmp_path: Path) -> None:
    one, two = opened(tmp_path, largest=2000), opened(tmp_path, largest=2000)
    for number in range(10):
        (one, two)[number % 2].append("answered", {"round": number})
    found = [event.content["round"] for event in events(tmp_path) if event.kind == "answered"]
    assert found == [*range(10)]


def test_a_process_that_was_stopped_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(tmp_path / "log")
    held = (
        "import fcntl, os, signal, sys\n"
        "fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)\n"
        "print(flush=True)\n"
        "os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    monkeypatch.setattr(log_files, "LOCK_TIMEOUT_S", 0.1)
    with subprocess.Popen(
        [sys.executable, "-c", held, str(log.folder)], stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout is not None
            holder.stdout.readline()
            with pytest.raises(StorageError, match=r"for 0\.1 s: `fuser"):
                log.append("answered", {})
        finally:
            holder.kill()
    assert log.append("answered", {}).kind == "answered"


def test_a_torn_line_is_kept_aside_and_said(tmp_path: Path) -> None:
    written(tmp_path / "whole", 3)
    data = files_of(tmp_path / "whole")[0].read_bytes()
    end = data.rstrip(b"\n").rfind(b"\n") + 1
    for length in (end + 1, end + 40, len(data) - 1):
        folder = tmp_path / str(length)
        written(folder, 2)
        path = files_of(folder)[0]
        begun = path.stat().st_size
        torn = data[end:length]
        path.write_bytes(path.read_bytes() + torn)
        assert any("not written to its end" in note for note in verify(folder).notes)
        opened(folder).append("answered", {"round": 9})
        assert kinds(folder) == ["begun", "answered", "answered", "torn", "answered"]
        said = events(folder)[3].content
        assert (folder / said["file"]).read_bytes() == torn
        assert said["file"] == f"{path.name}.torn-{begun}-{said['sha256'][:8]}"


def test_a_torn_first_line_of_a_log_or_a_file_is_said_too(tmp_path: Path) -> None:
    tmp_path.joinpath("audit-0000000001.jsonl").write_bytes(b'{"number":1,')
    opened(tmp_path).append("answered", {})
    assert kinds(tmp_path) == ["begun", "torn", "answered"]
    tmp_path.joinpath("audit-0000000004.jsonl").write_bytes(b'{"number":4,' + b"x" * 4000)
    opened(tmp_path).append("answered", {})
    assert kinds(tmp_path)[3:] == ["continued", "torn", "answered"]


def test_a_torn_line_of_a_full_file_is_said_in_that_file(tmp_path: Path) -> None:
    written(tmp_path, 2)
    path = files_of(tmp_path)[0]
    path.write_bytes(path.read_bytes() + b'{"number":4')
    opened(tmp_path, largest=100).append("answered", {})
    assert kinds(tmp_path)[3:] == ["torn", "continued", "answered"]
    assert path.read_bytes().endswith(b"}\n")
    path.write_bytes(path.read_bytes() + b"{")
    assert "ends with a piece of a line, and another" in verify(tmp_path).problems[0]


def test_another_end_of_a_line_is_no_end(tmp_path: Path) -> None:
    written(tmp_path, 2)
    path = files_of(tmp_path)[0]
    changed = path.read_bytes().replace(b'"round":1', b'"round"\r:1')
    path.write_bytes(changed)
    with pytest.raises(UnreadableError, match="line 3 is not what was written"):
        opened(tmp_path).append("answered", {})
    assert path.read_bytes() == changed


def test_the_last_event_may_lack_its_signature_and_the_next_writer_signs_it(
    tmp_path: Path,
) -> None:
    written(tmp_path, 2)
    head = (tmp_path / "audit.head").read_bytes()
    written(tmp_path, 1)
    (tmp_path / "audit.head").write_bytes(head)
    found = verify(tmp_path, keys=[FINGERPRINT])
    assert not found.problems
    assert "Event 4 is not signed yet" in " ".join(found.notes)
    opened(tmp_path).append("answered", {})
    assert verify(tmp_path, keys=[FINGERPRINT]).notes == []


def test_a_clock_that_was_ahead_is_said_and_small_steps_back_are_not(tmp_path: Path) -> None:
    written(tmp_path, 1, now=10_000.0)
    written(tmp_path, 1, now=9_990.0)
    written(tmp_path, 1, now=1_000.0)
    assert kinds(tmp_path) == ["begun", "answered", "answered", "clock", "answered"]
    assert [event.time for event in events(tmp_path)] == [1e4, 1e4, 1e4, 1e3, 1e3]


def test_another_signing_key_is_an_event(tmp_path: Path) -> None:
    written(tmp_path, 1)
    other = ec_keys.make_key()
    AuditLog(tmp_path, side="institution", name="Mill", key=other).append("answered", {})
    found = verify(tmp_path)
    assert not found.problems
    assert f"Event 3: from here on {ec_keys.key_fingerprint(other.public_key())} signs" in str(
        found.notes
    )
    assert verify(tmp_path, keys=[FINGERPRINT]).problems


def test_a_log_that_is_not_whole_takes_no_more(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    path = files_of(tmp_path)[0]
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"round":1', b'"round":7'))
    with pytest.raises(UnreadableError, match=r"line 3 is not what was written.*move it away"):
        opened(tmp_path)
    path.write_bytes(whole[: whole.rstrip(b"\n").rfind(b"\n") + 1])
    for use in (lambda: log.append("answered", {}), lambda: opened(tmp_path)):
        with pytest.raises(UnreadableError):
            use()


def test_what_cannot_be_written_is_an_error_and_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = written(tmp_path, 1)
    before = files_of(tmp_path)[0].read_bytes()

    def full(handle: int, data: bytes) -> int:
        os.pwrite(handle, data[:10], os.lseek(handle, 0, os.SEEK_CUR))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(writing.os, "write", full)
        with pytest.raises(StorageError, match="No space left on device"):
            log.append("answered", {"round": 5})
    assert files_of(tmp_path)[0].read_bytes() == before
    log.append("answered", {"round": 6})
    assert [event.content.get("round") for event in events(tmp_path)] == [None, 0, 6]


@pytest.mark.skipif(os.geteuid() != 0, reason="only an administrator gives files away")
def test_what_an_administrator_writes_stays_the_logs_own_users(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    folder.joinpath("audit-0000000001.jsonl").write_bytes(b"torn")
    os.chown(folder / "audit-0000000001.jsonl", 12345, 12345)
    written(folder, 20, largest=1500)
    owners = {path.name: path.stat().st_uid for path in folder.iterdir()}
    assert len(owners) > 5
    assert set(owners.values()) == {12345}


@pytest.mark.skipif(os.geteuid() != 0, reason="only an administrator gives files away")
@pytest.mark.parametrize("is_there", [True, False])
def test_an_administrator_follows_no_link_of_the_logs_own_user(
    is_there: bool, tmp_path: Path
) -> None:
    folder, elsewhere = tmp_path / "log", tmp_path / "elsewhere"
    folder.mkdir()
    if is_there:
        elsewhere.touch()
    (folder / "audit-0000000001.jsonl").symlink_to(elsewhere)
    os.chown(folder, 12345, 12345)
    with pytest.raises(ConfideError):
        written(folder, 1)
    assert elsewhere.exists() == is_there
    if is_there:
        assert elsewhere.read_bytes() == b""
        assert elsewhere.stat().st_uid == 0


@pytest.mark.slow
def test_processes_killed_at_random_lose_nothing_that_they_told(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(ec_keys.private_pem(KEY))
    folder, told = tmp_path / "log", dict[str, int]()
    for attempt in range(8):
        names = [f"{attempt}a", f"{attempt}b"]
        words = [sys.executable, "-c", WRITER, str(folder), str(key)]
        running = [
            subprocess.Popen([*words, name], stdout=subprocess.PIPE, text=True) for name in names
        ]
        for name, process in zip(names, running, strict=True):
            assert process.stdout is not None
            told[name] = [int(process.stdout.readline()) for _ in range(5)][-1]
        time.sleep(0.013 * attempt)
        for process in running:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    found = {event.number: event.content.get("by") for event in events(folder)}
    assert len(found) > 80
    for name, number in told.items():
        assert found[number] == name
    assert max(found) == len(found)
    assert len(files_of(folder)) > 8
    opened(folder).append("answered", {})
    assert json.loads((folder / "audit.head").read_text())["number"] == events(folder)[-1].number
