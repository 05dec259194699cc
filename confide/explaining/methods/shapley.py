"""Shapley values by sampled orders of the units: they need no gradient.

Castro, Gomez, Tejada, "Polynomial calculation of the Shapley value based on sampling" (Computers &
Operations Research 2009). In each order units go from the baseline to the record, one after the
other; what each changes adds up to the whole difference, in every order and so on average.
"""

import torch
from captum.attr import ShapleyValueSampling
from torch import Tensor

from confide.explaining.case import Case, ScoreFn
from confide.explaining.methods.scored import quiet, scored_mixtures

_IN_PASS = 32


def shapley(case: Case, score_fn: ScoreFn, effort: int) -> Tensor:
    """Return attributions of units, [u]; of pieces [k, u].

    Args:
        case: a record.
        score_fn: what is explained.
        effort: orders that are drawn, the same ones each time.
    """
    on = torch.ones((1, len(case.units)), dtype=torch.float64)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method = ShapleyValueSampling(scored_mixtures(case, score_fn))
        found: Tensor = method.attribute(on, 0.0, n_samples=effort, perturbations_per_eval=_IN_PASS)
    return found.reshape(-1, len(case.units)).squeeze(0)


__all__ = ["shapley"]
