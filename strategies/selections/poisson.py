"""Each client by itself with a probability, so that chance decides how many there are.

What analyses of privacy by client sampling assume (McMahan et al. 2018, arXiv 1710.06963, algorithm
1; Abadi et al. 2016). Protected by such an analysis are clients against whoever sees the models,
with a trusted coordinator that keeps its draws to itself. Nothing here rests on it: institutions
account for every round that they take part in, as if they took part in all.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from confide.privacy.randomness import seed_from
from confide.strategies.roster import in_order
from confide.strategies.strategy import Surroundings


@dataclass(frozen=True, kw_only=True)
class SelectPoisson:
    """Each client independently with the same probability.

    Attributes:
        probability: q, in (0, 1].
        denominator: what a round's sum of updates is divided by: the number of those accepted
            (accepted), or q times the number of clients (expected; McMahan et al. 2018, section
            3.1, the estimator with a fixed denominator, of which one client moves no more than its
            own share).
    """

    probability: float
    denominator: str = "accepted"

    @property
    def wanted(self) -> int | None:
        """All who are drawn are waited for."""
        return None

    @property
    def waits(self) -> bool:
        """Whoever is drawn is asked, there or not."""
        return False

    @property
    def varies(self) -> bool:
        """Whether anybody is drawn is chance."""
        return True

    def factor(self, accepted: int, num_clients: int) -> float:
        """Return what the mean of the accepted updates is multiplied by.

        Args:
            accepted: number of updates, >= 1.
            num_clients: number of clients that are drawn from.
        """
        if self.denominator == "accepted":
            return 1.0
        return accepted / (self.probability * num_clients)

    def expected(self, num_clients: int) -> float:
        """Return q times the number of clients."""
        return self.probability * num_clients

    def participations(self, num_clients: int, num_rounds: int) -> int:
        """Return all rounds: chance may draw a client in each."""
        return num_rounds

    def __call__(self, clients: Sequence[str], *, secret: bytes, server_round: int) -> list[str]:
        """Choose from ``clients``; the same for the same secret and round."""
        # Sorted first: the order of enrolment must not decide who is chosen.
        names = in_order(clients)
        source = random.Random(seed_from(secret, "selection", server_round))
        return [names[position] for position in self._positions(len(names), source)]

    def draw(
        self, clients: Sequence[str], seen: Surroundings, *, secret: bytes, server_round: int
    ) -> list[str]:
        """Choose from ``clients``, whoever is there."""
        return self(clients, secret=secret, server_round=server_round)

    def _positions(self, count: int, source: random.Random) -> Iterator[int]:
        """Yield the positions that are drawn, ascending, in time that grows with their number.

        Between two of them lie k that are not with probability q (1 - q)^k.
        """
        if self.probability >= 1.0:
            yield from range(count)
            return
        scale = math.log1p(-self.probability)
        position = -1
        while True:
            gap = math.log1p(-source.random()) / scale
            if gap >= count:  # also where it is too large for an integer
                return
            position += 1 + int(gap)
            if position >= count:
                return
            yield position


__all__ = ["SelectPoisson"]
