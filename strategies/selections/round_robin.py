"""One after the other in a fixed random order, so that rounds of one client lie apart.

What matrix mechanisms with bands assume: of each client two rounds are at least ``separation``
apart, "b-min-sep participation" (Choquette-Choo et al. 2023, arXiv 2306.08153, section 2; Kairouz
et al. 2021, arXiv 2103.00039, for the fixed order), as
:mod:`confide.strategies.mechanisms.banded` does. Institutions account for every round that they
take part in, and nothing is amplified by the order, which is no secret of theirs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from confide.errors import ConfigError
from confide.privacy.randomness import seed_from
from confide.strategies.roster import in_order
from confide.strategies.selections.shuffled import shuffled
from confide.strategies.strategy import Surroundings


@dataclass(frozen=True, kw_only=True)
class SelectRoundRobin:
    """The next so many in an order that follows from the secret, and from the first again.

    Attributes:
        clients_per_round: m, >= 1.
        separation: b: whoever takes part in a round is in none of the b - 1 before it; None: as
            large as it may be, the whole part of n / m for n clients.
    """

    clients_per_round: int
    separation: int | None = None

    @property
    def wanted(self) -> int | None:
        """All who are drawn are waited for."""
        return None

    @property
    def waits(self) -> bool:
        """Whoever's turn it is is asked, there or not."""
        return False

    @property
    def varies(self) -> bool:
        """Everybody's turn comes."""
        return False

    def expected(self, num_clients: int) -> float:
        """Return the number of clients in a round."""
        return float(self.clients_per_round)

    def participations(self, num_clients: int, num_rounds: int) -> int:
        """Return how many rounds fit that lie as far apart as is asked for."""
        separation = self.separation or max(1, num_clients // self.clients_per_round)
        return -(-num_rounds // separation)

    def __call__(self, clients: Sequence[str], *, secret: bytes, server_round: int) -> list[str]:
        """Choose from ``clients``, who were the same in all rounds before.

        Raises:
            ConfigError: if there are too few.
        """
        nobody = Surroundings(is_there_fn=lambda _: True)
        return self.draw(clients, nobody, secret=secret, server_round=server_round)

    def draw(
        self, clients: Sequence[str], seen: Surroundings, *, secret: bytes, server_round: int
    ) -> list[str]:
        """Choose whose turn it is, but for those who took part in too late a round.

        Of unchanged clients there are none such; where some joined or left, turns have moved.

        Raises:
            ConfigError: if there are too few whose last round is long enough ago.
        """
        most = len(clients) // self.clients_per_round
        separation = max(1, most) if self.separation is None else self.separation
        recent = seen.asked_fn(separation - 1)
        start = (server_round - 1) * self.clients_per_round
        chosen: list[str] = []
        for name in _in_turn(clients, start, seed_from(secret, "selection", "order")):
            if len(chosen) == self.clients_per_round:
                break
            if name not in recent:
                chosen.append(name)
        if len(chosen) < self.clients_per_round:
            raise ConfigError(
                f"strategy.selection.clients_per_round={self.clients_per_round}: of"
                f" {len(clients)} clients {len(chosen)} took part in none of the last"
                f" {separation - 1} rounds (strategy.selection.separation={separation}); lower one"
                " of them or add institutions."
            )
        return sorted(chosen)


def _in_turn(clients: Sequence[str], start: int, seed: int) -> Iterator[str]:
    names, number = in_order(clients), shuffled(len(clients), seed)
    return (names[number((start + place) % len(names))] for place in range(len(names)))


__all__ = ["SelectRoundRobin"]
