"""Distances between updates."""

import torch
from torch import Tensor

from confide.strategies.robust.rule import BLOCK


def squared_distances(vectors: Tensor) -> Tensor:
    """Return the squared L2 distance of each two vectors, float64, shape [k, k], 0 on the diagonal.

    Args:
        vectors: float32, shape [k, d].
    """
    distances = torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
    # From differences and not from products, of which one huge vector would take the digits that
    # tell the others apart
    for block in vectors.split(BLOCK, dim=1):
        part = block.double()
        distances += torch.cdist(part, part, compute_mode="donot_use_mm_for_euclid_dist").square_()
    return distances


def norms(vectors: Tensor) -> Tensor:
    """Return each vector's L2 norm, float64, shape [k]."""
    squares = torch.zeros(len(vectors), dtype=torch.float64)
    for block in vectors.split(BLOCK, dim=1):
        squares += block.double().square().sum(dim=1)
    return squares.sqrt()


def weighted_sum(vectors: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of vectors times weights, float32, shape [d].

    Args:
        vectors: float32, shape [k, d].
        weights: float64, shape [k].
    """
    return torch.cat([weights @ block.double() for block in vectors.split(BLOCK, dim=1)]).float()


__all__ = ["norms", "squared_distances", "weighted_sum"]
