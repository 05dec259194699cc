"""Settings of who takes part in a round, and the table of their kinds. No torch is imported."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.strategies.kinds import PartKind
from confide.config.strategies.objectives import part_name


@dataclass
class SelectionConfig:
    """Everybody takes part in every round; other selections extend this."""

    kind: str = part_name("all", "selection")

    def client_problems(self, clients: int, there: str) -> Iterator[str]:
        """Yield what contradicts a number of institutions.

        Args:
            clients: how many there are.
            there: what sets this number, for the sentence.
        """
        yield from ()

    def fewest(self, clients: int, there: str, least: int) -> tuple[int, str]:
        """Return how many a round asks at least, and what sets this number, for a sentence.

        Args:
            clients: how many there are.
            there: what sets this number.
            least: ``server.min_clients``.
        """
        return clients, there


@dataclass
class PoissonSelectionConfig(SelectionConfig):
    """Each client by itself with a probability; a round with nobody leaves the model as it is."""

    kind: str = part_name("poisson", "selection")
    probability: float = setting(
        "???", "Probability with which a client takes part in a round.", gt=0, le=1
    )
    denominator: str = setting(
        "accepted",
        "What a round's sum of updates is divided by: the number accepted, or the expected number,"
        " probability times the number of clients.",
        choices=("accepted", "expected"),
    )


@dataclass
class CountedSelectionConfig(SelectionConfig):
    """What selections of a number of clients have in common."""

    kind: str = part_name("counted", "selection")
    clients_per_round: int = setting("???", "Clients in one round.", ge=1)

    @property
    def key(self) -> str:
        """Setting and value, for sentences."""
        return f"strategy.selection.clients_per_round={self.clients_per_round}"

    def client_problems(self, clients: int, there: str) -> Iterator[str]:
        """Yield that there are too few."""
        if self.clients_per_round > clients:
            yield f"{self.key} exceeds {there}; lower it or add institutions."

    def fewest(self, clients: int, there: str, least: int) -> tuple[int, str]:
        """Return their number."""
        return min(self.clients_per_round, clients), self.key


@dataclass
class UniformSelectionConfig(CountedSelectionConfig):
    """A fixed number of clients a round, uniformly without replacement."""

    kind: str = part_name("uniform", "selection")
    over_selection: float = setting(
        1.0,
        "Factor by which more clients than clients_per_round are asked; the round is closed once"
        " clients_per_round of them were accepted. A simulation needs delays.",
        ge=1,
        le=100,
    )

    @property
    def asked(self) -> int:
        """Number of clients that a round asks."""
        return math.ceil(self.clients_per_round * self.over_selection)

    def client_problems(self, clients: int, there: str) -> Iterator[str]:
        """Yield that there are too few."""
        yield from super().client_problems(clients, there)
        if self.clients_per_round <= clients < self.asked:
            yield (
                f"{self.key}, over_selection={self.over_selection:g} ask {self.asked},"
                f" which exceeds {there}; lower one of them or add institutions."
            )


@dataclass
class AvailableSelectionConfig(CountedSelectionConfig):
    """At most so many of the clients that are there when a round begins, uniformly.

    A round begins once ``server.min_clients`` are there.
    """

    kind: str = part_name("available", "selection")

    def fewest(self, clients: int, there: str, least: int) -> tuple[int, str]:
        """Return the number that is waited for."""
        return min(least, clients), f"server.min_clients={least} of those who are there"


@dataclass
class RoundRobinSelectionConfig(CountedSelectionConfig):
    """One after the other in a fixed random order, so that a client's rounds lie apart."""

    kind: str = part_name("round_robin", "selection")
    separation: int | None = setting(
        None,
        "A client takes part at most once in so many rounds on end; null: as many as there are"
        " cohorts of clients_per_round.",
        ge=1,
        le=1_000_000,
    )

    def client_problems(self, clients: int, there: str) -> Iterator[str]:
        """Yield that there are too few for rounds so far apart."""
        yield from super().client_problems(clients, there)
        most = clients // self.clients_per_round
        if self.separation is not None and 0 < most < self.separation:
            yield (
                f"strategy.selection.separation={self.separation}, clients_per_round="
                f"{self.clients_per_round} need {self.separation * self.clients_per_round} clients,"
                f" which exceeds {there}; set separation to at most {most}, lower"
                " clients_per_round, or add institutions."
            )


SELECTIONS: dict[str, PartKind] = {
    "all": PartKind(
        schema=SelectionConfig, builder="confide.strategies.selections.uniform.SelectAll"
    ),
    "uniform": PartKind(
        schema=UniformSelectionConfig,
        builder="confide.strategies.selections.uniform.SelectUniform",
    ),
    "poisson": PartKind(
        schema=PoissonSelectionConfig,
        builder="confide.strategies.selections.poisson.SelectPoisson",
    ),
    "available": PartKind(
        schema=AvailableSelectionConfig,
        builder="confide.strategies.selections.available.SelectAvailable",
    ),
    "round_robin": PartKind(
        schema=RoundRobinSelectionConfig,
        builder="confide.strategies.selections.round_robin.SelectRoundRobin",
    ),
}

__all__ = [
    "SELECTIONS",
    "AvailableSelectionConfig",
    "CountedSelectionConfig",
    "PoissonSelectionConfig",
    "RoundRobinSelectionConfig",
    "SelectionConfig",
    "UniformSelectionConfig",
]
