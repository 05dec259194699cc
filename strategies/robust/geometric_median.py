"""The geometric median.

Pillutla et al., "Robust Aggregation for Federated Learning", IEEE Transactions on Signal Processing
2022 (arXiv 1912.13445), section 4, by Weiszfeld's steps as Vardi and Zhang, "The multivariate
L1-median and associated data depth", PNAS 2000, mend them. It withstands f of n updates where
n > 2 f.
"""

import logging

import torch
from torch import Tensor

from confide.strategies.robust.distances import norms, weighted_sum
from confide.strategies.robust.rule import Reduced, RobustRule
from confide.strategies.robust.trimming import middle_values

log = logging.getLogger(__name__)

_SMALLEST = 1e-6
"""Share of the median distance up to which a vector counts as lying on the point."""
_MOST_STEPS, _CLOSE = 1000, 1e-6


def geometric_median(*, num_hostile: int) -> RobustRule:
    """Build the rule; how many are hostile changes nothing but what is refused."""
    return RobustRule(kind="geometric_median", num_hostile=num_hostile, reduce_fn=_reduce)


def _reduce(vectors: Tensor, centre: Tensor) -> Reduced:
    # From the median of each number, which holds wherever the rule does: from the mean, which one
    # hostile update moves at will, steps are too short to come back near n = 2 f + 1
    point = middle_values(vectors)
    for _ in range(_MOST_STEPS):
        distances = norms(vectors - point)
        scale = float(distances.median())
        near = distances <= max(_SMALLEST * scale, torch.finfo(torch.float32).tiny)
        moved = _step(vectors, point, distances, near)
        step = float((moved - point).double().norm())
        point = moved
        if step <= _CLOSE * scale:
            break
    else:
        log.warning(
            "The geometric median of %d updates was not reached within %d steps.",
            len(vectors),
            _MOST_STEPS,
        )
    # An update farther away than most pulls no more than they do
    floor = max(scale, torch.finfo(torch.float32).tiny)
    return Reduced(point, 1.0 - floor / distances.clamp(min=floor))


def _step(vectors: Tensor, point: Tensor, distances: Tensor, near: Tensor) -> Tensor:
    """Return Weiszfeld's next point, as Vardi and Zhang 2000 mend it where it lies on a vector.

    Args:
        vectors: shape [k, d].
        point: the last one.
        distances: of the vectors from it, shape [k].
        near: which of them lie on it.
    """
    pulls = torch.where(near, 0.0, distances.reciprocal())
    total = float(pulls.sum())
    if total == 0.0:
        return point
    aim = weighted_sum(vectors, pulls / total)
    pull = total * float((aim - point).double().norm())
    # Vectors on the point hold it by one unit each
    stays = min(1.0, int(near.sum()) / pull) if pull else 1.0
    return torch.lerp(aim, point, stays)


__all__ = ["geometric_median"]
