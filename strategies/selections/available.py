"""Of those who are there when a round begins, so many, uniformly.

In a simulation a client is there by its windows in virtual time; in a deployment while the
coordinator sees it connected. Whoever is there more often takes part more often: the model is
theirs more than others' (Bonawitz et al. 2019, arXiv 1902.01046, section 6.1). Client sampling
amplifies nothing of what institutions account for, which is every round that they take part in.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from confide.errors import ConfigError
from confide.privacy.randomness import seed_from
from confide.strategies.roster import in_order
from confide.strategies.selections.shuffled import shuffled
from confide.strategies.strategy import Surroundings


@dataclass(frozen=True, kw_only=True)
class SelectAvailable:
    """At most a number of those who are there, uniformly without replacement.

    Attributes:
        clients_per_round: at most so many, >= 1.
    """

    clients_per_round: int

    @property
    def wanted(self) -> int | None:
        """All who are drawn are waited for."""
        return None

    @property
    def waits(self) -> bool:
        """A round begins once ``server.min_clients`` are there."""
        return True

    @property
    def varies(self) -> bool:
        """With nobody there a round does not begin."""
        return False

    def __call__(self, clients: Sequence[str], *, secret: bytes, server_round: int) -> list[str]:
        """Choose from ``clients``, as if all were there.

        Raises:
            ConfigError: if there are too few.
        """
        everybody = Surroundings(is_there_fn=lambda _: True)
        return self.draw(clients, everybody, secret=secret, server_round=server_round)

    def draw(
        self, clients: Sequence[str], seen: Surroundings, *, secret: bytes, server_round: int
    ) -> list[str]:
        """Choose from those who are there; the same for the same secret, round and presence.

        Raises:
            ConfigError: if there are fewer clients than a round may have, there or not.
        """
        if self.clients_per_round > len(clients):
            raise ConfigError(
                f"strategy.selection.clients_per_round={self.clients_per_round} exceeds the"
                f" {len(clients)} clients there are; lower it or add institutions."
            )
        seed = seed_from(secret, "selection", server_round)
        there = filter(seen.is_there_fn, _in_random_order(clients, seed))
        return sorted(itertools.islice(there, self.clients_per_round))


def _in_random_order(clients: Sequence[str], seed: int) -> Iterator[str]:
    # One after the other: of many who are there the first ones are enough
    names, number = in_order(clients), shuffled(len(clients), seed)
    return (names[number(place)] for place in range(len(names)))


__all__ = ["SelectAvailable"]
