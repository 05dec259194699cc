"""Gradient times input: Shrikumar, Greenside, Shcherbina, Kundaje, 2016, arXiv 1605.01713.

With the distance from the baseline for the input, as integrated gradients of one step have it.
"""

import torch
from captum.attr import LayerActivation, LayerGradientXActivation
from torch import Tensor

from confide.explaining.case import Case, ScoreFn
from confide.explaining.methods.scored import by_pieces, quiet


def gradient_input(case: Case, score_fn: ScoreFn, effort: int) -> Tensor:
    """Return attributions of entries, of the shape of one input; of pieces, k of these.

    Args:
        case: a record whose outputs have a gradient.
        score_fn: what is explained.
        effort: not used.
    """

    def scored(inputs: Tensor) -> Tensor:
        return score_fn(case.outputs_fn(inputs))

    def of_one(piece: int | None) -> Tensor:
        if case.layer is None:
            inputs = case.inputs.detach().clone().requires_grad_(True)
            scores = scored(inputs)
            one = scores if piece is None else scores[:, piece]
            (gradient,) = torch.autograd.grad(one.sum(), inputs)
            return (gradient * (case.inputs - case.baseline))[0].detach()
        # Without the product, the gradient in the layer's vectors
        method = LayerGradientXActivation(scored, case.layer, multiply_by_inputs=False)
        gradient = method.attribute(case.inputs, target=piece)
        vectors = LayerActivation(scored, case.layer)
        distance = vectors.attribute(case.inputs) - vectors.attribute(case.baseline)
        entries: Tensor = (gradient * distance)[0].sum(dim=-1)
        return entries.detach().cpu()

    with quiet():
        return by_pieces(case, score_fn, of_one)


__all__ = ["gradient_input"]
