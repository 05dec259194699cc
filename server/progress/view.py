"""The figures that progress views show."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confide.metrics.metric import NOISE_QUANTILE
from confide.protocol.refusals import SILENCES
from confide.server.rounds.state import RunState, mean_metric, mean_noise
from confide.server.run.closing import closing_lines, closing_table
from confide.terminal import make_console

log = logging.getLogger(__name__)

_PACE_ROUNDS = 10


@dataclass(frozen=True, kw_only=True)
class RoundFigures:
    """The figures of a round.

    Attributes:
        server_round: number of the round.
        value: validation metric of the model that the round began from, mean over institutions
            weighted by support.
        best: best value so far, and the round after which the model had it.
        epsilon: largest epsilon that an institution has spent so far.
        accepted: number of updates used.
        failed: name -> code of institutions that gave no answer, or an error.
        refused: name -> code of institutions that declined, or whose update was refused.
        seconds: duration of the round.
        seconds_left: expected duration of the remaining rounds, from that of the last ones.
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
        """Number of institutions that were asked."""
        return self.accepted + len(self.failed) + len(self.refused)


def figures(state: RunState, *, metric: str, total: int) -> RoundFigures:
    """Return the figures of the last round.

    Args:
        state: state after the round.
        metric: name of the primary metric.
        total: number of rounds of the run.
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
    """Return a round's result in a few words."""
    record = state.history[-1]
    words = []
    value = mean_metric(record.validation, metric)
    if value is not None:
        noise = mean_noise(record.validation, metric)
        sure = "" if noise is None else f" ± {NOISE_QUANTILE * noise:.3f}"
        words.append(f"{metric} {value:.3f}{sure}")
    if record.epsilon:
        words.append(f"epsilon {max(record.epsilon.values()):.2f}")
    if record.refused:
        words.append(
            "without " + ", ".join(f"{name} ({code})" for name, code in record.refused.items())
        )
    return ", ".join(words)


def terminal_handlers() -> list[logging.StreamHandler[Any]]:
    """Return the handlers that write the log to this terminal."""
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


def print_summary(summary: Mapping[str, Any], run_dir: Path, *, last_line: bool = False) -> None:
    """Print a run's closing table and lines to stdout, or only the last line."""
    console, lines = make_console(), closing_lines(summary, run_dir)
    if not last_line:
        closing_table(summary).show(console)
    for line in lines[-1:] if last_line else lines:
        console.print(line, highlight=False, soft_wrap=True)


__all__ = ["RoundFigures", "figures", "print_summary", "round_note", "terminal_handlers"]
