"""The geometric median.

Pillutla et al., "Robust Aggregation for Federated Learning", IEEE Transactions on Signal Processing
2022 (arXiv 1912.13445), algorithm 2: the smoothed Weiszfeld algorithm. It withstands f of n updates
where n > 2 f.
"""

import torch
from torch import Tensor

from confide.strategies.robust.distances import norms, weighted_sum
from confide.strategies.robust.rule import Reduced, RobustRule

_SMALLEST = 1e-6
"""Distances count as at least this share of their median: the paper's nu, free of any unit."""
_MOST_STEPS, _CLOSE = 100, 1e-6


def geometric_median(*, num_hostile: int) -> RobustRule:
    """Build the rule; how many are hostile changes nothing but what is refused."""
    return RobustRule(kind="geometric_median", num_hostile=num_hostile, reduce_fn=_reduce)


def _reduce(vectors: Tensor, centre: Tensor) -> Reduced:
    k = len(vectors)
    weights = torch.full((k,), 1.0 / k, dtype=torch.float64)
    point = weighted_sum(vectors, weights)
    for _ in range(_MOST_STEPS):
        distances = norms(vectors - point)
        smallest = max(_SMALLEST * float(distances.median()), torch.finfo(torch.float32).tiny)
        weights = distances.clamp(min=smallest).reciprocal()
        weights /= weights.sum()
        moved = weighted_sum(vectors, weights)
        step = float((moved - point).double().norm())
        point = moved
        if step <= _CLOSE * float(distances.median()):
            break
    return Reduced(point, 1.0 - weights / weights.max())


__all__ = ["geometric_median"]
