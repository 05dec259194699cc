"""What methods share: scores of mixtures of record and baseline, and a quiet captum."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from confide.explaining.case import Case, ScoreFn


def scored_mixtures(case: Case, score_fn: ScoreFn) -> Callable[[Tensor], Tensor]:
    """Return what maps units that are on [b, u], 0 or 1, to what is explained, [b]."""

    def scored(on: Tensor) -> Tensor:
        with torch.no_grad():
            return score_fn(case.mixed_fn(on > 0)).double()

    return scored


@contextmanager
def quiet() -> Iterator[None]:
    """Leave captum's warnings out: of hooks that it takes off, and gradients it switches."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


__all__ = ["quiet", "scored_mixtures"]
