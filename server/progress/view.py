"""The interface of progress views, and the figures they show."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console

from confide.protocol.messages import Evaluation
from confide.protocol.refusals import SILENCES
from confide.server.rounds.state import RunState, mean_metric
from confide.server.run.closing import closing_lines, closing_table

log = logging.getLogger(__name__)

_PACE_ROUNDS = 10


class ProgressView(Protocol):
    """Shows how far a run is; an :class:`~confide.server.rounds.outcome.Observer` with phases."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def planned(self, *, epsilon_budget: float | None) -> None:
        """Hear, before the rounds, of the epsilon that each institution may spend in this run.

        None without privacy.
        """

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

    def evaluated(
        self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]
    ) -> None:
        """Hear how a model scores."""

    def finished(self, summary: Mapping[str, Any], run_dir: Path) -> None:
        """Hear, last of all, how the run ended."""

    def failed(self, told: str) -> None:
        """Hear, last of all, that it ended without a model.

        The command itself says why on stderr.
        """


@dataclass(frozen=True, kw_only=True)
class RoundFigures:
    """What a round comes to, in figures.

    Attributes:
        server_round: that is done.
        value: the metric of the tensors that the round began from, support-weighted mean over
            institutions.
        best: the best so far of the same, and the round after which the model had it.
        epsilon: the most that an institution has spent so far.
        accepted: how many updates went in.
        failed: name -> code of those who did not answer, or with an error.
        refused: name -> code of those who declined, or whose update was declined.
        seconds: of the round.
        seconds_left: for all that are left, at the pace of the last ones.
    """

    server_round: int
    value: float | None
    best: tuple[float, int] | None
    epsilon: float | None
    accepted: int
    failed: Mapping[str, str]
    refused: Mapping[str, str]
    seconds: float
    seconds_left: float

    @property
    def asked(self) -> int:
        """How many were asked."""
        return self.accepted + len(self.failed) + len(self.refused)


def figures(state: RunState, *, metric: str, total: int) -> RoundFigures:
    """Work out the figures of the last round.

    Args:
        state: after it.
        metric: the primary one.
        total: rounds asked for.
    """
    record, best = state.history[-1], state.best
    recent = [earlier.seconds for earlier in state.history[-_PACE_ROUNDS:]]
    return RoundFigures(
        server_round=record.server_round,
        value=mean_metric(record.validation, metric),
        best=None if best is None else (best.value, best.server_round),
        epsilon=max(record.epsilon.values(), default=None),
        accepted=len(record.accepted),
        failed={name: code for name, code in record.refused.items() if code in SILENCES},
        refused={name: code for name, code in record.refused.items() if code not in SILENCES},
        seconds=record.seconds,
        seconds_left=sum(recent) / len(recent) * (total - record.server_round),
    )


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
        words.append(
            "without " + ", ".join(f"{name} ({code})" for name, code in record.refused.items())
        )
    return ", ".join(words)


def terminal_handlers() -> list[logging.StreamHandler[Any]]:
    """Return what writes the log to this terminal."""
    known = logging.root.manager.loggerDict.values()
    loggers = [
        logging.getLogger(),
        *(logger for logger in known if isinstance(logger, logging.Logger)),
    ]
    handlers = [handler for logger in loggers for handler in logger.handlers]
    return [
        h
        for h in handlers
        if isinstance(h, logging.StreamHandler) and h.stream in (sys.stderr, sys.stdout)
    ]


def tell(summary: Mapping[str, Any], run_dir: Path, *, last_line: bool = False) -> None:
    """Print to stdout what a run has come to.

    The closing table and lines, or the last line alone.
    """
    console, lines = Console(), closing_lines(summary, run_dir)
    if not last_line:
        console.print(closing_table(summary))
    for line in lines[-1:] if last_line else lines:
        console.print(line, highlight=False, soft_wrap=True)


__all__ = ["ProgressView", "RoundFigures", "figures", "round_note", "tell", "terminal_handlers"]
