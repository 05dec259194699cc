"""Integrated gradients: Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks".

ICML 2017, arXiv 1703.01365: the gradient's mean on the straight way from the baseline to the
record, times the distance (equation 1), by Gauss and Legendre's rule, which is exact where the
gradient is constant. Of ids the way is that of their vectors.
"""

from captum.attr import IntegratedGradients, LayerIntegratedGradients
from torch import Tensor

from confide.explaining.case import Case, ScoreFn
from confide.explaining.methods.scored import quiet

_IN_PASS = 16


def integrated_gradients(case: Case, score_fn: ScoreFn, effort: int) -> Tensor:
    """Return attributions of entries, of the shape of one input.

    Args:
        case: a record whose outputs have a gradient.
        score_fn: what is explained.
        effort: steps on the way.
    """

    def scored(inputs: Tensor) -> Tensor:
        return score_fn(case.outputs_fn(inputs))

    options = {"n_steps": effort, "internal_batch_size": _IN_PASS}
    with quiet():
        if case.layer is None:
            found = IntegratedGradients(scored).attribute(case.inputs, case.baseline, **options)
            entries: Tensor = found[0]
        else:
            method = LayerIntegratedGradients(scored, case.layer)
            found = method.attribute(case.inputs, case.baseline, **options)
            entries = found[0].sum(dim=-1)
    return entries.detach().cpu()


__all__ = ["integrated_gradients"]
