"""Who takes part in a round."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from confide.errors import ConfigError
from confide.privacy.randomness import seed_from
from confide.strategies.roster import in_order


@dataclass(frozen=True)
class SelectAll:
    """Everybody, in the order of their names."""

    def __call__(self, clients: Sequence[str], *, secret: bytes, server_round: int) -> list[str]:
        """Choose all of ``clients``."""
        return list(in_order(clients))


@dataclass(frozen=True, kw_only=True)
class SelectUniform:
    """A fixed number, uniformly without replacement."""

    clients_per_round: int

    def __call__(self, clients: Sequence[str], *, secret: bytes, server_round: int) -> list[str]:
        """Choose from ``clients``; the same for the same secret and round.

        Raises:
            ConfigError: if there are too few.
        """
        if self.clients_per_round > len(clients):
            raise ConfigError(
                f"strategy.selection.clients_per_round={self.clients_per_round} exceeds the"
                f" {len(clients)} clients there are; lower it or add institutions."
            )
        # Sorted first: the order of enrolment must not decide who is chosen.
        chooser = random.Random(seed_from(secret, "selection", server_round))
        return sorted(chooser.sample(in_order(clients), self.clients_per_round))


__all__ = ["SelectAll", "SelectUniform"]
