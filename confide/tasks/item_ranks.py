"""Ranks of a record's item among all items, and what each adds to the metrics of rankings."""

import torch
from torch import Tensor

from confide.metrics.outcomes.ranking import FIRST


def expected_ranks(scores: Tensor, targets: Tensor) -> Tensor:
    """Return where targets stand, from 0, in expectation over draws of ties.

    Args:
        scores: of all items, shape [b, N].
        targets: place of each record's item, int64 of shape [b].

    Returns:
        float64, shape [b].
    """
    own = scores.gather(1, targets[:, None])
    above, alike = (scores > own).sum(dim=1), (scores == own).sum(dim=1) - 1
    ranks = above.double() + alike.double() / 2
    # NaN is above nothing, and would rank first.
    return ranks.masked_fill(~scores.isfinite().all(dim=1), scores.shape[1])


def place_figures(ranks: Tensor) -> Tensor:
    """Return hits, gain and reciprocal rank of each rank, float64 of shape [b, 3]."""
    hits = (ranks < FIRST).double()
    return torch.stack([hits, hits / (ranks + 2).log2(), 1 / (ranks + 1)], dim=1)


__all__ = ["expected_ranks", "place_figures"]
