"""Learning rates that change from round to round: one setting for coordinator and institutions.

The rate of a round follows from its number, the number of rounds and these settings alone, so that
whoever knows the plan knows it, and a resumed run finds it again.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from confide.config.fields import STRICT, setting


@dataclass
class ScheduleConfig:
    """How a learning rate changes over the rounds of a run."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = setting(
        "constant",
        "How the learning rate falls from its full value to `final` times it in the last round: by"
        " half a cosine, in a line, or in `drops` equal factors.",
        choices=("constant", "cosine", "linear", "step"),
    )
    warmup_rounds: int = setting(
        0,
        "Number of rounds W at the start in which it rises: round r has r / (W + 1) of it.",
        ge=0,
        le=1_000_000,
    )
    # Never 0: the last round would be for nothing
    final: float = setting(0.1, "Share of it that the last round has.", ge=1e-6, le=1)
    drops: int = setting(2, "Number of drops of `kind: step`, evenly apart.", ge=1, le=1_000)

    @property
    def is_constant(self) -> bool:
        """Whether every round has the full rate."""
        return self.kind == "constant" and not self.warmup_rounds

    @property
    def beside_constant(self) -> dict[str, tuple[Any, Any]]:
        """Setting -> its value and the one of a rate that stays, of those that make it change."""
        plain = ScheduleConfig()
        return {
            f"schedule.{name}": (getattr(self, name), getattr(plain, name))
            for name in ("kind", "warmup_rounds")
        }

    def rate(self, server_round: int, num_rounds: int) -> float:
        """Return what a round's learning rate is multiplied by, in (0, 1].

        Args:
            server_round: number of the round, from 1; after the last one it is as in that.
            num_rounds: number of rounds of the run, >= 1.

        >>> ScheduleConfig(kind="linear", final=0.5).rate(2, 3)
        0.75
        """
        warmup = self.warmup_rounds
        if server_round <= warmup:
            return server_round / (warmup + 1)
        # 0 in the first round after the warm-up, 1 in the last one
        done = min(1.0, (server_round - 1 - warmup) / max(1, num_rounds - 1 - warmup))
        if self.kind == "cosine":
            return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2
        if self.kind == "linear":
            return 1 - (1 - self.final) * done
        if self.kind == "step":
            dropped = min(self.drops, math.floor(done * (self.drops + 1)))
            return float(self.final ** (dropped / self.drops))
        return 1.0

    def problem(self, num_rounds: int) -> str | None:
        """Return why it is of no use in a run of so many rounds; None if it is."""
        if self.warmup_rounds < max(1, num_rounds):  # of a run of none something else is told
            return None
        return (
            f"warmup_rounds={self.warmup_rounds}: the run has {num_rounds} rounds, all of which"
            " would warm up; lower it."
        )


__all__ = ["ScheduleConfig"]
