"""The engines of confide itself."""

from collections.abc import Mapping
from dataclasses import dataclass

import vectorised
from vectorised import Shape

from confide.protocol.messages import Evaluation
from confide.server.rounds.state import RunState
from confide.simulations.engines.engine import ENGINES
from frameworks.turns import Turns


@dataclass(frozen=True)
class Waiting:
    """An observer that waits for its turn after each round.

    Attributes:
        turns: hands them out.
    """

    turns: Turns

    def started(self, clients: Mapping[str, int]) -> None:
        """Wait for the first turn."""
        self.turns.begin()

    def resumed(self, state: RunState) -> None:
        """Nothing is resumed here."""

    def round_done(self, state: RunState) -> None:
        """Wait for the next turn."""
        self.turns.done(lambda: list(state.params.values()))

    def evaluated(
        self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]
    ) -> None:
        """Nothing is compared here."""


def run(shape: Shape, turns: Turns, *, rounds: int, engine: str) -> None:
    """Run rounds through an engine.

    Raises:
        ValueError: there is no such engine.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine={engine}: this release has {', '.join(ENGINES)}")
    vectorised.run(shape, engine, Waiting(turns), rounds=rounds)
