"""How much noise a record has in a sum that nobody sees inside.

Protected: one record of one institution, against a coordinator that sees sums alone, and against
n - h of the institutions in them. Neighbouring relation: zero-out, as everywhere. Trusted: h
institutions of each sum, the record's own among them: they follow the protocol and keep their noise
to themselves. Whoever else colludes, the institution's own epsilon holds, which is always told
beside this one.

Institution i adds (clipped sum + sigma_i C N) / q_i, with one local step a round. Against the sum
alone a record at j has noise of standard deviation C sqrt(sum_H (sigma_i / q_i)^2), where it moves
the sum by at most C / q_j: a noise multiplier of q_j sqrt(sum_H (sigma_i / q_i)^2), at rate q_j
(compare Heikkila et al. 2020, arXiv 2007.05553, for one release).

With two or more local steps this does not hold: the later gradients of all other records depend on
a state with the institution's own noise alone, which nobody releases (``tests/privacy/test_peers``
has the counterexample). Rounding to the grid of the sums adds at most a relative 3e-11 to delta
where a standard deviation has two units, and :data:`LEAST_GRID` are asked for.
"""

import math
from collections.abc import Sequence

LEAST_GRID = 2.0**10
"""Least standard deviation of an institution's noise, in units of the sums' grid."""


def multiplier_with_peers(
    own: tuple[float, float], others: Sequence[tuple[float, float]], *, honest: int
) -> float:
    """Return the noise multiplier of a record in a sum, with h honest institutions.

    Args:
        own: sigma and q of the record's institution; sigma >= 0, q in (0, 1].
        others: sigma and q of the others whose noise could be in the sum.
        honest: h, at least 1 and at most all: the others' h - 1 smallest noises are counted.

    Returns:
        At least the institution's own sigma.
    """
    if not 1 <= honest <= 1 + len(others):
        raise ValueError(f"Expected 1 to {1 + len(others)} honest institutions; got {honest}.")
    sigma, q = own
    # Which of the others are honest nobody knows: those with the least noise are
    scaled = sorted(noise / rate for noise, rate in others)[: honest - 1]
    return q * math.sqrt((sigma / q) ** 2 + sum(noise**2 for noise in scaled))


def honest_in_each(survivors: int, colluding: int) -> int:
    """Return h, the honest institutions that a sum of at least so many survivors has."""
    return max(1, survivors - colluding)


__all__ = ["LEAST_GRID", "honest_in_each", "multiplier_with_peers"]
