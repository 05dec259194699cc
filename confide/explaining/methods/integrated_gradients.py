"""Integrated gradients: Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks".

ICML 2017, arXiv 1703.01365: the gradient's mean on the straight way from the baseline to the
record, times the distance (equation 1), by Gauss and Legendre's rule, which is exact where the
gradient is constant. Of ids the way is that of their vectors.

Norms of a layer bend sharply where what they take is nearly constant, as close to a baseline of one
value: where few steps were not enough, the way's beginning gets as many steps as the rest.
"""

import itertools

import torch
from captum.attr import IntegratedGradients, LayerIntegratedGradients
from torch import Tensor

from confide.explaining.case import Case, ScoreFn
from confide.explaining.methods.scored import by_pieces, quiet

_IN_PASS = 16
_FEW = 32
"""Steps up to which they are spread over the whole way alike."""
_ENDS = (0.0, 1e-3, 1e-2, 0.1, 1.0)
"""Shares of the way at which its parts end, each with the same number of steps."""


def integrated_gradients(case: Case, score_fn: ScoreFn, effort: int) -> Tensor:
    """Return attributions of entries, of the shape of one input; of pieces, k of these.

    Args:
        case: a record whose outputs have a gradient.
        score_fn: what is explained.
        effort: steps on the way.
    """

    def scored(inputs: Tensor) -> Tensor:
        return score_fn(case.outputs_fn(inputs))

    def of_one(piece: int | None) -> Tensor:
        if case.layer is not None:
            by_layer = LayerIntegratedGradients(scored, case.layer)
            vectors = by_layer.attribute(
                case.inputs,
                case.baseline,
                target=piece,
                n_steps=effort,
                internal_batch_size=_IN_PASS,
            )
            of_ids: Tensor = vectors[0].sum(dim=-1)
            return of_ids.detach().cpu()
        method, entries = IntegratedGradients(scored), torch.zeros_like(case.inputs[0]).double()
        ends = (0.0, 1.0) if effort <= _FEW else _ENDS
        for start, end in itertools.pairwise(ends):
            # What parts of a straight way add is what the way adds
            first, last = (torch.lerp(case.baseline, case.inputs, share) for share in (start, end))
            found = method.attribute(
                last,
                first,
                target=piece,
                n_steps=effort // (len(ends) - 1),
                internal_batch_size=_IN_PASS,
            )
            entries += found[0].detach()
        return entries

    with quiet():
        return by_pieces(case, score_fn, of_one)


__all__ = ["integrated_gradients"]
