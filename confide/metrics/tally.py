"""A tally: sums over the records of a split, which add up over institutions.

What is told of a split beside its metrics. Names are those of statistics
(:class:`~confide.metrics.metric.Statistic`), and each has a fixed shape: what follows from the sums
of one institution follows in the same way from those of all. With noise they are the very sums that
metrics were worked out from, so that a tally tells nothing more; without, they are counts, as a
policy lets them out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST_SUMS = 2**17
"""Largest number of sums in one tally that is read."""
LARGEST_SUM = 2.0**53
"""Largest sum that is read."""


@dataclass(frozen=True, kw_only=True)
class ScoreTally:
    """Sums over the records of one split, at one institution.

    Attributes:
        sums: statistic's name -> its sums, noise included.
        std: standard deviation of the noise in each sum; 0 for exact counts.
    """

    sums: Mapping[str, Sequence[float]]
    std: float = 0.0

    def problem(self) -> str | None:
        """Return what no honest tally is, as a clause; None for nothing."""
        if not 0 <= self.std <= LARGEST_SUM:
            return f"noise={self.std} in [0, 2^53]"
        if sum(map(len, self.sums.values())) > MOST_SUMS:
            return f"at most {MOST_SUMS} sums"
        if not all(math.isfinite(it) and abs(it) <= LARGEST_SUM for it in _each(self)):
            return "finite sums, at most 2^53"
        if self.std == 0 and not all(it >= 0 and it == int(it) for it in _each(self)):
            return "sums without noise to be counts"
        return None


def _each(tally: ScoreTally) -> list[float]:
    return [it for values in tally.sums.values() for it in values]


__all__ = ["LARGEST_SUM", "MOST_SUMS", "ScoreTally"]
