"""The command line: ``confide COMMAND ...``.

Commands are named by dotted strings and imported when called, so that ``confide --help`` loads
neither torch nor Hydra, and a command only what it needs itself.
"""

import contextlib
import difflib
import importlib
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType

from confide.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    ConfideError,
    ConfigError,
    UnforeseenError,
)
from confide.terminal import plain, protect_streams
from confide.version import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "simulate": (
        "confide.simulations.commands.simulate:main",
        "run a whole federation on this machine",
    ),
    "statistics": (
        "confide.simulations.commands.statistics:main",
        "means, histograms and more of a federation's columns, at a told price",
    ),
    "init": (
        "confide.simulations.commands.init:main",
        "make a project of your own, with a task drafted from records",
    ),
    "report": (
        "confide.simulations.commands.report:main",
        "write a run's report again, or compare several runs",
    ),
    "audit": (
        "confide.simulations.commands.audit:main",
        "measure what a run's or a plan's privacy is worth: lower bounds beside the claim",
    ),
    "provision": (
        "confide.server.commands.provision:main",
        "make a federation's certificates and a start-up kit for each institution",
    ),
    "partition": (
        "confide.simulations.commands.partition:main",
        "write the records of a simulation as one file per institution",
    ),
    "client": (
        "confide.client.commands.client:main",
        "take part as an institution, from a start-up kit",
    ),
    "server": (
        "confide.server.commands.server:main",
        "run a federation of real institutions as its coordinator",
    ),
    "doctor": (
        "confide.deployment.doctor:main",
        "check a kit and this machine, and explain how to fix what is wrong",
    ),
    "dashboard": (
        "confide.monitoring.command:main",
        "show a side's state on this machine: a page, metrics, health, readiness",
    ),
    "ledger": (
        "confide.client.commands.ledger:main",
        "show what was spent, verify it, declare budgets, export for an auditor",
    ),
    "audit-log": (
        "confide.audit_log.command:main",
        "verify, show or export who did what at a side: its signed log",
    ),
    "policy": (
        "confide.client.commands.policy:main",
        "explain whether an institution's rules allow a plan",
    ),
    "data": (
        "confide.client.commands.data:main",
        "check records against a task, or draft one from them",
    ),
    "predict": (
        "confide.client.commands.predict:main",
        "predict with a run's model, or an exported one, on a file of records",
    ),
    "serve": (
        "confide.client.commands.serve:main",
        "answer over HTTP with a run's model, or an exported one",
    ),
    "explain": (
        "confide.client.commands.explain:main",
        "say why a model said what it said of records, on this machine alone",
    ),
    "drift": (
        "confide.client.commands.drift:main",
        "say whether records are still like those that a model was trained on",
    ),
    "export": (
        "confide.client.commands.export:main",
        "write a run's model for transformers or ONNX, checked against the run's own",
    ),
}


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items())
    return (
        "confide: federated fine-tuning with differential privacy that an institution can sign"
        f" off.\n\nusage: confide COMMAND [OVERRIDES ...]\n\ncommands:\n{commands}\n\n`confide"
        " COMMAND --help` lists what can be set. `confide --version` prints the version."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: words after ``confide``; None for this process's own.

    Returns:
        Exit status: 0 done, 1 the run failed, 2 the command or its config is wrong, 3 ``drift``
        raises an alarm, 130 it was interrupted.
    """
    if argv is None:  # the streams are this process's own
        protect_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in {"-h", "--help", "help"}:
        print(_help())
        return 0
    if words[0] == "--version":
        print(f"confide {__version__}")
        return 0
    if words[0] not in COMMANDS:
        print(
            f"confide: unknown command {words[0]!r};{_guess(words[0])} expected one of:"
            f" {', '.join(COMMANDS)}.",
            file=sys.stderr,
        )
        return EXIT_USAGE
    module, function = COMMANDS[words[0]][0].split(":")
    # Read when torch is loaded. Threads that wait for another by spinning take the core that it
    # needs, if anything else is busy on the machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Our own lines say more than the libraries' bars; read when the libraries are imported
    for variable in ("TQDM_DISABLE", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(variable, "1")
    try:
        with _terminable():
            status: int = getattr(importlib.import_module(module), function)(words[1:])
    except ConfideError as error:
        print(plain(f"confide {words[0]}: {error}"), file=sys.stderr)
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED
    except KeyboardInterrupt:
        print(f"confide {words[0]}: interrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR"):  # as Hydra does for whoever looks for a fault
            raise
        from confide.config.custom import unforeseen

        told = unforeseen(error)
        print(plain(f"confide {words[0]}: {told}. {_kept(words[0], told)}"), file=sys.stderr)
        return EXIT_FAILED
    return status


def _guess(word: str) -> str:
    close = difflib.get_close_matches(word, COMMANDS, n=2, cutoff=0.7)
    return f" did you mean {' or '.join(close)}?" if close else ""


def _kept(command: str, error: UnforeseenError) -> str:
    """Write the traceback of what is being handled to a file of this user's; say where it is."""
    try:
        # Readable by this user alone: an exception may quote a record.
        handle, path = tempfile.mkstemp(prefix=f"confide-{command}-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            traceback.print_exc(file=file)
    except OSError:  # a full disk is often what it began with
        return "Its traceback could not be written; set HYDRA_FULL_ERROR=1 to see it."
    return error.advice(path)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: with a word, and with files closed."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only a main thread may say what a signal does
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
