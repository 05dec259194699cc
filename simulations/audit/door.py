"""An institution that is audited: the real one, behind its own door, as often as there are trials.

Each trial opens a new institution with a secret and a ledger in memory of its own: the ledger of a
real population is not touched, and its records are not read. All else is the institution's own:
admission, schedule, clipping, noise, samples, checks of replies.
"""

import functools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from confide.client.institution import Institution
from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.config.client import OptimizerConfig
from confide.config.composing.compose import compose
from confide.config.composing.folders import searching
from confide.config.privacy import PolicyConfig
from confide.config.strategies.strategy import CodecConfig, ObjectiveConfig
from confide.errors import RunFailedError
from confide.privacy.accounting import Schedule
from confide.privacy.randomness import KEY_BYTES
from confide.protocol.messages import Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, decode, encode
from confide.simulations.institutions import InstitutionFactory, Setup
from confide.tasks.task import Examples

# Small beside the gap of crafted logits, large beside what float32 rounds.
_DRIFT = 0.05
_LARGEST_RATE = 1e4
_LARGEST_VALUE = 1e30


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What an institution says of a run before it begins.

    Attributes:
        epsilon: of the whole run, asked for by the plan.
        delta: of the plan.
        schedule: sigma and q that it names, with the steps of all rounds.
    """

    epsilon: float
    delta: float
    schedule: Schedule


class Door:
    """The door of an institution that serves a plan.

    Args:
        plan: what is audited, private.
        trainer: built for it; shared by all trials.
        num_units: n, the declared number of units.
        drift: standard deviation of a whole run's noise in one coordinate of the model.

    Raises:
        RunFailedError: if the institution declines the plan.
    """

    def __init__(
        self, plan: TrainingPlan, trainer: Trainer, *, num_units: int, drift: float = _DRIFT
    ) -> None:
        self._trainer, self._num_units = trainer, num_units
        # Plain SGD at a rate that shows the noisy sums: what an optimizer or an algorithm makes of
        # them is post-processing.
        self._plan = replace(
            plan,
            job="audit",
            seed=None,
            objective=ObjectiveConfig(),
            upload=CodecConfig(),
            download=CodecConfig(),
            sums=None,  # what one institution's noise promises is looked at in its own update
        )
        self.claim = self._ask(trainer)
        schedule = self.claim.schedule
        expected = schedule.sampling_rate * num_units
        unit = plan.privacy.clipping_norm / expected
        spread = schedule.noise_multiplier * math.sqrt(schedule.steps)
        rate = min(_LARGEST_RATE, drift / (unit * spread))
        self._scale = -rate * unit
        optimizer = OptimizerConfig(kind="sgd", learning_rate=rate)
        self._plan = replace(self._plan, client=replace(plan.client, optimizer=optimizer))
        self._text = self._plan.to_json()

    @property
    def rounds(self) -> int:
        """Number of rounds that noise is calibrated for."""
        return self._plan.num_rounds + self._plan.privacy.spare_rounds

    @property
    def step_noise(self) -> float:
        """Standard deviation of a step's noise, in the update."""
        return abs(self._scale) * self.claim.schedule.noise_multiplier

    @property
    def num_units(self) -> int:
        """The declared number of units n."""
        return self._num_units

    def open(
        self, examples: Examples, *, name: str = "audited", secret: bytes = b""
    ) -> Institution:
        """Open an institution with a ledger of its own.

        Args:
            examples: at most n training records.
            name: its name.
            secret: that its keys derive from; a fresh one when empty.
        """
        setup = Setup(
            serves=self._plan,
            policy=audit_policy(self._num_units),
            noise_secret=secret or os.urandom(KEY_BYTES),
        )
        return open_institution(self._trainer, setup, examples, name=name)

    def request(self, start: Tensors, server_round: int, *, job: str = "") -> Request:
        """Write a request to train."""
        text = replace(self._plan, job=job).to_json() if job else self._text
        return Request(plan=text, server_round=server_round, arrays=encode(start))

    def sums(self, institution: Institution, request: Request) -> Tensors:
        """Ask for one round; return the noisy sums over C, added up over its steps."""
        reply = answered(institution.handle("train", request))
        assert reply.arrays is not None
        update = decode(reply.arrays, self._trainer.shapes, max_value=_LARGEST_VALUE).tensors
        return {name: tensor.double() / self._scale for name, tensor in update.items()}

    def whole_run(self, examples: Examples, start: Tensors) -> Sequence[Tensors]:
        """Run every round at a new institution, each from the same tensors."""
        institution = self.open(examples)
        arrays = encode(start)  # once: the institution decodes a record that it knows once
        return [
            self.sums(institution, Request(plan=self._text, server_round=number, arrays=arrays))
            for number in range(1, self.rounds + 1)
        ]

    def one_step(self, plan: TrainingPlan) -> "Door":
        """Return the door of a plan with the same promise in one step on all units."""
        client = replace(plan.client, local_steps=1, sampling_rate=1.0)
        privacy = replace(plan.privacy, spare_rounds=0)
        once = replace(plan, client=client, privacy=privacy, num_rounds=1)
        return Door(once, self._trainer, num_units=self._num_units)

    def _ask(self, trainer: Trainer) -> Claim:
        """Ask what the institution claims of the plan."""
        asked = Request(plan=self._plan.to_json())
        invented = trainer.workload.synthetic(1, torch.Generator().manual_seed(0))
        figures = answered(self.open(invented).handle("query", asked)).figures
        rate = figures["sampling_rate"]
        local = self._plan.client
        batch = max(1, round(rate * self._num_units))
        steps = local.local_steps or -(-local.local_epochs * self._num_units // batch)
        return Claim(
            epsilon=self._plan.privacy.epsilon,
            delta=self._plan.privacy.delta,
            schedule=Schedule(
                noise_multiplier=figures["noise_multiplier"],
                sampling_rate=rate,
                steps=steps * self.rounds,
            ),
        )


@functools.cache
def audit_policy(num_units: int) -> PolicyConfig:
    """Return a simulation's rules for n declared units: what is audited is the mechanism."""
    with searching(()):  # a project's own policy=simulation may refuse trials
        rules = compose().policy
    return replace(rules, public_n=num_units, min_records=1, approval="automatic", hours=None)


def open_institution(
    trainer: Trainer, setup: Setup, examples: Examples, *, name: str
) -> Institution:
    """Open an institution that holds training records and nothing else."""
    nothing = examples.select(torch.empty(0, dtype=torch.int64))
    grouped = setup.serves.privacy.unit == "group"
    data = InstitutionData(
        train=examples,
        validation=nothing,
        test=nothing,
        groups=torch.arange(len(examples)) if grouped else None,  # each record is a unit
        group_column="owner" if grouped else None,
    )
    return InstitutionFactory(trainer, setup).open(name, data)


def answered(reply: Reply) -> Reply:
    """Return an answer.

    Raises:
        RunFailedError: if it is a refusal.
    """
    if reply.refusal is not None:
        raise RunFailedError(
            f"The audited institution declines with code {reply.refusal} {dict(reply.figures)};"
            " its log says why. Change the plan."
        )
    return reply


def added(sums: Sequence[Tensors], name: str) -> Tensor:
    """Add up one tensor over rounds, flat."""
    return torch.stack([one[name].flatten() for one in sums]).sum(dim=0)


__all__ = ["Claim", "Door", "added", "answered", "audit_policy", "open_institution"]
