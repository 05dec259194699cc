"""Everybody, or a fixed number of clients drawn anew in each round."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from confide.errors import ConfigError
from confide.privacy.randomness import seed_from
from confide.strategies.roster import in_order


@dataclass(frozen=True)
class SelectAll:
    """Everybody, in the order of their names."""

    @property
    def wanted(self) -> int | None:
        """All are waited for."""
        return None

    def expected(self, num_clients: int) -> float:
        """Return their number."""
        return float(num_clients)

    def participations(self, num_clients: int, num_rounds: int) -> int:
        """Return all rounds."""
        return num_rounds

    def __call__(self, clients: Sequence[str], *, secret: bytes, server_round: int) -> list[str]:
        """Choose all of ``clients``."""
        return list(in_order(clients))


@dataclass(frozen=True, kw_only=True)
class SelectUniform:
    """A fixed number, uniformly without replacement.

    Over-selection is that of Bonawitz et al. 2019 (arXiv 1902.01046), section 2.2: more are asked
    than are needed, and the first are taken.

    Attributes:
        clients_per_round: needed, >= 1.
        over_selection: how many times as many are asked, >= 1.
    """

    clients_per_round: int
    over_selection: float = 1.0

    @property
    def wanted(self) -> int | None:
        """The number that is needed, where more are asked."""
        return self.clients_per_round if self.over_selection > 1 else None

    def __call__(self, clients: Sequence[str], *, secret: bytes, server_round: int) -> list[str]:
        """Choose from ``clients``; the same for the same secret and round.

        Raises:
            ConfigError: if there are too few.
        """
        asked = math.ceil(self.clients_per_round * self.over_selection)
        if asked > len(clients):
            times = f" x over_selection={self.over_selection:g}" if self.over_selection > 1 else ""
            raise ConfigError(
                f"strategy.selection.clients_per_round={self.clients_per_round}{times} exceeds the"
                f" {len(clients)} clients there are; lower it or add institutions."
            )
        # Sorted first: the order of enrolment must not decide who is chosen.
        chooser = random.Random(seed_from(secret, "selection", server_round))
        return sorted(chooser.sample(in_order(clients), asked))


__all__ = ["SelectAll", "SelectUniform"]
