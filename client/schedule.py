"""One institution's work in a run: its steps, its batches and, under privacy, its noise.

Everything follows from the plan and the institution's public number of units, before the first
step.
"""

import math
from dataclasses import asdict, dataclass, replace

from confide.config.client import gradient_weights
from confide.config.strategies.strategy import ALGORITHMS
from confide.errors import PrivacyError, ProtocolError
from confide.privacy.accounting import Schedule, calibrate, epsilon
from confide.privacy.released import one_release, releases_noise
from confide.protocol.messages import OLD
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal

# More than any run needs; a plan could otherwise keep an institution busy for years
_MAX_STEPS = 1_000_000
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Workplan:
    """The amount of work that a plan asks for; cheap to compute, whatever the plan says.

    Attributes:
        num_examples: n, the public number of training units.
        batch_size: number of units in a step; under privacy the expected number, q * n.
        steps: number of optimizer steps in one training of a round.
        sampling_rate: Poisson rate q of a step, in (0, 1].
        max_rounds: number of rounds, planned and spare ones.
        trainings: how often a round trains, each time for as many steps.

    Raises:
        ProtocolError: if it is more than any run needs.
    """

    num_examples: int
    batch_size: int
    steps: int
    sampling_rate: float
    max_rounds: int
    trainings: int = 1

    def __post_init__(self) -> None:
        if self.round_steps * self.max_rounds > _MAX_STEPS:
            raise ProtocolError(
                f"{self.round_steps} steps a round over {self.max_rounds} rounds are more than"
                f" {_MAX_STEPS}; lower the steps or the rounds.",
                code=Refusal.TOO_MANY_STEPS,
            )

    @property
    def round_steps(self) -> int:
        """Number of optimizer steps of all trainings of a round."""
        return self.steps * self.trainings

    @property
    def epochs(self) -> float:
        """Number of passes over the units in a round."""
        return self.round_steps * self.sampling_rate


@dataclass(frozen=True, kw_only=True)
class LocalSchedule(Workplan):
    """One institution's work with its noise.

    Attributes:
        noise_multiplier: sigma >= 0, calibrated for ``max_rounds``; 0 without privacy.
        honest_peers: institutions whose noise together keeps the plan's epsilon; 1: its own does.
        edges_noise: sigma of the releases that the plan rests on, as one: they have a part of the
            plan's epsilon; 0 for none.
    """

    noise_multiplier: float
    honest_peers: int = 1
    edges_noise: float = 0.0

    @property
    def noise_with_peers(self) -> float:
        """Noise multiplier that keeps the plan's epsilon, the institution's own alone or not."""
        return self.noise_multiplier * math.sqrt(self.honest_peers)

    def epsilon_after(self, rounds: int, *, delta: float, accountant: str) -> float:
        """Return the epsilon of a number of rounds."""
        spent = Schedule(
            noise_multiplier=self.noise_multiplier,
            sampling_rate=self.sampling_rate,
            steps=self.round_steps * rounds,
            before=one_release(self.edges_noise),
        )
        return epsilon(spent, delta=delta, accountant=accountant)


def workplan(plan: TrainingPlan, *, num_examples: int) -> Workplan:
    """Return the work that a plan means for an institution.

    Args:
        plan: plan of the run.
        num_examples: public number of training units, n >= 1.

    Raises:
        ProtocolError: if it is more than any run needs.
    """
    rate, batch_size = plan.client.batch_of(num_examples)
    # Spare rounds are planned for like others: the noise is calibrated for them, and a budget is
    # charged for them
    max_rounds = plan.num_rounds + plan.privacy.spare_rounds
    return Workplan(
        num_examples=num_examples,
        batch_size=batch_size,
        steps=plan.client.planned_steps(num_examples),
        sampling_rate=rate,
        max_rounds=max_rounds,
        trainings=ALGORITHMS[plan.objective.kind].trainings,
    )


def plan_of_round(plan: TrainingPlan, server_round: int) -> TrainingPlan:
    """Return a plan with the learning rate of a round, which is all that its schedule changes.

    Neither steps nor sampling nor noise are other than without one: it costs no privacy, whichever
    round the coordinator says it is.

    Args:
        plan: plan of the run.
        server_round: number of the round, from 1; an asynchronous client's own count.
    """
    optimizer = plan.client.optimizer
    if optimizer.schedule.is_constant:
        return plan
    rate = optimizer.learning_rate * optimizer.schedule.rate(server_round, plan.num_rounds)
    own = replace(optimizer, learning_rate=rate)
    return replace(plan, client=replace(plan.client, optimizer=own))


def noise_square(plan: TrainingPlan, schedule: LocalSchedule, *, values: int) -> float:
    """Return what noise adds to the squared norm of an update on average; 0 without privacy.

    A public figure: it follows from the plan and from the number of units. Of SGD, whose updates
    are sums of gradients; what of the noise later steps take back is left out, so that it is at
    most too large.

    Args:
        plan: of the round.
        schedule: the institution's.
        values: how many numbers are trained, and so noised.
    """
    optimizer = plan.client.optimizer
    if not schedule.noise_multiplier or optimizer.kind != "sgd":
        return 0.0
    expected = schedule.sampling_rate * schedule.num_examples
    step = optimizer.learning_rate * schedule.noise_multiplier * plan.privacy.clipping_norm
    weights = sum(weight**2 for weight in gradient_weights(schedule.steps, optimizer.momentum))
    return values * weights * (step / expected) ** 2


def make_schedule(plan: TrainingPlan, *, num_examples: int) -> LocalSchedule:
    """Return an institution's work with its calibrated noise.

    Args:
        plan: plan of the run; with ``privacy.honest_peers`` the noise is the institution's part of
            what keeps its epsilon.
        num_examples: public number of training units, n >= 1.

    Raises:
        PrivacyError: if delta does not suit n, or no noise suffices.
        ProtocolError: if the plan asks for more steps than any run needs.
    """
    size, privacy = workplan(plan, num_examples=num_examples), plan.privacy
    sigma = released = 0.0
    if plan.private:
        # With delta of 1/n or more, a mechanism that publishes one random unit would be allowed
        if privacy.delta >= 1 / num_examples:
            raise PrivacyError(
                f"privacy.delta={privacy.delta:g} is not below 1/n = {1 / num_examples:g}: "
                f"one {privacy.unit} could be published outright; lower it."
            )
        released = releases_noise(plan.released_epsilons, delta=privacy.delta)
        sigma = calibrate(
            target_epsilon=privacy.epsilon,
            delta=privacy.delta,
            sampling_rate=size.sampling_rate,
            steps=size.round_steps * size.max_rounds,
            accountant=privacy.accountant,
            before=one_release(released),
        )
    honest = privacy.honest if plan.private else 1
    return LocalSchedule(
        **asdict(size),
        # A little more than its part: h times its square is at least what was calibrated, rounded
        noise_multiplier=sigma if honest == 1 else sigma / math.sqrt(honest) * (1 + _ROUNDING),
        honest_peers=honest,
        edges_noise=released,
    )


def epsilon_alone(plan: TrainingPlan, size: Workplan) -> float:
    """Return what a private plan's whole training costs against anybody, at its own noise alone.

    Args:
        plan: plan of the run.
        size: the work that it comes to.

    Raises:
        PrivacyError: if no noise suffices.
    """
    schedule = make_schedule(plan, num_examples=size.num_examples)
    privacy = plan.privacy
    return schedule.epsilon_after(
        size.max_rounds, delta=privacy.delta, accountant=privacy.accountant
    )


def is_scored(plan: TrainingPlan, server_round: int) -> bool:
    """Tell whether a round releases noisy scores: 1, 1 + every, 1 + 2 every, ..."""
    every = plan.privacy.metrics_every
    return every > 0 and (server_round - 1) % every == 0


def score_schedules(plan: TrainingPlan) -> dict[str, Schedule]:
    """Return the noisy scores that a private plan declares: split -> releases with their noise.

    Validation records are scored in each round that is due, spare ones included, and once after
    the last; test records once, and once more by personal models beside the global one. A run that
    compares its model with the one that it started from has both scored, on old test records too.
    A release is a Gaussian mechanism: q = 1.

    Args:
        plan: plan of the run, with a protected unit.

    Raises:
        PrivacyError: if no noise suffices.
    """
    privacy = plan.privacy
    target = privacy.epsilon if privacy.metrics_epsilon is None else privacy.metrics_epsilon
    every = privacy.metrics_every
    rounds = math.ceil(plan.num_rounds / every) + privacy.spare_rounds if every else 0
    models = 2 if ALGORITHMS[plan.objective.kind].personal == "beside" else 1
    releases = {"validation": rounds + 1, "test": models + plan.compares}
    if plan.compares:
        releases[OLD] = 2
    return {
        split: Schedule(
            noise_multiplier=calibrate(
                target_epsilon=target,
                delta=privacy.delta,
                sampling_rate=1.0,
                steps=count,
                accountant=privacy.accountant,
            ),
            sampling_rate=1.0,
            steps=count,
        )
        for split, count in releases.items()
    }


__all__ = [
    "LocalSchedule",
    "Workplan",
    "epsilon_alone",
    "is_scored",
    "make_schedule",
    "noise_square",
    "one_release",
    "plan_of_round",
    "score_schedules",
    "workplan",
]
