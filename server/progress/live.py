"""Progress of a run as a live table: the last rounds, a bar for each phase, and a note."""

import logging
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from confide.metrics.metric import NOISE_QUANTILE
from confide.protocol.messages import Evaluation
from confide.server.progress.view import (
    RoundFigures,
    figures,
    print_summary,
    round_note,
    terminal_handlers,
)
from confide.server.rounds.state import RunState, mean_metric, mean_noise, update_best

log = logging.getLogger(__name__)

_SHOWN = 10
_BELOW = 8
"""Number of lines taken by headers, bars and the note."""
_UNBOUNDED = 10_000
_FIRST_TO_GO = ("seconds", "refused", "failed", "best", "clients", "left", "epsilon")
"""Order in which columns are left out on a narrow terminal; round and metric always stay."""


class _Column(NamedTuple):
    """One column: its name, its header of two lines, and its cells."""

    name: str
    header: str
    cells: list[Text]


class RoundTable:
    """A table of the last rounds, with as many columns as fit without wrapping.

    Args:
        metric: name of the primary metric.
    """

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self.rows: deque[RoundFigures] = deque(maxlen=_SHOWN)
        self.epsilon_budget: float | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = list(self.rows)[-max(1, options.max_height - _BELOW) :]
        if not rows:
            return
        columns, leaving = self._columns(rows), list(_FIRST_TO_GO)
        # Measured without a bound: within one, rich would report that every table fits
        unbounded = options.update(max_width=_UNBOUNDED)
        while (
            leaving
            and Measurement.get(console, unbounded, _table(columns)).maximum > options.max_width
        ):
            gone = leaving.pop(0)
            columns = [column for column in columns if column.name != gone]
        yield _table(columns)

    def _columns(self, rows: Sequence[RoundFigures]) -> list[_Column]:
        budget = self.epsilon_budget
        spent = []
        if budget is not None:
            cells = [_number(r.epsilon, 2) for r in rows]
            spent.append(_Column("epsilon", f"epsilon\nof {budget:g}", cells))
        best = [Text(f"{r.best[0]:.3f} ({r.best[1]})" if r.best else "-") for r in rows]
        return [
            _Column("round", "\nround", [Text(str(r.server_round)) for r in rows]),
            _Column("metric", f"{self._metric}\nat start", [_number(r.value, 3) for r in rows]),
            _Column("best", "best\n(round)", best),
            *spent,
            _Column("clients", "clients\nin", [Text(f"{r.accepted}/{r.asked}") for r in rows]),
            _Column("failed", "\nfailed", [_count(r.failed) for r in rows]),
            _Column("refused", "\nrefused", [_count(r.refused) for r in rows]),
            _Column("seconds", "\nseconds", [_number(r.seconds, 1) for r in rows]),
            _Column(
                "left",
                "time\nleft",
                [Text(str(timedelta(seconds=round(r.seconds_left)))) for r in rows],
            ),
        ]


def _table(columns: Sequence[_Column]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column.header, justify="right", no_wrap=True)
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*cells)
    return table


def _number(value: float | None, digits: int) -> Text:
    return Text("-") if value is None else Text(f"{value:.{digits}f}")


def _count(names: Mapping[str, str]) -> Text:
    return Text(str(len(names)), style="bold yellow" if names else "dim")


class LiveProgress:
    """A view with a table of the last rounds, a bar for each phase, and a line for a note.

    Args:
        console: console of the terminal.
        metric: name of the primary metric.
    """

    def __init__(self, console: Console, *, metric: str) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, console=console)
        self._metric = metric
        self._rounds = RoundTable(metric)
        self._note = Text(no_wrap=True, overflow="ellipsis")
        self._live = Live(
            Group(self._rounds, self._bars, self._note), console=console, refresh_per_second=4
        )
        self._on_leaving = ExitStack()

    def __enter__(self) -> Self:
        """Use the lower part of the terminal; the log's warnings are printed above it."""
        # While it is live, rich replaces sys.stderr. Handlers that hold the old stream would write
        # into the table; those without a stream of their own look it up each time.
        handlers = [handler for handler in terminal_handlers() if "stream" in vars(handler)]
        self._live.start()
        for handler in handlers:
            before = handler.setStream(sys.stderr)
            self._on_leaving.callback(handler.setStream, before)
        return self

    def __exit__(self, *error: object) -> None:
        self._on_leaving.close()
        self._live.stop()

    def planned(self, *, epsilon_budget: float | None) -> None:
        """Show the budget above what is spent."""
        self._rounds.epsilon_budget = epsilon_budget

    def phase(self, title: str, *, total: int) -> None:
        """Begin the bar of a phase."""
        self._title, self._total = title, total
        self._task = self._bars.add_task(title, total=total)
        self._say("")

    def advance(self, note: str = "") -> None:
        """Move the bar by one."""
        self._bars.update(self._task, advance=1)
        self._say(note)

    def started(self, clients: Mapping[str, int]) -> None:
        """Show which institutions take part."""
        if clients:
            self._say(f"{len(clients)} institutions take part: {', '.join(clients)}")

    def resumed(self, state: RunState) -> None:
        """Show the last rounds of earlier processes."""
        # The best value as it was after each round, which only the last state still has
        then = replace(state, best=None)
        for done, record in enumerate(state.history, start=1):
            then = update_best(
                then, record.server_round - 1, record.validation, metric=self._metric
            )
            if len(state.history) - done < _SHOWN:
                self._add(replace(then, history=state.history[:done]))
        self._say(f"resumed after round {state.server_round}")

    def round_done(self, state: RunState) -> None:
        """Add a row, and show which institutions are missing."""
        self._add(state)
        record = state.history[-1]
        missing = ", ".join(f"{name} ({code})" for name, code in record.refused.items())
        if missing:
            self._say(f"round {record.server_round} without {missing}", style="yellow")
        log.info(
            "%s: %d/%d, %s",
            self._title,
            record.server_round,
            self._total,
            round_note(state, self._metric),
        )

    def evaluated(
        self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]
    ) -> None:
        """Show the scores of the model after a round."""
        value = mean_metric(evaluations, self._metric)
        if value is not None:
            noise = mean_noise(evaluations, self._metric)
            sure = "" if noise is None else f" ± {NOISE_QUANTILE * noise:.3f}"
            self._say(
                f"{self._metric} {value:.3f}{sure} on {split} records, after round {server_round}"
            )

    def finished(self, summary: Mapping[str, Any], run_dir: Path) -> None:
        """Print the closing table and lines below."""
        print_summary(summary, run_dir)

    def failed(self, reason: str) -> None:
        """Leave the table unchanged; the command prints the reason."""

    def _add(self, state: RunState) -> None:
        self._rounds.rows.append(figures(state, metric=self._metric, total=self._total))
        self._bars.update(self._task, completed=state.history[-1].server_round)

    def _say(self, note: str, *, style: str = "dim") -> None:
        self._note.plain, self._note.style = note, style


__all__ = ["LiveProgress", "RoundTable"]
