"""Process ids of a deployment, and the end of its processes: by a signal or with their parent."""

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from confide.storage.files import read_regular

PROCESSES = "processes.json"
"""File in which a supervisor keeps the process ids of its programs."""
STARTS = "starts.json"
"""File in which it counts how often it started each of them, over all its own lives."""
_LARGEST_FILE, _LARGEST_NUMBER = 2**16, 2**31
_PR_SET_PDEATHSIG = 1


def processes(folder: Path) -> dict[str, int]:
    """Return the process id of each program of a supervisor by name; {} if none is running.

    Args:
        folder: the supervisor's folder.
    """
    ids = _numbers(folder / PROCESSES)
    supervisor = ids.get("supervisor", 0)
    # 0 and negative ids name groups of processes: this one's own would always be alive.
    if supervisor <= 0:
        return {}
    # The file of a supervisor that was killed stays behind.
    try:
        os.kill(supervisor, 0)
    except ProcessLookupError:
        return {}
    except PermissionError:  # it runs, as another user
        pass
    return ids


def starts(folder: Path) -> dict[str, int]:
    """Return how often each program of a supervisor was started; {} if that cannot be read.

    Args:
        folder: the supervisor's folder.
    """
    return _numbers(folder / STARTS)


def _numbers(path: Path) -> dict[str, int]:
    """Read names and numbers; {} if they cannot be read, or are none of these.

    Whoever looks may be another user than the supervisor, and is not to fall over what it finds.
    """
    try:
        found = json.loads(read_regular(path, most=_LARGEST_FILE)).items()
        return {str(name): int(number) for name, number in found if abs(number) < _LARGEST_NUMBER}
    except (OSError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
        return {}


def child_setup(parent: int, death_signal: signal.Signals) -> Callable[[], None]:
    """Return the function that a child runs before its program.

    Args:
        parent: process id of the parent.
        death_signal: signal that the child gets when its parent dies.
    """
    # Loaded here and not in the child: after a fork, little may safely be done.
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def prepare() -> None:
        # A session of its own, so that a terminal's Ctrl-C reaches the parent alone, which then
        # ends its children in order.
        os.setsid()
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, death_signal)
            # The parent may have died before the request, and then no signal comes.
            if os.getppid() != parent:
                os._exit(1)

    return prepare


def end_with_parent(stop: threading.Event, *, every_s: float = 1.0) -> None:
    """Set ``stop`` when the process that started this one has ended.

    Args:
        stop: event to set.
        every_s: seconds between two looks.
    """
    parent = os.getppid()

    def watch() -> None:
        while not stop.wait(every_s):
            if os.getppid() != parent:
                stop.set()

    threading.Thread(target=watch, name="parent", daemon=True).start()


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set."""
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
    "STARTS",
    "child_setup",
    "end_with_parent",
    "processes",
    "starts",
    "stop_signals",
]
