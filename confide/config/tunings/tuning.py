"""Which tensors of a model are trained: what every kind of tuning says."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from confide.config.fields import STRICT, setting


@dataclass
class TuningConfig:
    """Which tensors are trained, and so travel.

    The schema of kinds that have no settings; others extend it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = setting(
        "???",
        "Chosen by its group, such as tuning=lora.",
        choices=("full", "head", "bias", "norm"),
    )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        return iter(())

    def round_problems(self, num_rounds: int) -> Iterator[str]:
        """Yield what contradicts a number of rounds."""
        return iter(())

    def turn(self, server_round: int, turns: int) -> int:
        """Return which turn a round is, where not all tensors are trained in every round.

        Args:
            server_round: from 1; a coordinator may ask for any.
            turns: how many there are, >= 1.

        Returns:
            Its number, from 0.
        """
        return (server_round - 1) % turns

    def seeded(self, seed: int) -> "TuningConfig":
        """Return it with the seed of frozen tensors that start at random.

        A kind without any, or whose seed is set, is returned as it is.

        Args:
            seed: 0 to 2^63 - 1.
        """
        return self


__all__ = ["TuningConfig"]
