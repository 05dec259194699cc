"""One institution's round: an algorithm's client part, with the trainer in its hands."""

import itertools
from dataclasses import dataclass, field, replace

from confide.client.records.encoded import InstitutionData
from confide.client.schedule import noise_square
from confide.client.training.alternating import trainer_of_round
from confide.client.training.pace import Pace
from confide.client.training.ranks import holding, masks_of, padded
from confide.client.training.self_training import pseudo_labelled
from confide.client.training.trainer import Trainer
from confide.client.training.work import LocalWork
from confide.config.strategies.strategy import ALGORITHMS
from confide.errors import PrivacyError
from confide.models.compute import threads
from confide.protocol.tensors import Tensors, num_values
from confide.strategies.algorithm import (
    ClientResult,
    ClientRound,
    GradientFn,
    Memory,
    squared_norm,
)
from confide.strategies.parts import build_algorithm


@dataclass(frozen=True, kw_only=True)
class RoundInputs:
    """The tensors that a round starts from; together they fix what it computes from records.

    Attributes:
        params: global tensors.
        extra: extra tensors that the algorithm's server part sends.
        kept: what the institution kept after the round before.
        server_round: number of the round, from 1.
        memory: of the institution's client part; saves work, and decides nothing.
        institution: its name, by which a plan may have it train a part of the tensors.
    """

    params: Tensors
    extra: Tensors = field(default_factory=dict)
    kept: Tensors = field(default_factory=dict)
    server_round: int = 1
    memory: Memory = field(default_factory=dict)
    institution: str = ""


def local_round(
    trainer: Trainer,
    inputs: RoundInputs,
    data: InstitutionData,
    work: LocalWork,
    *,
    within_s: float | None = None,
) -> ClientResult:
    """Run the client part of the plan's algorithm.

    Args:
        trainer: takes the local steps.
        inputs: tensors to start from, checked.
        data: encoded records.
        work: its plan, which names the algorithm, its steps, and its secret.
        within_s: seconds after which no further step is taken; None for all steps.

    Raises:
        PrivacyError: if the client part trains more often under privacy than is accounted for.
    """
    # Labels are what the whole model is sure of, whichever part has its turn
    plan, allowed = work.plan, work.schedule.trainings
    trainings, examples = itertools.count(), pseudo_labelled(trainer, inputs.params, data)
    trainer, pace = trainer_of_round(trainer, inputs.server_round), Pace(within_s)
    masks = masks_of(plan.tuning, inputs.institution, trainer.shapes)

    def train(start: Tensors, change_gradient: GradientFn | None = None) -> Tensors:
        number = next(trainings)
        if number >= allowed and plan.private:
            raise PrivacyError(
                f"objective.kind={plan.objective.kind} trains more than {_times(allowed)} a round,"
                f" and privacy accounts for {allowed}; set privacy=none, or another algorithm."
            )
        update = trainer.train(
            start,
            examples,
            work.training(number),
            groups=data.groups,
            pace=pace,
            change_gradient=holding(trainer, masks, change_gradient),
        )
        return padded(update, masks)

    given = _given(trainer, inputs, data, work, pace)
    # What it sums itself adds up in the order that the trainer's sums do
    with threads(trainer.num_threads):
        result = build_algorithm(plan.objective).client(given, train)
    return replace(result, steps=pace.taken)


def _given(
    trainer: Trainer,
    inputs: RoundInputs,
    data: InstitutionData,
    work: LocalWork,
    pace: Pace,
) -> ClientRound:
    """Return what a round's client part is given.

    Under privacy records reach it only by the clipped, noisy sum of its training.
    """
    plan, schedule = work.plan, work.schedule
    reads_records = ALGORITHMS[plan.objective.kind].reads_records and not plan.private
    noise = noise_square(plan, schedule, values=num_values(trainer.shapes))
    return ClientRound(
        params=inputs.params,
        extra=inputs.extra,
        kept=inputs.kept,
        steps=schedule.steps,
        learning_rate=plan.client.optimizer.learning_rate,
        momentum=plan.client.optimizer.momentum,
        square_fn=lambda update: squared_norm(update) - noise,
        place_fn=trainer.place,
        records=trainer.records(inputs.params, data.train) if reads_records else None,
        server_round=inputs.server_round,
        num_rounds=plan.num_rounds,
        memory=inputs.memory if reads_records else {},
        taken_fn=lambda: pace.taken,
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


__all__ = ["RoundInputs", "local_round"]
