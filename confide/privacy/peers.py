"""How much noise a record has in a sum that nobody sees inside.

Protected: one record of one institution, against a coordinator that sees sums alone, and against
n - h of the institutions in them. Neighbouring relation: zero-out, as everywhere. Trusted: h
institutions of each sum, the record's own among them: they follow the protocol and keep their noise
to themselves. Whoever else colludes, the institution's own epsilon holds, which is always told
beside this one.

Institution i adds (clipped sum + sigma_i C N) / q_i, with one local step a round. Against the sum
alone a record at j has noise of standard deviation C sqrt(sum_H (sigma_i / q_i)^2), where it moves
the sum by at most C / q_j: a noise multiplier of q_j sqrt(sum_H (sigma_i / q_i)^2), at rate q_j
(compare Heikkila et al. 2020, arXiv 2007.05553, for one release). Where institutions weigh the same
and not by n_i, i adds that divided by n_i, so that q_i n_i stands in place of q_i.

With two or more local steps this does not hold: the later gradients of all other records depend on
a state with the institution's own noise alone, which nobody releases (``tests/privacy/test_peers``
has the counterexample). Rounding to the grid of the sums adds at most a relative 3e-11 to delta
where a standard deviation has two units, and :data:`LEAST_GRID` are asked for.

Rounds may have other cohorts, and so other noise. A round with more noise is a function of the same
round with less and of noise that nobody's records are in: many rounds cost at most what as many
with the weakest one's noise do, as long as how weak a round may be was fixed beforehand.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LEAST_GRID = 2.0**10
"""Least standard deviation of an institution's noise, in units of the sums' grid."""


@dataclass(frozen=True, kw_only=True)
class PeerNoise:
    """Noise of a record in a sum.

    Attributes:
        honest: h, institutions whose noise it is, the record's own among them; 1 if no other's
            counts.
        noise_multiplier: of a record at its institution's rate, at least the institution's own.
    """

    honest: int
    noise_multiplier: float


def weakest(noises: Iterable[PeerNoise]) -> PeerNoise | None:
    """Return noise that stands for that of several sums; None for none.

    The least of all, and the most institutions that one of them counts on: if so many are honest in
    each, none has less noise.
    """
    known = list(noises)
    if not known:
        return None
    return PeerNoise(
        honest=max(one.honest for one in known),
        noise_multiplier=min(one.noise_multiplier for one in known),
    )


def multiplier_with_peers(
    own: tuple[float, float], others: Sequence[tuple[float, float]], *, honest: int
) -> float:
    """Return the noise multiplier of a record in a sum, with h honest institutions.

    Args:
        own: sigma of the record's institution, and what its noise is divided by in the sum: q,
            where institutions weigh by n, and q n, where all weigh the same; sigma >= 0, q > 0.
        others: the same of the others whose noise could be in the sum.
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


def grid_units(noise: tuple[float, float], *, step: float, scale_bits: int) -> float:
    """Return the standard deviation of an institution's noise, in units of the sum's grid.

    Args:
        noise: sigma, and what it is divided by in the sum, as for :func:`multiplier_with_peers`.
        step: learning rate times clipping norm.
        scale_bits: s: a value x of weight n is round(n x 2^s).
    """
    sigma, rate = noise
    return step * sigma / rate * 2.0**scale_bits


__all__ = [
    "LEAST_GRID",
    "PeerNoise",
    "grid_units",
    "honest_in_each",
    "multiplier_with_peers",
    "weakest",
]
