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


def by_pieces(
    case: Case, score_fn: ScoreFn, attribute_fn: Callable[[int | None], Tensor]
) -> Tensor:
    """Attribute a score, or each piece of one, by a method that explains one number at a time.

    Args:
        case: a record.
        score_fn: what is explained.
        attribute_fn: place of a piece among the scores, None where there is one alone -> entries.

    Returns:
        Of the shape of the entries; of k pieces [k, ...].
    """
    with torch.no_grad():
        scores = score_fn(case.outputs_fn(case.inputs))
    if scores.dim() == 1:
        return attribute_fn(None)
    return torch.stack([attribute_fn(place) for place in range(scores.shape[1])])


@contextmanager
def quiet() -> Iterator[None]:
    """Leave captum's warnings out: of hooks that it takes off, and gradients it switches."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


__all__ = ["by_pieces", "quiet", "scored_mixtures"]
