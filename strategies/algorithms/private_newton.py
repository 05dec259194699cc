"""Private Newton: noisy sums of gradients, scaled by the inverse of a noisy Gram matrix.

For a linear model on rows z of norm R (a row of norm r beside an intercept's 1), under a loss whose
Hessian in the outputs is at most L (:class:`~confide.config.outcomes.outcome.LossBounds`). Boehning
("Multinomial logistic regression algorithm", Annals of the Institute of Statistical Mathematics 44,
1992) bounds the Hessian of the sum of losses by L times the Gram matrix G = sum z z^T for each
output, whatever the weights; of cross entropy L = 1/2. So one matrix, which institutions release
once, with noise (:mod:`confide.releases.gram`), stands in place of a Hessian a step. In T rounds,

- client: ``g_k``, the mean of gradients over all its n_k records, each clipped to C, noised;
- server: ``w -= step * (L G + damping)^-1 n g``, and the run's model is the mean of w over the last
  rounds.

**Curvature under noise.** S institutions add Gaussian noise of deviation s to each element of the
packed matrix, so that the sum differs from R^-2 G by a symmetric random matrix whose largest
eigenvalue stays below 2 s sqrt(S D), D its width (near sqrt(2) s sqrt(S D), Wigner 1958). Negative
eigenvalues, which are noise, are set to 0, and that bound is added to all: no direction is taken
for flatter than noise can tell.

**Clipping.** Of classes a gradient is (p - e_y) z^T, p and e_y distributions, of norm
|p - e_y| R; DP-SGD clips it to C by its norm, whatever the outputs, so that the guarantee rests on
no bound of theirs. At C = R / sqrt(2), of two classes, those records are clipped whose class has a
probability below 1/2: all that the model is wrong about count alike, for less noise. Sharper
clipping (C = sqrt(2) R / 3, a residual that counts up to 1/3) ranks the same and loses log loss.

**Privacy.** Matrix and rounds are Gaussian mechanisms without sampling, mu^2 = mu_gram^2 + T /
sigma^2: the matrix has ``gram_share`` of it. All that is done here is post-processing of both.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, shapes_of
from confide.strategies.algorithm import (
    Algorithm,
    ServerResult,
    ServerRound,
    StepFn,
    prefixed,
    split_prefix,
    zeros_of,
)
from confide.strategies.algorithms.gradient_sum import averaged_model, row_radius
from confide.strategies.algorithms.newton import LinearLayer

_MEAN = "mean/"
_SCALING = "scaling"


def private_newton(*, gram_share: float, step: float, averaged: float) -> Algorithm:
    """Build private Newton; clients take one plain step of rate 1 on all their records.

    Args:
        gram_share: share of the run's mu squared that the Gram matrix has; spent before the run.
        step: length of a step, in Newton steps on the bound.
        averaged: share of the rounds, the last ones, whose mean is the run's model.
    """

    def server(given: ServerRound, step_fn: StepFn) -> ServerResult:
        state, mean = split_prefix(_MEAN, given.state)
        scaling = state[_SCALING]
        if given.server_round == 1:
            scaling = inverse_curvature(given)
        layer = LinearLayer.of(shapes_of(given.params), most=None)
        # An update is minus a mean gradient
        rows = layer.flat(given.update).view(layer.outputs, layer.inputs + 1)
        moved = step * sum(given.cohort) * rows @ scaling
        stepped = step_fn(layer.named(moved.flatten()))
        params, mean = averaged_model(given, stepped.params, mean, averaged=averaged)
        return replace(stepped, params=params, state={_SCALING: scaling} | prefixed(_MEAN, mean))

    def first_state(params: Tensors) -> Tensors:
        width = LinearLayer.of(shapes_of(params), most=None).inputs + 1
        unknown = torch.zeros((width, width), dtype=torch.float64)
        return {_SCALING: unknown} | prefixed(_MEAN, zeros_of(params))

    return Algorithm(server=server, first_state=first_state)


def inverse_curvature(given: ServerRound) -> Tensor:
    """Return (L G + damping)^-1 for all records of those who are asked, shape [D, D].

    Args:
        given: a round, with the matrix that was released (``gram``) and of whom (``of``).

    Raises:
        ValueError: if the round has none, or nothing bounds the loss.
    """
    if given.plan is None or "gram" not in given.released:
        raise ValueError("Expected the plan and the Gram matrix that its institutions released.")
    bounds = given.plan.task.loss_bounds
    if bounds is None:
        kind = given.plan.task.outcome.kind
        raise ValueError(f"task.outcome.kind={kind}: expected a bounded loss.")
    examples, institutions = given.released["of"].tolist()
    noisy = given.released["gram"]
    values, vectors = torch.linalg.eigh(noisy)
    damping = 2.0 * gram_noise(given.plan) * math.sqrt(institutions * len(noisy))
    # Of those who released it: others have as much each, for all that is known
    share = sum(given.cohort) / examples * row_radius(given.plan) ** 2 * bounds.smoothness
    inverse: Tensor = (vectors / (share * (values.clamp_min(0.0) + damping))) @ vectors.T
    return inverse


def gram_noise(plan: TrainingPlan) -> float:
    """Return the deviation of the noise that each institution added to its matrix.

    Raises:
        ValueError: if the plan rests on none.
        PrivacyError: if no noise suffices.
    """
    # Imported when needed: it brings Opacus, which a run without privacy never loads
    from confide.privacy.released import release_noise

    if plan.gram is None:
        raise ValueError("Expected a plan that rests on a Gram matrix.")
    return release_noise(plan.gram.epsilon, delta=plan.privacy.delta)


def gram_epsilon(plan: TrainingPlan, *, share: float) -> float:
    """Return what the Gram matrix of a run may cost, at the plan's delta.

    Args:
        plan: of the run, with the edges that it rests on and without a matrix.
        share: of the mu squared that edges leave.

    Raises:
        PrivacyError: if nothing is left.
    """
    from confide.privacy.accounting import Schedule, calibrate, epsilon
    from confide.privacy.released import one_release, releases_noise

    delta = plan.privacy.delta
    before = one_release(releases_noise(plan.released_epsilons, delta=delta))
    # All that is left as one Gaussian mechanism: a part of its mu squared is one of less
    left = calibrate(
        target_epsilon=plan.privacy.epsilon,
        delta=delta,
        sampling_rate=1.0,
        steps=1,
        accountant=plan.privacy.accountant,
        before=before,
    )
    part = Schedule(noise_multiplier=left / math.sqrt(share), sampling_rate=1.0, steps=1)
    # Four digits: people read it, and the next run asks the same question
    return float(f"{epsilon(part, delta=delta):.3e}")


__all__ = ["gram_epsilon", "gram_noise", "inverse_curvature", "private_newton"]
