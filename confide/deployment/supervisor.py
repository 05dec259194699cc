"""Keeps programs running: starts them in order, restarts those that die, and ends them all.

Pauses between restarts grow. Children end with their supervisor even if it is killed: the kernel
signals them (on Linux), and confide's own watch their parent. Nothing is left running.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from confide.deployment.lifetime import PROCESSES, STARTS, child_setup, starts
from confide.deployment.logs import bound_log, log_tail
from confide.errors import EXIT_FAILED, StorageError
from confide.storage.files import make_private_folder, write_text

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.5
_MOST_DOUBLINGS = 30
_LONGER_STARTS = 4
"""Doublings of the time that a program has to be ready: from one minute to 16."""
_STEADY_S = 90.0
_GRACE_S = 8.0
_POLL_S = 0.1
_MOST_READ = 2**16
_DAY_S = 86400.0
_EXPLAIN_S = 10.0


ExplainFn = Callable[[str, int | None], str | None]
"""Maps the end of a program's log, and its exit status (None while it runs), to what is wrong."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program to keep running.

    Attributes:
        name: name for people, and of its log.
        command: command line.
        environment: its environment; None for this process's own.
        is_ready: whether the programs after it may start; None if at once.
        shows: whether it writes to this terminal instead of its log.
        is_final: exit statuses after which nothing is restarted and the supervisor ends.
        death_signal: signal that it gets if the supervisor is killed.
        takes_along: names of programs to restart with it, because they wait for its answers.
        longest_pause_s: longest pause before a restart, in seconds.
        explain_fn: function that explains why it ended or what it waits for; None if only its log
            does.
        died_fn: function called with the beginning of its output when it died by itself.
        most_failures: most failures in a row before the supervisor ends; None if unlimited.
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
    """State of one program.

    Attributes:
        program: the program.
        process: its process; None while it does not run.
        started: time of the last start.
        explained: time of the last explanation.
        message: last explanation; None if it waits for nothing.
        failures: failures in a row.
        start_at: time of the next start.
        was_ready: whether it has been ready once.
        slow_starts: starts in a row after which it was not ready in time.
        is_given_up: whether its process was told to end for that, and has not yet.
        log_start: offset of its log at the last start, in bytes.
    """

    program: Program
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    explained: float = 0.0
    message: str | None = None
    failures: int = 0
    start_at: float = 0.0
    was_ready: bool = False
    slow_starts: int = 0
    is_given_up: bool = False
    log_start: int = 0


@dataclass
class Supervisor:
    """Starts programs in order and keeps them running, inside a context.

    Args:
        programs: programs, each of which starts once those before it have been ready.
        folder: folder of logs and of the file of process ids.
        ready_timeout_s: longest time until a program is ready, after which it is restarted; twice
            as long after each start that was too slow.
        largest_log: largest size of a program's log, in bytes; one older part is kept.
        daily_fn: called at the start, and then once a day.
    """

    programs: Sequence[Program]
    folder: Path
    ready_timeout_s: float = 60.0
    largest_log: int = 16 * 2**20
    daily_fn: Callable[[], None] | None = None
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
        """Name and exit status of the program that ended the whole; None while all should run."""
        return self._ended

    def step(self) -> None:
        """Look after each program once."""
        for running in self._running:
            if bound_log(self._log_of(running.program), self.largest_log):
                running.log_start = 0
            if self._ended is not None or not self._look_after(running):
                return

    def run(self, stop: threading.Event) -> int:
        """Look after the programs until ``stop`` is set, or one ends the whole.

        Returns:
            Exit status of the program that ended the whole; 0 if ``stop`` was set.
        """
        daily_at = time.monotonic()
        while not stop.is_set():
            if self.daily_fn is not None and time.monotonic() >= daily_at:
                daily_at += _DAY_S
                self.daily_fn()
            self.step()
            if self._ended is not None:
                return self._ended[1]
            stop.wait(_POLL_S)
        return 0

    def stop(self) -> None:
        """End all programs, the last one first: by SIGTERM, and after some seconds by SIGKILL."""
        alive = [
            r.process
            for r in reversed(self._running)
            if r.process is not None and r.process.poll() is None
        ]
        for process in alive:
            process.terminate()
        # One deadline for all: they end side by side.
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
        """Start, watch or restart one program; return whether those after it may start."""
        now = time.monotonic()
        if running.process is None:
            if now >= running.start_at:
                self._start(running)
                # At once, even if it ends at once: those after it must not wait for it
                running.was_ready = running.was_ready or running.program.is_ready is None
            return running.was_ready
        status = running.process.poll()
        if status is not None:
            self._handle_end(running, status)
            # Those after it keep running while it restarts.
            return running.was_ready
        if not running.was_ready:
            ready = running.program.is_ready
            running.was_ready = ready is not None and ready()
            # A busy machine would never start it, were it always given as little time
            patience_s = self.ready_timeout_s * 2.0 ** min(running.slow_starts, _LONGER_STARTS)
            too_late = now - running.started > patience_s
            if not running.was_ready and too_late and not running.is_given_up:
                log.warning(
                    "%s is not ready after %g s; restarting it, with more time.",
                    running.program.name,
                    patience_s,
                )
                running.slow_starts, running.is_given_up = running.slow_starts + 1, True
                running.process.kill()
        self._report_waiting(running, now)
        return running.was_ready

    def _report_waiting(self, running: _Running, now: float) -> None:
        """Log once what a running program waits for, and once that it no longer waits."""
        since = max(running.started, running.explained)
        if running.program.explain_fn is None or now - since < _EXPLAIN_S:
            return
        running.explained = now
        message = self._explain(running, None)
        if message is not None and message != running.message:
            log.warning("%s: %s", running.program.name, message)
        elif message is None and running.message is not None:
            log.info("%s no longer waits.", running.program.name)
        running.message = message

    def _explain(self, running: _Running, status: int | None) -> str | None:
        if running.program.explain_fn is None:
            return None
        text = log_tail(self._log_of(running.program), since=running.log_start)
        return running.program.explain_fn(text, status)

    def _log_of(self, program: Program) -> Path:
        return self.folder / f"{program.name}.log"

    def _start(self, running: _Running) -> None:
        program = running.program
        path = self._log_of(program)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(handle, "ab") as file:
                running.log_start = os.fstat(file.fileno()).st_size
                running.process = subprocess.Popen(
                    list(program.command),
                    env=None if program.environment is None else dict(program.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=None if program.shows else file,
                    stderr=None if program.shows else file,
                    # Safe despite its warnings: children are started from the main thread, whose
                    # end is that of this process, to which the kernel's signal is tied.
                    preexec_fn=child_setup(os.getpid(), program.death_signal),
                )
        except OSError as error:
            raise StorageError(f"{program.name} cannot be started: {error}.") from None
        running.started, running.is_given_up = time.monotonic(), False
        log.info("%s is running as process %d.", program.name, running.process.pid)
        self._write_ids()
        counts = starts(self.folder)
        counts[program.name] = counts.get(program.name, 0) + 1
        self._write(STARTS, counts)

    def _handle_end(self, running: _Running, status: int) -> None:
        program = running.program
        seen = "" if program.shows else f"; {self._log_of(program)} says why"
        ended = f"with status {status}{seen}."
        if status in program.is_final:
            if status:
                log.error("%s ended %s", program.name, ended)
            self._ended = (program.name, status)
            return
        # One that ran for a while has not failed in a row, so its pauses begin short again.
        steady = time.monotonic() - running.started > _STEADY_S
        running.failures = 1 if steady else running.failures + 1
        explanation = self._explain(running, status)
        ended += "" if explanation is None else f" {explanation}"
        if program.most_failures is not None and running.failures > program.most_failures:
            times = running.failures
            log.error("%s ended %d times in a row, at last %s", program.name, times, ended)
            self._ended = (program.name, EXIT_FAILED)
            return
        doublings = min(running.failures - 1, _MOST_DOUBLINGS)
        pause = min(program.longest_pause_s, _FIRST_PAUSE_S * 2.0**doublings)
        log.warning("%s ended %s Restarting it in %g s.", program.name, ended, pause)
        running.message = None
        if program.died_fn is not None and status != 0:
            program.died_fn(self._written(running))
        running.process, running.start_at = None, time.monotonic() + pause
        for other in self._running:
            if other.program.name in program.takes_along and other.process is not None:
                other.process.terminate()
        self._write_ids()

    def _written(self, running: _Running) -> str:
        """Return the beginning of a program's output since it started."""
        try:
            with self._log_of(running.program).open("rb") as file:
                file.seek(running.log_start)
                return file.read(_MOST_READ).decode(errors="replace")
        except OSError:
            return ""

    def _write_ids(self) -> None:
        """Write the process id of each program to a file, for ``status`` and ``doctor``."""
        pids = {r.program.name: r.process.pid for r in self._running if r.process is not None}
        self._write(PROCESSES, {"supervisor": os.getpid(), **pids})

    def _write(self, name: str, numbers: Mapping[str, int]) -> None:
        # To be read alone: a full disk ends nothing for it
        with contextlib.suppress(StorageError):
            write_text(self.folder / name, json.dumps(numbers) + "\n")


__all__ = ["ExplainFn", "Program", "Supervisor"]
