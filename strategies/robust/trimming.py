"""Rules that look at each number by itself: the median and the trimmed mean.

Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018
(arXiv 1803.01498), definitions 1 and 2. Both withstand f of n updates where n > 2 f.
"""

import functools

import torch
from torch import Tensor

from confide.strategies.robust.rule import BLOCK, Reduced, RobustRule


def median(*, num_hostile: int) -> RobustRule:
    """Build the coordinate-wise median; of an even number the mean of the two in the middle."""
    return RobustRule(
        kind="median", num_hostile=num_hostile, reduce_fn=functools.partial(_reduce, num_hostile, 1)
    )


def trimmed_mean(*, num_hostile: int) -> RobustRule:
    """Build the coordinate-wise mean without the ``num_hostile`` values at either end."""
    return RobustRule(
        kind="trimmed_mean",
        num_hostile=num_hostile,
        reduce_fn=functools.partial(_reduce, num_hostile, None),
    )


def _reduce(num_hostile: int, middle: int | None, vectors: Tensor, centre: Tensor) -> Reduced:
    """Average the values in the middle of each number.

    Args:
        num_hostile: f; a vector is set aside by the share of numbers in which it is among the f
            smallest or the f largest.
        middle: 1 for the median; None for all but those.
        vectors: float32, shape [k, d].
        centre: not used.
    """
    k, d = vectors.shape
    cut = num_hostile if middle is None else (k - 1) // 2
    values = []
    outside = torch.zeros(k, dtype=torch.float64)
    for block in vectors.split(BLOCK, dim=1):
        # Stable, so that equal values are cut in the order of names
        ordered, who = block.sort(dim=0, stable=True)
        values.append(ordered[cut : k - cut].double().mean(dim=0))
        for ends in (who[:num_hostile], who[k - num_hostile :]):
            outside += torch.bincount(ends.flatten(), minlength=k)
    return Reduced(torch.cat(values).float(), outside / max(1, d))


def middle_values(vectors: Tensor) -> Tensor:
    """Return the lower of the values in the middle of each number, float32, shape [d]."""
    return torch.cat([block.median(dim=0).values for block in vectors.split(BLOCK, dim=1)])


__all__ = ["median", "middle_values", "trimmed_mean"]
