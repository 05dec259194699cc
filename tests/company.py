"""Rounds computed in the company of others, by the program of the vectorised engine.

Tests that are written for a trainer or a door run over that program too: what a trainer takes alone
is then one row of a cohort, beside institutions that have other keys, other numbers of records and
other numbers of steps.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from confide.client.batched.cohort import CohortProgram
from confide.client.batched.stack import stack_of
from confide.client.institution import Institution
from confide.client.records.encoded import InstitutionData
from confide.client.reservation import ReservedRound, RoundKey
from confide.client.schedule import LocalSchedule
from confide.client.training.local_round import RoundInputs
from confide.client.training.pace import Pace
from confide.client.training.trainer import Trainer
from confide.client.training.work import LocalWork
from confide.client.training_round import RoundWork
from confide.config.strategies.strategy import ObjectiveConfig
from confide.privacy.randomness import derive_key
from confide.protocol.messages import Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors
from confide.strategies.algorithm import GradientFn
from confide.tasks.task import Examples

ALONE, TOGETHER = "alone", "together"


@functools.lru_cache(maxsize=4)
def program_of(trainer: Trainer) -> CohortProgram:
    """Build the program of a trainer's model, once."""
    stack = stack_of(trainer.workload.model)
    if stack is None:
        raise ValueError("This model is no stack: the vectorised engine trains it alone.")
    return CohortProgram(trainer.workload, stack)


def train_in_company(  # noqa: PLR0913 - what Trainer.train takes
    trainer: Trainer,
    start: Tensors,
    examples: Examples,
    work: LocalWork,
    *,
    groups: Tensor | None = None,
    change_gradient: GradientFn | None = None,
    pace: Pace | None = None,
) -> Tensors:
    """Take a round's local steps as `Trainer.train` does, as one of four institutions."""
    plan, schedule, secret = work.plan, work.schedule, work.secret
    is_timed = plan.client.steps_within_s is not None
    if change_gradient is not None or groups is not None or is_timed:
        raise ValueError("Only plain rounds of records are computed in company here.")
    if pace is not None:
        pace.taken = schedule.steps
    plan = replace(plan, objective=ObjectiveConfig())
    own = work_of(start, examples, plan=plan, schedule=schedule, secret=secret)
    few = first_of(examples, max(1, len(examples) // 2))
    others = [
        work_of(
            start,
            records,
            plan=plan,
            schedule=replace(
                schedule,
                num_examples=max(1, schedule.num_examples * len(records) // len(examples)),
                steps=max(0, schedule.steps - fewer),
            ),
            secret=derive_key(secret, "beside", number),
        )
        for number, (records, fewer) in enumerate(
            [(few, 1), (Examples.concat([examples, examples]), 0), (few, 0)]
        )
    ]
    # Of rising numbers of steps, as `chunks` deals them out.
    works = [others[0], others[1], own, others[2]]
    return program_of(trainer).compute(works).of(2).update


def answers_in_company(
    trainer: Trainer, doors: Sequence[Institution], request: Request
) -> list[Reply]:
    """Ask several institutions as the vectorised engine does: one computation for all of them."""
    program, results = program_of(trainer), {}
    begun = [door.begin(request, rows_fn=program.check_rows) for door in doors]
    works = [work for work in begun if isinstance(work, RoundWork)]
    for chunk in program.chunks(works):
        result = program.compute(chunk)
        results |= {
            id(work): functools.partial(result.of, index) for index, work in enumerate(chunk)
        }
    return [
        door.end(work, results[id(work)]) if isinstance(work, RoundWork) else work
        for door, work in zip(doors, begun, strict=True)
    ]


def work_of(
    start: Tensors,
    examples: Examples,
    *,
    plan: TrainingPlan,
    schedule: LocalSchedule,
    secret: bytes,
) -> RoundWork:
    """Return a round that no door has counted: these tests are about what is computed."""
    nothing = first_of(examples, 0)
    return RoundWork(
        request=Request(plan=""),
        plan=plan,
        schedule=schedule,
        inputs=RoundInputs(params=start),
        data=InstitutionData(train=examples, validation=nothing, test=nothing),
        key=RoundKey(run="", mechanism="", digest=""),
        reserved=ReservedRound(secret=secret, figures={}, is_replay=False),
        validation={},
    )


def first_of(examples: Examples, count: int) -> Examples:
    return examples.select(torch.arange(count))
