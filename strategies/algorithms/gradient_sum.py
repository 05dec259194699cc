"""Gradient sums: full-batch steps with momentum, whose length follows from public figures.

FedSGD (McMahan et al. 2017, arXiv 1602.05629) with noisy sums, for a linear model on rows of one
norm r beside an intercept's 1, under a loss whose bounds are known
(:class:`~confide.config.outcomes.outcome.LossBounds`): with R^2 = r^2 + 1, in T rounds,

- client: ``g_k``, the mean gradient over all its n_k records, noised under privacy;
- server: ``g = sum n_k g_k / n``; ``v = momentum * v + g``; ``w -= step * v``, and the run's model
  is the mean of w over its last rounds (Polyak and Juditsky 1992).

**No tuning.** Where the loss's Hessian in the outputs is at most L, the mean loss is L R^2 smooth
for any records: steps of 2 / (L R^2) are safe (with momentum up to 1 + momentum times as long). A
gradient is d x^T, d the loss's in the outputs, of norm at most G R for a known G: at C = G R none
is ever clipped. Each of S institutions adds noise of standard deviation sigma C, so that g's
coordinates have sigma C sqrt(S) / n. With tau, the sum of all steps, an output gets noise of
standard deviation R tau / sqrt(T) * sigma C sqrt(S) / n, and what is predicted N times that, in
units of a logit: ``logit_noise = N R tau / sqrt(T) * sigma C sqrt(S) / n``. Held at a constant this
fixes tau, and ``step = (1 - momentum) tau / T``.

Of classes, L = 1/2, since softmax cross entropy's Hessian is diag(p) - p p^T, and G = N = sqrt(2):
d = p - e_y, and what counts is the difference of two logits. d is below 1 where the model starts,
at zero: at C = R only records that the model is sure of and wrong about are clipped. With
mu = sqrt(T) / sigma, C = sqrt(2) R and R = 1, tau is logit_noise * mu * n / (2 sqrt(S)), whatever
T: half of logistic regression's on one logit, whose gradient the difference of two logits has
twice. Losses of other outcomes have G = 1: C = R, as client=private_table has it, clips nothing.

All of it is public: n and S are declared, sigma follows from the plan. The coordinator's work is
post-processing of noised sums, at no cost in privacy.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors
from confide.strategies.algorithm import (
    Algorithm,
    ServerResult,
    ServerRound,
    StepFn,
    prefixed,
    split_prefix,
    zeros_of,
)

_VELOCITY, _MEAN = "velocity/", "mean/"


def gradient_sum(*, momentum: float, logit_noise: float, averaged: float) -> Algorithm:
    """Build gradient sums; clients take one plain step of rate 1 on all their records.

    Args:
        momentum: of the coordinator's steps, in [0, 1).
        logit_noise: standard deviation that the noise of all rounds gives what is predicted, in
            units of a logit; of classes, a difference of two.
        averaged: share of the rounds, the last ones, whose mean is the run's model.
    """

    def server(given: ServerRound, step: StepFn) -> ServerResult:
        if given.plan is None:
            raise ValueError("Expected the plan, whose noise fixes the length of a step.")
        before, mean = split_prefix(_MEAN, given.state)
        # An update is minus a mean gradient
        velocity = {
            name: momentum * before[_VELOCITY + name] + update
            for name, update in given.update.items()
        }
        longest = step_size(given.plan, given.cohort, momentum=momentum, logit_noise=logit_noise)
        stepped = step({name: longest * value for name, value in velocity.items()})
        params, mean = averaged_model(given, stepped.params, mean, averaged=averaged)
        state = prefixed(_VELOCITY, velocity) | prefixed(_MEAN, mean)
        return replace(stepped, params=params, state=state)

    def first_state(params: Tensors) -> Tensors:
        # Two of each, as with the last mean: a checkpoint takes no tensor under two names
        return prefixed(_VELOCITY, zeros_of(params)) | prefixed(_MEAN, zeros_of(params))

    return Algorithm(server=server, first_state=first_state)


def averaged_model(
    given: ServerRound, params: Tensors, mean: Tensors, *, averaged: float
) -> tuple[Tensors, Tensors]:
    """Return the round's model and the mean so far: after the last round, the model is the mean.

    Args:
        given: the round.
        params: global tensors after its step.
        mean: of the models before that go into it.
        averaged: share of the rounds, the last ones, whose models do.
    """
    if given.plan is None:
        raise ValueError("Expected the plan, which has the number of rounds.")
    rounds = given.plan.num_rounds
    # Counted from the last round: however short a run is, one model goes into the mean
    number = given.server_round - rounds + max(1, round(averaged * rounds))
    if number >= 1:
        mean = {name: value + (params[name] - value) / number for name, value in mean.items()}
    if given.server_round == rounds:
        params = {name: value.clone() for name, value in mean.items()}
    return params, mean


def step_size(
    plan: TrainingPlan, cohort: Sequence[int], *, momentum: float, logit_noise: float
) -> float:
    """Return the length of a round's step.

    Args:
        plan: rounds, privacy, and the norm of rows.
        cohort: declared numbers of training units of the institutions that are asked.
        momentum: of the coordinator's steps.
        logit_noise: standard deviation that the noise of all rounds gives what is predicted, in
            units of a logit; of classes, a difference of two.

    Raises:
        PrivacyError: if no noise suffices for the plan.
        ValueError: if the plan's rows have no known norm, or nothing bounds its loss.
    """
    radius, bounds = row_radius(plan), plan.task.loss_bounds
    if bounds is None:
        raise ValueError(f"task.outcome.kind={plan.task.outcome.kind}: expected a bounded loss.")
    largest = 2.0 / (bounds.smoothness * radius**2)
    if not plan.private:
        return largest
    noise = noise_multiplier(plan) * plan.privacy.clipping_norm
    of_mean = noise * math.sqrt(len(cohort)) / sum(cohort)
    total = logit_noise * math.sqrt(plan.num_rounds) / (bounds.noise * radius * of_mean)
    return min((1.0 - momentum) * total / plan.num_rounds, largest)


def row_radius(plan: TrainingPlan) -> float:
    """Return R, the norm of a row with its intercept's 1.

    Raises:
        ValueError: if the plan's rows have no known norm.
    """
    norm = plan.backbone.row_norm
    if norm is None:
        raise ValueError("backbone.row_norm=null: expected rows of a known norm.")
    return math.hypot(norm, 1.0)


def noise_multiplier(plan: TrainingPlan) -> float:
    """Return sigma of a private plan's sums: the same for every n, since nothing is sampled.

    Of a plan that counts on noise of others it is an institution's part.

    Raises:
        PrivacyError: if no noise suffices.
    """
    # Imported when needed: it brings Opacus, which a run without privacy never loads
    from confide.privacy.accounting import calibrate
    from confide.privacy.released import one_release, releases_noise

    privacy = plan.privacy
    released = releases_noise(plan.released_epsilons, delta=privacy.delta)
    whole = calibrate(
        target_epsilon=privacy.epsilon,
        delta=privacy.delta,
        sampling_rate=1.0,
        steps=plan.num_rounds + privacy.spare_rounds,
        accountant=privacy.accountant,
        before=one_release(released),
    )
    return whole / math.sqrt(privacy.honest)


__all__ = ["averaged_model", "gradient_sum", "noise_multiplier", "row_radius", "step_size"]
