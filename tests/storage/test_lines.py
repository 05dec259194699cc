"""Lines that were written are there whatever was killed, and no others are taken for them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from confide.errors import StorageError, UnreadableError
from confide.storage import lines
from confide.storage.lines import DurableLines

WRITER = """
import sys
from pathlib import Path
from confide.storage.lines import DurableLines
kept = DurableLines(Path(sys.argv[1]), fix="bring it back")
number = 0
while True:
    with kept.alone():
        number = len(kept.read_new()) + number
        kept.append(f"line {number} " + "x" * 5000)
    print(number, flush=True)
"""


def opened(path: Path) -> DurableLines:
    return DurableLines(path, fix="bring it back")


def written(path: Path, *texts: str) -> DurableLines:
    kept = opened(path)
    for text in texts:
        with kept.alone():
            kept.read_new()
            kept.append(text)
    return kept


def test_others_and_later_processes_read_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "kept"
    one = written(path, "first", "zweite Zeile ü")
    two = opened(path)
    assert two.read_new() == ["first", "zweite Zeile ü"]
    assert two.read_new() == []
    with two.alone():
        two.append("third")
    assert one.read_new() == ["zweite Zeile ü", "third"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_line_that_was_cut_is_none_and_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    written(path, "first")
    whole = path.stat().st_size
    written(path, "second")
    data = path.read_bytes()
    for length in range(whole, len(data)):
        path.write_bytes(data[:length])
        assert opened(path).read_new() == ["first"]
        written(path, "another")
        assert opened(path).read_new() == ["first", "another"]


def test_a_changed_byte_of_an_earlier_line_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    written(path, "first")
    end = path.stat().st_size
    written(path, "second")
    data = path.read_bytes()
    for place in range(end):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(UnreadableError, match="not what was written; bring it back"):
            opened(path).read_new()


@pytest.mark.parametrize("change", ["shorter", "gone"])
def test_what_was_read_may_not_go_away(tmp_path: Path, change: str) -> None:
    path = tmp_path / "kept"
    kept = written(path, "first")
    kept.read_new()
    path.unlink()
    if change == "shorter":
        path.touch()
    with pytest.raises(UnreadableError, match=change):
        kept.read_new()


def test_what_is_not_on_the_disk_is_not_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept"
    kept = written(path, "first")
    kept.read_new()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(lines.os, "fsync", full)
        with pytest.raises(StorageError, match="No space left"), kept.alone():
            kept.append("second")
    assert opened(path).read_new() == ["first"]


def test_whatever_is_killed_lines_that_were_told_are_there(tmp_path: Path) -> None:
    path, told = tmp_path / "kept", -1
    for pause_s in (0.0, 0.003, 0.011, 0.02, 0.05):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(pause_s)
        process.kill()
        told = max(told, *map(int, process.stdout.read().split()), -1)
        process.wait()
        process.stdout.close()
        numbers = [int(line.split()[1]) for line in opened(path).read_new()]
        assert numbers == list(range(len(numbers)))
        assert told < len(numbers)
    assert told > 5
