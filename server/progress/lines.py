"""Progress of a run as lines of text, or only its last line.

The live table is in :mod:`confide.server.progress.live`, JSON lines in
:mod:`confide.server.progress.json_lines`.
"""

import logging
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from confide.protocol.messages import Evaluation
from confide.server.progress.view import print_summary, round_note, terminal_handlers
from confide.server.rounds.state import RunState
from confide.terminal import make_console

log = logging.getLogger(__name__)


class LineProgress:
    """A view with one line for each round, for logs and pipes, and the closing table."""

    def __init__(self, console: Console, *, metric: str) -> None:
        self._console = console
        self._metric = metric

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Leave nothing behind."""

    def planned(self, *, epsilon_budget: float | None) -> None:
        """Print nothing: the closing lines show the budget."""

    def phase(self, title: str, *, total: int) -> None:
        """Remember the phase that the next lines belong to."""
        self._title, self._total, self._done = title, total, 0

    def advance(self, note: str = "") -> None:
        """Print a line."""
        self._done += 1
        self._line(self._done, note)

    def started(self, clients: Mapping[str, int]) -> None:
        """Print nothing: the closing table names the institutions."""

    def resumed(self, state: RunState) -> None:
        """Print a line."""
        self._line(state.server_round, "resumed after this round")

    def round_done(self, state: RunState) -> None:
        """Print a line."""
        self._line(
            state.server_round,
            f"{round_note(state, self._metric)}, {state.history[-1].seconds:.1f} s",
        )

    def evaluated(
        self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]
    ) -> None:
        """Print nothing: the closing table does."""

    def finished(self, summary: Mapping[str, Any], run_dir: Path) -> None:
        """Print the closing table and lines."""
        print_summary(summary, run_dir)

    def failed(self, reason: str) -> None:
        """Print nothing: the command prints the reason."""

    def _line(self, done: int, note: str) -> None:
        text = f"{self._title}: {done}/{self._total}" + (f", {note}" if note else "")
        self._console.print(text, highlight=False, soft_wrap=True)
        log.info("%s", text)


class QuietProgress(LineProgress):
    """A view with errors and the last line only, which says where the model is."""

    def __init__(self, *, metric: str) -> None:
        super().__init__(make_console(file=sys.stderr, quiet=True), metric=metric)
        self._on_leaving = ExitStack()

    def __enter__(self) -> Self:
        """Keep warnings off the terminal; RUN's log has them."""
        # Handlers and not loggers: the file's handler has to go on getting everything
        for handler in terminal_handlers():
            self._on_leaving.callback(handler.setLevel, handler.level)
            handler.setLevel(logging.ERROR)
        return self

    def __exit__(self, *error: object) -> None:
        self._on_leaving.close()

    def finished(self, summary: Mapping[str, Any], run_dir: Path) -> None:
        """Print the last line only."""
        print_summary(summary, run_dir, last_line=True)


__all__ = ["LineProgress", "QuietProgress"]
