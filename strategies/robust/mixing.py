"""Mixings: what makes robust rules work where institutions' records are unlike.

Karimireddy et al., "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing", ICLR 2022
(arXiv 2006.09365), algorithm 1. Allouah et al., "Fixing by Mixing: A Recipe for Optimal Byzantine
ML under Heterogeneity", AISTATS 2023 (arXiv 2302.01772), algorithm 2.
"""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from confide.privacy.randomness import seed_from
from confide.strategies.robust.distances import squared_distances, weighted_sum
from confide.strategies.robust.rule import Mixed


def none() -> None:
    """Build no mixing."""


@dataclass(frozen=True, kw_only=True)
class Bucketing:
    """Means of random groups: a hostile update spoils its own group.

    Attributes:
        bucket_size: s; the last group may be smaller.
    """

    bucket_size: int

    def groups(self, updates: int) -> int:
        """Return the number of groups."""
        return -(-updates // self.bucket_size)

    def mix(self, updates: Tensor, num_hostile: int, *, secret: bytes, server_round: int) -> Mixed:
        """Average groups that nobody outside can foresee."""
        order = list(range(len(updates)))
        random.Random(seed_from(secret, "bucketing", server_round)).shuffle(order)
        members = torch.empty(len(updates), dtype=torch.int64)
        means = []
        for number, start in enumerate(range(0, len(order), self.bucket_size)):
            group = sorted(order[start : start + self.bucket_size])
            members[group] = number
            weights = torch.full((len(group),), 1.0 / len(group), dtype=torch.float64)
            means.append(weighted_sum(updates[group], weights))
        return Mixed(torch.stack(means), members)


@dataclass(frozen=True)
class NearestNeighbours:
    """Means of each update and the n - f - 1 nearest to it."""

    def groups(self, updates: int) -> int:
        """Return as many vectors as there are updates."""
        return updates

    def mix(self, updates: Tensor, num_hostile: int, *, secret: bytes, server_round: int) -> Mixed:
        """Average neighbourhoods."""
        n = len(updates)
        near = max(1, n - num_hostile)
        nearest = squared_distances(updates).argsort(dim=1, stable=True)[:, :near]
        weights = torch.zeros(n, n, dtype=torch.float64).scatter_(1, nearest, 1.0 / near)
        return Mixed(torch.stack([weighted_sum(updates, row) for row in weights]), torch.arange(n))


__all__ = ["Bucketing", "NearestNeighbours", "none"]
