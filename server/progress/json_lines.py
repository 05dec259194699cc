"""A run as JSON lines on stdout, one event a line, for programs that watch it."""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from confide.protocol.messages import Evaluation
from confide.server.progress.view import figures
from confide.server.rounds.state import RunState, mean_metric
from confide.server.run_folder import SUMMARY

log = logging.getLogger(__name__)


class JsonProgress:
    """Writes ``phase``, ``started``, ``resumed``, ``round``, ``evaluated`` and at last ``finished`` or ``failed``.

    Nothing else is written to stdout; what is no number (a metric that is undefined, an epsilon
    without privacy) is null.

    Args:
        file: stdout.
        metric: the primary one.
    """

    def __init__(self, file: TextIO, *, metric: str) -> None:
        self._file, self._metric = file, metric
        self._epsilon_budget: float | None = None
        self._total = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the file open: the last event comes later."""

    def planned(self, *, epsilon_budget: float | None) -> None:
        """Remember the budget, which each round tells."""
        self._epsilon_budget = epsilon_budget

    def phase(self, title: str, *, total: int) -> None:
        """Write an event."""
        self._total = total
        self._write("phase", title=title, total=total)

    def advance(self, note: str = "") -> None:
        """Write nothing: a phase without rounds is short."""

    def started(self, clients: Mapping[str, int]) -> None:
        """Write an event with who takes part."""
        self._write(
            "started",
            rounds=self._total,
            clients=dict(clients),
            epsilon_budget=self._epsilon_budget,
        )

    def resumed(self, state: RunState) -> None:
        """Write an event; the rounds of earlier processes have been written by these."""
        self._write("resumed", round=state.server_round, rounds=self._total)

    def round_done(self, state: RunState) -> None:
        """Write an event; ``value`` and ``best`` are of the model that the round began from, on validation records."""
        done = figures(state, metric=self._metric, total=self._total)
        self._write(
            "round",
            round=done.server_round,
            rounds=self._total,
            metric=self._metric,
            value=done.value,
            best=done.best and done.best[0],
            best_round=done.best and done.best[1],
            epsilon=done.epsilon,
            epsilon_budget=self._epsilon_budget,
            clients=done.accepted,
            failed=dict(done.failed),
            refused=dict(done.refused),
            seconds=round(done.seconds, 3),
            seconds_left=round(done.seconds_left, 3),
        )

    def evaluated(
        self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]
    ) -> None:
        """Write an event with means over institutions, by support."""
        names = dict.fromkeys(
            name for metrics in evaluations.values() for name in metrics if name != "num_examples"
        )
        means = {name: mean_metric(evaluations, name) for name in names}
        self._write("evaluated", split=split, round=server_round, clients=len(evaluations), **means)

    def finished(self, summary: Mapping[str, Any], run_dir: Path) -> None:
        """Write the last event."""
        told = {name: summary[name] for name in ("rounds", "seconds", "model_sha256", "federated")}
        self._write("finished", **told, run=str(run_dir), summary=str(run_dir / SUMMARY))

    def failed(self, told: str) -> None:
        """Write the last event."""
        self._write("failed", error=told)

    def _write(self, event: str, **values: Any) -> None:
        finite = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in values.items()
        }
        line = json.dumps({"event": event, **finite})
        print(line, file=self._file, flush=True)
        log.info("%s", line)


__all__ = ["JsonProgress"]
