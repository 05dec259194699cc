"""Keeps programs running: starts them, starts again what dies, with pauses that grow, and ends them all.

Children end with their supervisor, also where it is killed: the kernel tells them (Linux), and
those of ours look after their parent themselves. Nothing is left running.
"""

import contextlib
import ctypes
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from confide.errors import EXIT_FAILED, StorageError
from confide.storage.files import make_private_folder, write_text

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.5
_MOST_DOUBLINGS = 30
_STEADY_S = 90.0
_GRACE_S = 8.0
_POLL_S = 0.1
_PR_SET_PDEATHSIG = 1
_MOST_READ = 2**16
_LONGEST_MESSAGE = 2000
_EXPLAIN_S, _TAIL_BYTES = 10.0, 16 * 2**10
PROCESSES = "processes.json"


ExplainFn = Callable[[str, int | None], str | None]
"""End of a program's log since it was started, and its exit status (None: it runs) -> what is
wrong; None: not known."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program that is to run.

    Attributes:
        name: for people, and of its log.
        command: argv.
        environment: None for this process's own.
        is_ready: whether those that come after it may start; None: at once.
        shows: whether it writes to this terminal instead of its log.
        is_final: exit statuses that end the whole, because starting again does not help.
        death_signal: what it gets where the supervisor is killed.
        takes_along: names of programs that are told to end when it dies, and start again: they wait
            for what it was doing.
        longest_pause_s: before it starts again.
        explain_fn: says why it ended, or what it waits for; None: its log does.
        died_fn: told, where it died without having been told to end, the beginning of what it wrote
            since it started.
        most_failures: in a row, each within a minute or two; the next ends the whole. None: it
            starts again for ever.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] | None = None
    is_ready: Callable[[], bool] | None = None
    shows: bool = False
    is_final: frozenset[int] = frozenset()
    death_signal: signal.Signals = signal.SIGKILL
    takes_along: frozenset[str] = frozenset()
    longest_pause_s: float = 15.0
    explain_fn: ExplainFn | None = None
    died_fn: Callable[[str], object] | None = None
    most_failures: int | None = None


@dataclass
class _Running:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    explained: float = 0.0
    told: str | None = None
    failures: int = 0
    start_at: float = 0.0
    was_ready: bool = False
    log_start: int = 0


@dataclass
class Supervisor:
    """Programs, started in order.

    Args:
        programs: each starts once those before it were ready.
        folder: of logs, and of a file that tells process ids.
        ready_timeout_s: how long a program may take until it is ready; then it is started again.
        largest_log: bytes of a program's log; what is older goes to a second file, and then away.
    """

    programs: Sequence[Program]
    folder: Path
    ready_timeout_s: float = 60.0
    largest_log: int = 16 * 2**20
    _running: list[_Running] = field(default_factory=list)
    _ended: tuple[str, int] | None = None

    def __enter__(self) -> "Supervisor":
        make_private_folder(self.folder)
        self._running = [_Running(program) for program in self.programs]
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def ended(self) -> tuple[str, int] | None:
        """Which program ended for good, and with which status; None while all is to run."""
        return self._ended

    def step(self) -> None:
        """Look after each program once."""
        for running in self._running:
            self._bound_log(running)
            if self._ended is not None or not self._look_after(running):
                return

    def run(self, stop: threading.Event) -> int:
        """Look after the programs until told to stop, or one ends for good.

        Returns:
            The exit status of the program that ended; 0 where told to stop.
        """
        while not stop.is_set():
            self.step()
            if self._ended is not None:
                return self._ended[1]
            stop.wait(_POLL_S)
        return 0

    def stop(self) -> None:
        """End all programs, the last one first: SIGTERM, and after some seconds SIGKILL."""
        alive = [
            r.process
            for r in reversed(self._running)
            if r.process is not None and r.process.poll() is None
        ]
        for process in alive:
            process.terminate()
        end = time.monotonic() + _GRACE_S
        for process in alive:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        with contextlib.suppress(OSError):
            (self.folder / PROCESSES).unlink(missing_ok=True)

    def _look_after(self, running: _Running) -> bool:
        """Start, watch or start again one program; say whether those after it may start."""
        now = time.monotonic()
        if running.process is None:
            if now >= running.start_at:
                self._start(running)
            return running.was_ready
        status = running.process.poll()
        if status is not None:
            self._has_ended(running, status)
            return running.was_ready
        if not running.was_ready:
            ready = running.program.is_ready
            running.was_ready = ready is None or ready()
            if not running.was_ready and now - running.started > self.ready_timeout_s:
                log.warning(
                    "%s is not ready after %g s; starting it again.",
                    running.program.name,
                    self.ready_timeout_s,
                )
                running.process.kill()
        self._tell_what_it_waits_for(running, now)
        return running.was_ready

    def _tell_what_it_waits_for(self, running: _Running, now: float) -> None:
        """Nothing hangs in silence: say once what a program that runs waits for, and once that it waits no longer."""
        if (
            running.program.explain_fn is None
            or now - max(running.started, running.explained) < _EXPLAIN_S
        ):
            return
        running.explained = now
        told = self._explain(running, None)
        if told is not None and told != running.told:
            log.warning("%s: %s", running.program.name, told)
        elif told is None and running.told is not None:
            log.info("%s waits no longer.", running.program.name)
        running.told = told

    def _explain(self, running: _Running, status: int | None) -> str | None:
        if running.program.explain_fn is None:
            return None
        text = log_tail(self.folder / f"{running.program.name}.log", since=running.log_start)
        return running.program.explain_fn(text, status)

    def _log_of(self, program: Program) -> Path:
        return self.folder / f"{program.name}.log"

    def _bound_log(self, running: _Running) -> None:
        """Keep the last part of a log that has grown.

        What the other side sends is told of in it, and must not fill the disk.

        Programs append to it, so that one that runs goes on at its new end.
        """
        path = self._log_of(running.program)
        with contextlib.suppress(OSError):
            size = path.stat().st_size
            if size <= self.largest_log:
                return
            with path.open("rb+") as file, path.with_suffix(".log.1").open("wb") as kept:
                os.fchmod(kept.fileno(), 0o600)
                file.seek(size - self.largest_log)
                shutil.copyfileobj(file, kept)
                file.truncate(0)
            running.log_start = 0

    def _start(self, running: _Running) -> None:
        program = running.program
        path = self._log_of(program)
        try:
            with os.fdopen(
                os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab"
            ) as file:
                running.log_start = os.fstat(file.fileno()).st_size
                running.process = subprocess.Popen(
                    list(program.command),
                    env=None if program.environment is None else dict(program.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=None if program.shows else file,
                    stderr=None if program.shows else file,
                    preexec_fn=_child_of(
                        os.getpid(), program.death_signal
                    ),  # this process starts children from its only thread
                )
        except OSError as error:
            raise StorageError(f"{program.name} cannot be started: {error}.") from None
        running.started = time.monotonic()
        log.info("%s runs as process %d.", program.name, running.process.pid)
        self._tell()

    def _has_ended(self, running: _Running, status: int) -> None:
        program = running.program
        seen = "" if program.shows else f"; {self._log_of(program)} says why"
        if status in program.is_final:
            if status:
                log.error("%s ended with status %d%s.", program.name, status, seen)
            self._ended = (program.name, status)
            return
        steady = time.monotonic() - running.started > _STEADY_S
        running.failures = 1 if steady else running.failures + 1
        why = self._explain(running, status)
        told = "" if why is None else f" {why}"
        if program.most_failures is not None and running.failures > program.most_failures:
            log.error(
                "%s ended %d times in a row, at last with status %d%s.%s",
                program.name,
                running.failures,
                status,
                seen,
                told,
            )
            self._ended = (program.name, EXIT_FAILED)
            return
        pause = min(
            program.longest_pause_s,
            _FIRST_PAUSE_S * 2.0 ** min(running.failures - 1, _MOST_DOUBLINGS),
        )
        log.warning(
            "%s ended with status %d%s.%s It starts again in %g s.",
            program.name,
            status,
            seen,
            told,
            pause,
        )
        running.told = None
        if program.died_fn is not None and status != 0:
            program.died_fn(self._written(running))
        running.process, running.start_at = None, time.monotonic() + pause
        for other in self._running:
            if other.program.name in program.takes_along and other.process is not None:
                other.process.terminate()
        self._tell()

    def _written(self, running: _Running) -> str:
        """Return the beginning of what a program wrote since it started."""
        try:
            with self._log_of(running.program).open("rb") as file:
                file.seek(running.log_start)
                return file.read(_MOST_READ).decode(errors="replace")
        except OSError:
            return ""

    def _tell(self) -> None:
        """Write down which process is which."""
        pids = {r.program.name: r.process.pid for r in self._running if r.process is not None}
        with contextlib.suppress(StorageError):
            write_text(
                self.folder / PROCESSES, json.dumps({"supervisor": os.getpid(), **pids}) + "\n"
            )


def log_tail(path: Path, *, since: int = 0, most: int = _TAIL_BYTES) -> str:
    """Return the end of a log, at most ``most`` bytes of what was written after ``since`` bytes.

    '' where there is none.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(since, path.stat().st_size - most))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def processes(folder: Path) -> dict[str, int]:
    """Return the processes that a supervisor told of: name -> process id; {} where none runs."""
    try:
        told = {
            str(name): int(pid)
            for name, pid in json.loads((folder / PROCESSES).read_text()).items()
        }
    except (OSError, ValueError, AttributeError):
        return {}
    return told if _is_alive(told.get("supervisor", 0)) else {}


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _child_of(parent: int, death_signal: signal.Signals) -> Callable[[], None]:
    """Return what a child does before it becomes its program.

    End when its parent does, heed no Ctrl-C meant for the parent.
    """
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def prepare() -> None:
        os.setsid()
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, death_signal)
            if os.getppid() != parent:  # it died before we asked
                os._exit(1)

    return prepare


def end_with_parent(stop: threading.Event, *, every_s: float = 1.0) -> None:
    """Set ``stop`` when the process that started this one is gone."""
    parent = os.getppid()

    def watch() -> None:
        while not stop.wait(every_s):
            if os.getppid() != parent:
                stop.set()

    threading.Thread(target=watch, name="parent", daemon=True).start()


class OneLine(logging.Formatter):
    """Writes each message on one line of bounded length.

    What the other side sent may stand in it, and forges no lines.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        """Write a record without its traceback, which is this side's own."""
        text = record.message[:_LONGEST_MESSAGE]
        record.message = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
        if len(text) == _LONGEST_MESSAGE:
            record.message += " ..."
        return super().formatMessage(record)


def log_to_stderr() -> None:
    """Write what happens to stderr, with the time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore", "flwr"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


__all__ = [
    "PROCESSES",
    "ExplainFn",
    "OneLine",
    "Program",
    "Supervisor",
    "end_with_parent",
    "log_tail",
    "log_to_stderr",
    "processes",
    "stop_signals",
]
