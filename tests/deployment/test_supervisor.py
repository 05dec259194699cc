"""The supervisor, with small programs of the shell's."""

import contextlib
import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from confide.deployment import supervisor
from confide.deployment.lifetime import PROCESSES, STARTS, processes, starts
from confide.deployment.logs import OneLine
from confide.deployment.supervisor import Program, Supervisor
from confide.errors import StorageError

SLEEPS = ("sleep", "60")
CHATTY = (
    "import sys\nfor i in range(20_000): sys.stdout.write(f'line {i}\\n');"
    " sys.stdout.flush()\nimport time; time.sleep(60)"
)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(supervisor, "_POLL_S", 0.01)


def program(name: str, *command: str, **more: object) -> Program:
    return replace(Program(name=name, command=command or SLEEPS), **more)  # type: ignore[arg-type]


def shell(name: str, script: str, **more: object) -> Program:
    return program(name, "sh", "-c", script, **more)


@contextlib.contextmanager
def stepping(
    programs: Sequence[Program], folder: Path, **more: float
) -> Iterator[Callable[..., None]]:
    """Give what steps until something holds."""
    with Supervisor(programs, folder, **more) as running:

        def until(holds: Callable[[], object], timeout_s: float = 5.0) -> None:
            end = time.monotonic() + timeout_s
            while not holds():
                assert time.monotonic() < end, (folder / "a.log").read_text()
                running.step()
                time.sleep(0.005)

        yield until


def pid_of(folder: Path, name: str) -> int | None:
    return processes(folder).get(name)


def is_gone(pid: int) -> bool:
    """Say whether a process has ended; one that nobody has waited for counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until(holds: Callable[[], object], timeout_s: float = 5.0) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_is_killed_starts_again(tmp_path: Path) -> None:
    with stepping([program("a")], tmp_path) as until:
        until(lambda: pid_of(tmp_path, "a"))
        first = pid_of(tmp_path, "a")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        until(lambda: pid_of(tmp_path, "a") not in (first, None))


def test_pauses_grow_between_one_failure_and_the_next(tmp_path: Path) -> None:
    with stepping([shell("a", "date +%s.%N; exit 3")], tmp_path) as until:
        log = tmp_path / "a.log"
        until(lambda: log.exists() and log.read_text().count("\n") >= 4)
        starts = [float(line) for line in log.read_text().splitlines()]
    pauses = [after - before for before, after in itertools.pairwise(starts)]
    assert pauses[0] >= 0.05
    assert pauses[1] >= 0.1
    assert pauses[2] >= 0.2


def test_pauses_have_an_end(tmp_path: Path) -> None:
    with stepping([shell("a", "echo; exit 3", longest_pause_s=0.1)], tmp_path) as until:
        until(
            lambda: (tmp_path / "a.log").exists() and (tmp_path / "a.log").stat().st_size >= 15,
            timeout_s=4,
        )


def test_a_program_may_fail_for_days(tmp_path: Path) -> None:
    """A coordinator that is away for long, and a SuperNode that is refused each time."""
    with Supervisor([shell("a", "exit 1", longest_pause_s=0.0)], tmp_path) as running:
        running.step()
        running._running[0].failures = 5000
        wait_until(lambda: running.step() or running._running[0].failures > 5001)


def test_too_many_failures_in_a_row_end_the_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Supervisor([shell("a", "exit 7", most_failures=2), program("b")], tmp_path) as running:
        assert running.run(threading.Event()) == 1
        assert running.ended == ("a", 1)
    assert "a ended 3 times in a row, at last with status 7" in caplog.text
    assert f"{tmp_path / 'a.log'} says why" in caplog.text


def test_a_death_is_told_of_with_what_the_program_wrote(tmp_path: Path) -> None:
    heard: list[str] = []
    (tmp_path / "a.log").write_text("of an earlier one\n")
    with stepping(
        [shell("a", "echo mine $$; exec sleep 60", died_fn=heard.append)], tmp_path
    ) as until:
        until(lambda: (tmp_path / "a.log").read_text().count("mine") == 1)
        pid = pid_of(tmp_path, "a")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: (tmp_path / "a.log").read_text().count("mine") == 2)
    assert heard == [f"mine {pid}\n"]  # nothing is told of one that was told to end


def test_whoever_dies_takes_those_along_who_wait_for_it(tmp_path: Path) -> None:
    with stepping(
        [program("a", takes_along=frozenset({"b"})), program("b"), program("c")], tmp_path
    ) as until:
        until(lambda: processes(tmp_path).keys() >= {"a", "b", "c"})
        before = processes(tmp_path)
        os.kill(before["a"], signal.SIGKILL)
        until(lambda: all(pid_of(tmp_path, name) not in (before[name], None) for name in "ab"))
        assert pid_of(tmp_path, "c") == before["c"]


def test_a_program_waits_until_those_before_it_are_ready(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    programs = [program("a", is_ready=ready.exists), program("b")]
    with stepping(programs, tmp_path / "logs") as until:
        until(lambda: pid_of(tmp_path / "logs", "a"))
        with pytest.raises(AssertionError):
            until(lambda: pid_of(tmp_path / "logs", "b"), timeout_s=0.2)
        ready.touch()
        until(lambda: pid_of(tmp_path / "logs", "b"))


def test_a_program_that_is_never_ready_is_started_again_with_more_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine so busy that a start takes longer would otherwise never start it."""
    with stepping([program("a", is_ready=lambda: False)], tmp_path, ready_timeout_s=0.1) as until:
        until(lambda: pid_of(tmp_path, "a"))
        first = pid_of(tmp_path, "a")
        until(lambda: pid_of(tmp_path, "a") not in (first, None))
        until(lambda: "after 0.4 s" in caplog.text)
    for patience in (0.1, 0.2):
        assert caplog.text.count(f"a is not ready after {patience:g} s") == 1


def test_a_final_status_ends_the_whole(tmp_path: Path) -> None:
    programs = [program("a"), shell("b", "exit 2", is_final=frozenset({0, 2}))]
    with Supervisor(programs, tmp_path) as running:
        assert running.run(threading.Event()) == 2
        assert running.ended == ("b", 2)
        pid = pid_of(tmp_path, "a")
    assert pid is not None
    assert is_gone(pid)


def test_told_to_stop_it_ends_all_and_says_that_nothing_ended_by_itself(tmp_path: Path) -> None:
    stop = threading.Event()
    with Supervisor([program("a"), program("b")], tmp_path) as running:
        threading.Timer(0.3, stop.set).start()
        assert running.run(stop) == 0
        assert running.ended is None
        told = processes(tmp_path)
    assert told.keys() == {"supervisor", "a", "b"}
    assert is_gone(told["a"])
    assert is_gone(told["b"])
    assert not (tmp_path / PROCESSES).exists()


def test_whoever_heeds_no_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_GRACE_S", 0.3)
    with stepping(
        [shell("a", "trap '' TERM; echo on; while :; do sleep 0.1; done")], tmp_path
    ) as until:
        until(lambda: (tmp_path / "a.log").exists() and "on" in (tmp_path / "a.log").read_text())
        pid = pid_of(tmp_path, "a")
        began = time.monotonic()
    assert pid is not None
    assert is_gone(pid)
    assert time.monotonic() - began < 3


def test_children_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    script = (
        "import threading; from pathlib import Path; from confide.deployment.supervisor import"
        f" Program, Supervisor\nwith Supervisor([Program(name='a', command={SLEEPS})],"
        f" Path({str(tmp_path)!r})) as s: s.run(threading.Event())"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    wait_until(lambda: pid_of(tmp_path, "a"))
    child = pid_of(tmp_path, "a")
    assert child is not None
    parent.kill()
    parent.wait()
    wait_until(lambda: is_gone(child))
    assert processes(tmp_path) == {}  # what was told is there, and no longer true
    assert (tmp_path / PROCESSES).exists()


def test_a_child_does_not_get_the_ctrl_c_of_a_terminal(tmp_path: Path) -> None:
    with stepping([program("a")], tmp_path) as until:
        until(lambda: pid_of(tmp_path, "a"))
        pid = pid_of(tmp_path, "a")
        assert pid is not None
        assert os.getpgid(pid) == pid


def test_logs_are_for_this_user_alone(tmp_path: Path) -> None:
    with stepping([shell("a", "echo hello; sleep 60")], tmp_path) as until:
        until(
            lambda: (tmp_path / "a.log").exists() and (tmp_path / "a.log").read_text() == "hello\n"
        )
        assert (tmp_path / "a.log").stat().st_mode & 0o777 == 0o600


def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with (
        Supervisor([program("a", "/no/such/program")], tmp_path) as running,
        pytest.raises(StorageError, match="a cannot be"),
    ):
        running.step()


def test_nothing_is_told_of_a_folder_without_a_supervisor(tmp_path: Path) -> None:
    assert processes(tmp_path) == {}
    (tmp_path / PROCESSES).write_text("torn")
    assert processes(tmp_path) == {}


# --- what is logged


def written(message: str, *, error: Exception | None = None) -> str:
    record = logging.LogRecord("name", logging.WARNING, "file", 1, message, None, None)
    if error is not None:
        record.exc_info = (type(error), error, None)
    return OneLine("%(levelname)s %(message)s").format(record)


def test_message_forges_no_line_and_moves_no_cursor() -> None:
    assert (
        written("Tensor a\n2026 INFO all is well\x1b[2J")
        == "WARNING Tensor a\\n2026 INFO all is well\\x1b[2J"
    )


def test_message_stays_readable_and_bounded() -> None:
    assert written("Hôpital «Zürich»") == "WARNING Hôpital «Zürich»"
    assert len(written("x" * 10**6)) < 2100


def test_traceback_keeps_its_lines() -> None:
    assert written("failed", error=ValueError("a")).splitlines() == [
        "WARNING failed",
        "ValueError: a",
    ]


def test_log_of_a_running_program_stays_bounded_and_keeps_what_came_last(tmp_path: Path) -> None:
    with Supervisor(
        [Program(name="chatty", command=[sys.executable, "-c", CHATTY])],
        tmp_path,
        largest_log=10_000,
    ) as running:
        end = time.monotonic() + 20
        log = tmp_path / "chatty.log"
        while time.monotonic() < end and not (
            log.exists() and b"line 19999" in log.read_bytes() + _second(tmp_path)
        ):
            running.step()
            time.sleep(0.01)
        running.step()
        assert log.stat().st_size <= 10_000
        assert (
            log.stat().st_mode & 0o777
            == (tmp_path / "chatty.log.1").stat().st_mode & 0o777
            == 0o600
        )
        assert b"line 19999" in log.read_bytes() + _second(tmp_path)


def _second(folder: Path) -> bytes:
    path = folder / "chatty.log.1"
    return path.read_bytes() if path.exists() else b""


# --- how often programs were started


def test_starts_are_counted_over_restarts_and_supervisors(tmp_path: Path) -> None:
    assert starts(tmp_path) == {}
    programs = [shell("a", "exit 3"), program("b")]
    with stepping(programs, tmp_path) as until:
        until(lambda: starts(tmp_path).get("a", 0) >= 3 and starts(tmp_path).get("b") == 1, 60)
    before = starts(tmp_path)
    with stepping(programs, tmp_path) as until:
        until(lambda: starts(tmp_path).get("b") == 2, 60)
    assert starts(tmp_path)["a"] > before["a"]


@pytest.mark.parametrize("text", ["", "[1]", '{"a": null}', '{"a": "x"}'])
def test_counts_that_cannot_be_read_begin_anew_and_stop_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / STARTS).write_text(text)
    with stepping([program("a")], tmp_path) as until:
        until(lambda: starts(tmp_path) == {"a": 1}, 60)


def test_a_program_that_is_ready_at_once_keeps_nobody_waiting_by_ending(tmp_path: Path) -> None:
    with stepping([shell("a", "exit 3"), program("b")], tmp_path) as until:
        until(lambda: starts(tmp_path).get("b") == 1, 60)
