"""Distances between updates."""

import torch
from torch import Tensor

from confide.strategies.robust.rule import BLOCK


def squared_distances(vectors: Tensor) -> Tensor:
    """Return the squared L2 distance of each two vectors, float64, shape [k, k], 0 on the diagonal.

    Args:
        vectors: float32, shape [k, d].
    """
    products = torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
    # About their mean: vectors that differ little from each other would lose all digits
    for block in vectors.split(BLOCK, dim=1):
        part = block.double()
        part -= part.mean(dim=0)
        products += part @ part.T
    squares = products.diagonal()
    distances = (squares[:, None] + squares[None, :] - 2 * products).clamp_(min=0)
    return distances.fill_diagonal_(0)


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
