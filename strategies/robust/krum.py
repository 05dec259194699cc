"""Rules that choose updates by the distance to their neighbours: Krum, Multi-Krum and Bulyan.

Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", NeurIPS
2017 (arXiv 1703.02757), sections 3 and 5: n >= 2 f + 3. El Mhamdi et al., "The Hidden Vulnerability
of Distributed Learning in Byzantium", ICML 2018 (arXiv 1802.07927), section 4: n >= 4 f + 3.
"""

import functools

import torch
from torch import Tensor

from confide.strategies.robust.distances import squared_distances, weighted_sum
from confide.strategies.robust.rule import BLOCK, Reduced, RobustRule


def krum(*, num_hostile: int) -> RobustRule:
    """Build Krum: the one update with the lowest score."""
    return RobustRule(
        kind="krum", num_hostile=num_hostile, reduce_fn=functools.partial(_krum, num_hostile, 1)
    )


def multi_krum(*, num_hostile: int, num_kept: int | None) -> RobustRule:
    """Build Multi-Krum: the mean of the updates with the lowest scores.

    Args:
        num_hostile: f.
        num_kept: number of updates that are averaged; None for n - f, as in the paper's
            experiments.
    """
    return RobustRule(
        kind="multi_krum",
        num_hostile=num_hostile,
        reduce_fn=functools.partial(_krum, num_hostile, num_kept),
    )


def bulyan(*, num_hostile: int) -> RobustRule:
    """Build Bulyan over Krum."""
    return RobustRule(
        kind="bulyan", num_hostile=num_hostile, reduce_fn=functools.partial(_bulyan, num_hostile)
    )


def _scores(distances: Tensor, num_hostile: int) -> Tensor:
    """Return each vector's score: squared distances to its n - f - 2 nearest others, added up.

    Args:
        distances: squared, shape [n, n].
        num_hostile: f.
    """
    nearest = max(1, len(distances) - num_hostile - 2)
    # The first is the vector itself, at distance 0
    return distances.sort(dim=1).values[:, 1 : 1 + nearest].sum(dim=1)


def _krum(num_hostile: int, num_kept: int | None, vectors: Tensor, centre: Tensor) -> Reduced:
    # Of those who answered, however many were asked: one more would be a hostile one
    most = len(vectors) - num_hostile
    kept = most if num_kept is None else min(num_kept, most)
    scores = _scores(squared_distances(vectors), num_hostile)
    chosen = scores.argsort(stable=True)[:kept]
    weights = torch.zeros(len(vectors), dtype=torch.float64)
    weights[chosen] = 1.0
    return Reduced(weighted_sum(vectors, weights / kept), 1.0 - weights)


def _bulyan(num_hostile: int, vectors: Tensor, centre: Tensor) -> Reduced:
    n = len(vectors)
    num_chosen = n - 2 * num_hostile
    distances = squared_distances(vectors)
    left = list(range(n))
    chosen: list[int] = []
    while len(chosen) < num_chosen:
        among = torch.tensor(left)
        best = int(_scores(distances[among][:, among], num_hostile).argmin())
        chosen.append(left.pop(best))
    # Of each number the values nearest to the chosen ones' median. The last choices are among few,
    # and may be hostile; their values then are far from it.
    near, members = num_chosen - 2 * num_hostile, torch.tensor(sorted(chosen))
    values = []
    used = torch.zeros(n, dtype=torch.float64)
    for block in vectors[members].split(BLOCK, dim=1):
        ordered, who = block.double().sort(dim=0, stable=True)
        away = (ordered - ordered.quantile(0.5, dim=0)).abs()
        nearest = away.argsort(dim=0, stable=True)[:near]
        values.append(ordered.gather(0, nearest).mean(dim=0))
        used += torch.bincount(members[who.gather(0, nearest)].flatten(), minlength=n)
    return Reduced(torch.cat(values).float(), 1.0 - used / max(1, vectors.shape[1]))


__all__ = ["bulyan", "krum", "multi_krum"]
