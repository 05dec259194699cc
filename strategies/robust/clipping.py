"""Rules that shorten updates: the norm-bounded mean and centred clipping.

Sun et al., "Can You Really Backdoor Federated Learning?", 2019 (arXiv 1911.07963), section 5: an
update moves the mean by at most its bound over n. Karimireddy et al., "Learning from History for
Byzantine Robust Optimization", ICML 2021 (arXiv 2012.10333), algorithm 2: clipping about what the
round before gave, which goes with momentum at the institutions (``objective=momentum``). Where the
length is left open it is the median of the round's, which holds where n > 2 f.
"""

import functools

import torch
from torch import Tensor

from confide.strategies.robust.distances import norms, weighted_sum
from confide.strategies.robust.rule import Reduced, RobustRule


def norm_bounded(*, num_hostile: int, max_norm: float | None) -> RobustRule:
    """Build the mean of updates that are shortened to ``max_norm``."""
    return RobustRule(
        kind="norm_bounded",
        num_hostile=num_hostile,
        reduce_fn=functools.partial(_norm_bounded, max_norm),
    )


def centered_clipping(*, num_hostile: int, radius: float | None, steps: int) -> RobustRule:
    """Build centred clipping: ``v += mean((x - v) * min(1, radius / |x - v|))``, ``steps`` times.

    Args:
        num_hostile: f.
        radius: the paper's tau; None for the median of the distances to the centre.
        steps: the paper's L.
    """
    return RobustRule(
        kind="centered_clipping",
        num_hostile=num_hostile,
        reduce_fn=functools.partial(_centered_clipping, radius, steps),
        keeps_centre=True,
    )


def _factors(lengths: Tensor, bound: float | None) -> Tensor:
    """Return what vectors of such lengths are multiplied by, in [0, 1]."""
    # The lower of two in the middle, as torch defines it: never a hostile length alone
    limit = lengths.median() if bound is None else torch.tensor(bound, dtype=torch.float64)
    smallest = torch.finfo(torch.float64).tiny
    return (limit / lengths.clamp(min=smallest)).clamp(max=1.0)


def _norm_bounded(max_norm: float | None, vectors: Tensor, centre: Tensor) -> Reduced:
    factors = _factors(norms(vectors), max_norm)
    return Reduced(weighted_sum(vectors, factors / len(vectors)), 1.0 - factors)


def _centered_clipping(
    radius: float | None, steps: int, vectors: Tensor, centre: Tensor
) -> Reduced:
    for _ in range(steps):
        apart = vectors - centre
        factors = _factors(norms(apart), radius)
        centre = centre + weighted_sum(apart, factors / len(vectors))
    return Reduced(centre, 1.0 - factors)


__all__ = ["centered_clipping", "norm_bounded"]
