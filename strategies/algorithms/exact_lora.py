"""Exact averaging of low-rank adapters: what the mean of B and A leaves out goes into W.

A layer computes ``(W + s B A) x``. With deviations b_k, a_k of institution k from the global B, A,
and means over institutions by their weights,

    mean((B + b_k)(A + a_k)) = (B + mean b)(A + mean a) + mean(b_k a_k) - mean(b) mean(a),

so the mean of adapters leaves out ``s`` times the covariance of what institutions changed.

- FedEx-LoRA: Singhal et al., "FedEx-LoRA: Exact Aggregation for Federated and Efficient Fine-Tuning
  of Foundation Models", ACL 2025 (arXiv 2410.09432), section 4: adapters are averaged, and that
  residual is added to W.
- FLoRA: Wang et al., "FLoRA: Federated Fine-Tuning Large Language Models with Heterogeneous
  Low-Rank Adaptations", NeurIPS 2024 (arXiv 2409.05976), section 3: adapters are stacked, which
  multiplies out to the mean of products; all of it is added to W, and every round starts anew, with
  B = 0 and A drawn.

What travels: up B and A as in plain LoRA, never W; down B, A and the W of every adapted layer,
[p, d] numbers each, in every round. (The papers send the new part of W by its factors, and have
institutions add it to what they keep. An institution that missed a round would be lost, and stacked
over rounds the factors outgrow W.) The coordinator sees each institution's B and A by itself: a sum
that nobody sees inside has no products in it.

Protected is what local steps protect: under DP-SGD b_k and a_k are noised, and all of this is made
of them at the coordinator, at no cost. Noise is multiplied with noise, in the residual as in
``(B + b)(A + a)``.
"""

from typing import NamedTuple

from torch import Tensor, zeros_like

from confide.config.tunings.lora import LoraConfig
from confide.models.tuning.frozen import draw_uniform
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Shapes, Tensors
from confide.strategies.algorithm import (
    Algorithm,
    ClientResult,
    ClientRound,
    ServerResult,
    ServerRound,
    StepFn,
    TrainFn,
)

_A, _B, _W = ".lora_A.default.weight", ".lora_B.default.weight", ".base_layer.weight"


class Layer(NamedTuple):
    """Names of an adapted layer's tensors: A [r, d], B [p, r], W [p, d]."""

    a: str
    b: str
    w: str


def layers_of(tensors: Tensors | Shapes) -> list[Layer]:
    """Find the adapted layers."""
    places = [name.removesuffix(_A) for name in tensors if name.endswith(_A)]
    return [Layer(place + _A, place + _B, place + _W) for place in places]


def fedex_lora() -> Algorithm:
    """Build FedEx-LoRA."""
    return Algorithm(
        client=_client, server=_fold_residual, update_shapes=_without_w, averaged_fn=_products
    )


def flora() -> Algorithm:
    """Build FLoRA."""
    return Algorithm(
        client=_client, server=_fold_all, update_shapes=_without_w, averaged_fn=_products
    )


def _client(given: ClientRound, train: TrainFn) -> ClientResult:
    update = train(given.params)
    return ClientResult(update={name: update[name] for name in update if not name.endswith(_W)})


def _without_w(shapes: Shapes) -> Shapes:
    return {name: shape for name, shape in shapes.items() if not name.endswith(_W)}


def _products(update: Tensors) -> Tensors:
    """Return b_k a_k of each layer, by the name of its W; float64."""
    return {one.w: update[one.b].double() @ update[one.a].double() for one in layers_of(update)}


def _fold_residual(given: ServerRound, step: StepFn) -> ServerResult:
    scale, update = _scale(given.plan), dict(given.update)
    for one in layers_of(given.params):
        mean_product = update[one.b].double() @ update[one.a].double()
        update[one.w] = (scale * (given.extra[one.w] - mean_product)).float()
    return step(update)


def _fold_all(given: ServerRound, step: StepFn) -> ServerResult:
    scale, update = _scale(given.plan), dict(given.update)
    for one in layers_of(given.params):
        a, b = given.params[one.a].double(), given.params[one.b].double()
        # Of (B + b_k)(A + a_k) all that does not cancel in a mean of deviations
        mean = b @ (a + update[one.a].double()) + update[one.b].double() @ a + given.extra[one.w]
        update[one.w] = (scale * mean).float()
        update[one.b] = -given.params[one.b]
        update[one.a] = _drawn(one.a, given) - given.params[one.a]
    return step(update)


def _drawn(name: str, given: ServerRound) -> Tensor:
    """Draw the A that the next round starts from, as peft does; from what everybody knows."""
    like = zeros_like(given.params[name])
    job = given.plan.job if given.plan is not None else ""
    return draw_uniform(
        like.shape, bound=like.shape[1] ** -0.5, seed=given.server_round, name=f"{job}/{name}"
    )


def _scale(plan: TrainingPlan | None) -> float:
    if plan is None or not isinstance(plan.tuning, LoraConfig):
        raise ValueError("The scale of adapters is in the plan's tuning; hand over the plan.")
    return plan.tuning.scale


__all__ = ["Layer", "fedex_lora", "flora", "layers_of"]
