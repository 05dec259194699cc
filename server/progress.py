"""What a person sees while a run goes on: a live bar on a terminal, one line a round elsewhere."""

import logging
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from confide.exchange import Evaluation
from confide.server.state import RunState, mean_metric

log = logging.getLogger(__name__)


class ProgressView(Protocol):
    """Shows how far a run is; an :class:`~confide.server.rounds.Observer` with phases."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def phase(self, title: str, *, total: int) -> None:
        """Begin a phase of ``total`` rounds or steps."""

    def advance(self, note: str = "") -> None:
        """Finish one step of a phase that is not made of rounds."""

    def started(self, clients: Mapping[str, int]) -> None:
        """Hear who takes part."""

    def resumed(self, state: RunState) -> None:
        """Hear of rounds that an earlier process did."""

    def round_done(self, state: RunState) -> None:
        """Hear of a round."""

    def evaluated(self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]) -> None:
        """Hear how a model scores."""


def round_note(state: RunState, metric: str) -> str:
    """Say in a few words how a round went."""
    record = state.history[-1]
    words = []
    value = mean_metric(record.validation, metric)
    if value is not None:
        words.append(f"{metric} {value:.3f}")
    if record.epsilon:
        words.append(f"epsilon {max(record.epsilon.values()):.2f}")
    if record.refused:
        words.append("without " + ", ".join(f"{name} ({code})" for name, code in record.refused.items()))
    return ", ".join(words)


class LiveProgress:
    """A bar with round, metric, privacy spent and time left."""

    def __init__(self, console: Console, *, metric: str) -> None:
        columns = (
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=console)
        self._metric = metric

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def phase(self, title: str, *, total: int) -> None:
        """Begin a bar of its own."""
        self._task = self._progress.add_task(title, total=total, note="")

    def advance(self, note: str = "") -> None:
        """Move the bar by one."""
        self._progress.update(self._task, advance=1, note=note)

    def started(self, clients: Mapping[str, int]) -> None:
        """Show nothing: the closing table names the institutions."""

    def resumed(self, state: RunState) -> None:
        """Begin the bar where an earlier process left off."""
        self._progress.update(self._task, completed=state.server_round, note="resumed")

    def round_done(self, state: RunState) -> None:
        """Move the bar to the round that is done."""
        self._progress.update(self._task, completed=state.server_round, note=round_note(state, self._metric))

    def evaluated(self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]) -> None:
        """Show nothing: the closing table does."""


class LineProgress:
    """One line a round, for logs and pipes."""

    def __init__(self, console: Console, *, metric: str) -> None:
        self._console = console
        self._metric = metric

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave nothing behind."""

    def phase(self, title: str, *, total: int) -> None:
        """Remember what the next lines are about."""
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
        self._line(state.server_round, f"{round_note(state, self._metric)}, {state.history[-1].seconds:.1f} s")

    def evaluated(self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]) -> None:
        """Print nothing: the closing table does."""

    def _line(self, done: int, note: str) -> None:
        text = f"{self._title}: {done}/{self._total}" + (f", {note}" if note else "")
        self._console.print(text, highlight=False, soft_wrap=True)
        log.info("%s", text)


def make_progress(metric: str) -> ProgressView:
    """Choose by whether somebody watches."""
    console = Console(file=sys.stderr)
    return LiveProgress(console, metric=metric) if console.is_terminal else LineProgress(console, metric=metric)


__all__ = ["LineProgress", "LiveProgress", "ProgressView", "make_progress", "round_note"]
