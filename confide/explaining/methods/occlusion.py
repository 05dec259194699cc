"""Occlusion: what is lost when one unit is as in the baseline.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014, arXiv
1311.2901, section 4.2); of columns and tokens also called feature ablation, or leaving one out.
"""

import torch
from captum.attr import FeatureAblation
from torch import Tensor

from confide.explaining.case import Case, ScoreFn
from confide.explaining.methods.scored import quiet, scored_mixtures

_IN_PASS = 32


def occlusion(case: Case, score_fn: ScoreFn, effort: int) -> Tensor:
    """Return attributions of units, [u]; of pieces [k, u].

    Args:
        case: a record.
        score_fn: what is explained.
        effort: not used.
    """
    on = torch.ones((1, len(case.units)), dtype=torch.float64)
    with quiet():
        method = FeatureAblation(scored_mixtures(case, score_fn))
        found: Tensor = method.attribute(on, 0.0, perturbations_per_eval=_IN_PASS)
    return found.reshape(-1, len(case.units)).squeeze(0)


__all__ = ["occlusion"]
