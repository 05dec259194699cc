"""Progress of a run as JSON lines on stdout, one event on each line, for programs."""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TextIO

from confide.protocol.masked_sums import EVERYBODY
from confide.protocol.messages import Evaluation
from confide.server.progress.view import figures
from confide.server.rounds.state import RunState, mean_metric
from confide.server.run_folder import SUMMARY

log = logging.getLogger(__name__)


class JsonProgress:
    """A view that writes events, and nothing else, to stdout.

    Events are ``phase``, ``started``, ``resumed``, ``round``, ``evaluated`` and finally
    ``finished`` or ``failed``. A value that does not exist (an undefined metric, an epsilon without
    privacy) is null.

    Args:
        file: stream to write to; stdout.
        metric: name of the primary metric.
    """

    def __init__(self, file: TextIO, *, metric: str) -> None:
        self._file, self._metric = file, metric
        self._epsilon_budget: float | None = None
        self._total = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the file open: the last event comes later."""

    def planned(self, *, epsilon_budget: float | None) -> None:
        """Remember the budget, which is part of each round's event."""
        self._epsilon_budget = epsilon_budget

    def phase(self, title: str, *, total: int) -> None:
        """Write an event."""
        self._total = total
        self._write("phase", title=title, total=total)

    def advance(self, note: str = "") -> None:
        """Write nothing: a phase without rounds is short."""

    def started(self, clients: Mapping[str, int]) -> None:
        """Write an event with the institutions that take part."""
        self._write(
            "started",
            rounds=self._total,
            clients=dict(clients),
            epsilon_budget=self._epsilon_budget,
        )

    def resumed(self, state: RunState) -> None:
        """Write an event; earlier processes have written theirs."""
        self._write("resumed", round=state.server_round, rounds=self._total)

    def round_done(self, state: RunState) -> None:
        """Write an event; ``value`` is the validation metric of the model it began from."""
        done = figures(state, metric=self._metric, total=self._total)
        best, best_round = done.best or (None, None)
        self._write(
            "round",
            round=done.server_round,
            rounds=self._total,
            metric=self._metric,
            value=done.value,
            best=best,
            best_round=best_round,
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
        """Write an event with means over institutions, weighted by support.

        How many they are is not known of scores that left in a masked sum.
        """
        names = dict.fromkeys(
            name for metrics in evaluations.values() for name in metrics if name != "num_examples"
        )
        means = {name: mean_metric(evaluations, name) for name in names}
        told = None if EVERYBODY in evaluations else len(evaluations)
        self._write("evaluated", split=split, round=server_round, clients=told, **means)

    def finished(self, summary: Mapping[str, Any], run_dir: Path) -> None:
        """Write the last event."""
        keys = ("rounds", "seconds", "model_sha256", "federated")
        results = {name: summary[name] for name in keys}
        self._write("finished", **results, run=str(run_dir), summary=str(run_dir / SUMMARY))

    def failed(self, reason: str) -> None:
        """Write the last event."""
        self._write("failed", error=reason)

    def _write(self, event: str, **values: Any) -> None:
        # JSON has no NaN, and many readers refuse Python's
        finite = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in values.items()
        }
        line = json.dumps({"event": event, **finite})
        print(line, file=self._file, flush=True)
        log.info("%s", line)


__all__ = ["JsonProgress"]
