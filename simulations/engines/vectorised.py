"""The vectorised engine: the clients of a round as one program.

Every institution's door is passed through, before the computation and after it
(`confide.client.training_round`); between lies one program for all of them
(`confide.client.batched`). A round's question is carried without a message for each.

Which jobs are computed so follows from the plan and the model, and never from the time something
takes: the last bits of weights differ from those that the inline engine gives.
"""

import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import torch
from flwr.clientapp import ClientApp

from confide.client.batched.cohort import CohortProgram
from confide.client.batched.cuda import card_of
from confide.client.batched.result import CohortResult
from confide.client.batched.stack import LinearStack, stack_of
from confide.client.institution import Institution
from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.client.training_round import RoundWork
from confide.client.update_measures import UpdateMeasures
from confide.config.strategies.strategy import ALGORITHMS
from confide.errors import ProtocolError
from confide.models.networks import trainable
from confide.models.workload import Workload
from confide.protocol.messages import Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import check_values
from confide.server.rounds.collect import Intake, PartialSum, collect
from confide.server.rounds.participants import Answer, check_reply
from confide.server.rounds.tally import Tally
from confide.simulations.engines.inline import InlineEngine, InlineGrid, LocalGrid
from confide.simulations.institutions import Setup
from confide.simulations.populations.doors import Doors, Unopened, opened_or_not
from confide.simulations.populations.roster import NodeNames
from confide.strategies.aggregators import FixedPointMean
from confide.strategies.algorithm import ClientResult
from confide.strategies.strategy import SumRule

log = logging.getLogger(__name__)

MOST_VALUES = {"cpu": 2**18, "cuda": 2**22}
"""Type of device -> trainable values up to which many models are computed together: what a
processor gains by, measured, and an accelerator's bound, which nobody has measured yet."""
# Institutions whose scores and work are held at once.
_SLICE = 1024


class VectorisedGrid(InlineGrid):
    """Computes the clients of a round together.

    Other questions than a round's are carried one by one.

    Args:
        app: the app a SuperNode would run.
        nodes: one for each institution.
        doors: opens institutions.
        program: computes.
        trainer: scores the tensors that a round starts from.
        expect_fn: hears which nodes will be asked, in which order.
    """

    def __init__(
        self,
        app: ClientApp,
        nodes: Sequence[int],
        *,
        doors: Doors,
        program: CohortProgram,
        trainer: Trainer,
        expect_fn: Callable[[Sequence[int]], None],
    ) -> None:
        super().__init__(app, nodes, expect_fn=expect_fn)
        self._doors = doors
        self._program, self._trainer = program, trainer

    def collect(self, intake: Intake) -> Tally:
        """Ask a round's question and fill its accumulator, by one sum if the rule is one."""
        question = intake.question
        if question is None or not _is_elementwise(TrainingPlan.from_json(question.request.plan)):
            return super().collect(intake)
        rule = intake.under_way.rule
        total = None if rule is None else _start(rule)
        answers = self._answers(question.requests(), intake, total)

        def heard() -> Iterator[tuple[str, Answer]]:
            for name, answer in answers:
                question.clients.hear(name, answer)
                yield name, answer

        tally = collect(replace(intake, ask_fn=lambda _: heard()), intake.add_unless_summed)
        if total is not None:
            intake.merge(PartialSum(total.total, total.total_weight, {}), tally)
        return tally

    def _answers(
        self,
        requests: Iterator[tuple[str, Request]],
        intake: Intake,
        total: FixedPointMean | None,
    ) -> Iterator[tuple[str, Answer]]:
        """Yield each institution's answer; updates are in replies, or in ``total``.

        Nobody begins, and nothing is computed, once the round's time is up. What is under way is
        taken, as by the inline engine.
        """
        end = time.monotonic() + intake.timeout_s
        late: list[str] = []
        while asked := list(islice(requests, min(_SLICE, self._doors.most_open or _SLICE))):
            works: dict[str, RoundWork] = {}
            begun_by: dict[int, Institution] = {}
            if time.monotonic() >= end:  # no door is opened for nothing
                late += [name for name, _ in asked]
                continue
            self._doors.expect([name for name, _ in asked])
            # Held until its round has ended, whoever is opened meanwhile
            opened = {name: opened_or_not(self._doors, name) for name, _ in asked}
            there = [one for one in opened.values() if isinstance(one, Institution)]
            with self._trainer.scoring_together([one.validation for one in there]):
                for name, request in asked:
                    if time.monotonic() >= end:
                        late.append(name)
                        continue
                    institution = opened[name]
                    if isinstance(institution, Unopened):
                        yield name, institution.handle("train", request)
                        continue
                    begun = institution.begin(request, rows_fn=self._program.check_rows)
                    if isinstance(begun, Reply):
                        yield name, begun
                    else:
                        works[name] = begun
                        begun_by[id(begun)] = institution
            for chunk in self._program.chunks(list(works.values())):
                if time.monotonic() >= end:
                    late += [begun_by[id(work)].name for work in chunk]  # counted all the same
                    continue
                yield from self._ended(chunk, begun_by, intake, total)
        if late:
            log.warning(
                "%d institutions have not answered within %g s.", len(late), intake.timeout_s
            )
        yield from ((name, Refusal.NO_REPLY) for name in late)

    def _ended(
        self,
        chunk: Sequence[RoundWork],
        begun_by: Mapping[int, Institution],
        intake: Intake,
        total: FixedPointMean | None,
    ) -> Iterator[tuple[str, Reply]]:
        result: CohortResult | Exception
        measures: Sequence[UpdateMeasures | None] = [None] * len(chunk)
        try:
            result = self._program.compute(chunk)
            measures = result.measures
        # Whatever breaks off is a refusal of whom it concerns, as where it is computed alone: the
        # same rounds by themselves, with the randomness that each has anyway.
        except Exception as error:
            if len(chunk) > 1:
                for work in chunk:
                    yield from self._ended([work], begun_by, intake, total)
                return
            result = error
        replies: list[tuple[str, Reply]] = []
        for index, work in enumerate(chunk):
            institution = begun_by[id(work)]
            reply = institution.end(
                work,
                functools.partial(_result_of, result, index),
                sends_update=total is None,
                measures=measures[index],
            )
            replies.append((institution.name, reply))
        if total is not None and isinstance(result, CohortResult):
            replies = _add_up(replies, result, intake, total)
        yield from replies


def _result_of(result: CohortResult | Exception, index: int) -> ClientResult:
    if isinstance(result, Exception):
        raise result
    return result.of(index)


def _start(rule: SumRule) -> FixedPointMean | None:
    """Begin a sum of rows; None for a rule of one's own that takes each update its own way."""
    accumulator = rule.aggregator.start(rule.shapes, rule.bounds)
    # Additive custom rules are checked for this when the strategy is built.
    assert isinstance(accumulator, FixedPointMean)
    return accumulator if type(accumulator).add is FixedPointMean.add else None


def _add_up(
    replies: Sequence[tuple[str, Reply]],
    result: CohortResult,
    intake: Intake,
    total: FixedPointMean,
) -> list[tuple[str, Reply]]:
    """Check updates as the coordinator would, and add them up.

    Returns:
        Replies, with a refusal where an update did not go in.
    """
    joined, values = result.leaving, result.rows
    if list(joined) != list(intake.shapes):
        values = torch.cat([joined[name].flatten(1) for name in intake.shapes], dim=1)
    # In float64, as where updates are decoded: the bound need not be a float32.
    within = (values.abs().amax(dim=1).double() <= intake.max_value).tolist()
    rows: list[int] = []
    answers = []
    for index, (name, reply) in enumerate(replies):
        answer = reply
        if not reply.refusal:
            try:
                check_reply(reply, name, declared=intake.declared[name])
                if not within[index]:
                    own = {key: tensor[index] for key, tensor in joined.items()}
                    check_values(own, max_value=intake.max_value)
                rows.append(index)
            except ProtocolError as error:
                log.warning("The update of %s is refused: %s", name, error)
                # Nor is what it says of a model believed whose update is wrong
                answer = replace(reply, refusal=error.code, evaluations={})
        answers.append((name, answer))
    if rows:
        taken = values if len(rows) == len(values) else values[rows]
        total.add_rows(taken, [replies[index][1].num_examples for index in rows])
    return answers


class VectorisedEngine(InlineEngine):
    """Institutions in this process, whose rounds are computed together where that is possible.

    Args:
        data: encoded records, by institution.
        trainer: shared by all of them.
        setup: what else they share.
    """

    def __init__(
        self, data: Mapping[str, InstitutionData], *, trainer: Trainer, setup: Setup
    ) -> None:
        super().__init__(data, trainer=trainer, setup=setup)
        self._trainer = trainer
        self._program: CohortProgram | None = None
        stack = stack_of(trainer.workload.model)
        reason = _why_alone(trainer.workload, stack, setup)
        if reason is not None:
            log.warning(
                "simulation.engine=vectorised: clients are computed one by one, as by inline: %s.",
                reason,
            )
        elif stack is not None:
            card = card_of(trainer.workload.compute.device)
            self._program = CohortProgram(trainer.workload, stack, card=card)

    def grid(self, job: str, names: Sequence[str]) -> LocalGrid:
        """Return a grid that computes a round's clients together."""
        is_faulty = self._faults is not None and self._faults.job == job
        if self._program is None or is_faulty:
            return super().grid(job, names)
        by_node = NodeNames(names)
        return VectorisedGrid(
            self._app(job, by_node),
            by_node.nodes,
            doors=self._doors,
            program=self._program,
            trainer=self._trainer,
            expect_fn=self._expecting(by_node),
        )


def _is_elementwise(plan: TrainingPlan) -> bool:
    return ALGORITHMS[plan.objective.kind].elementwise


def _why_alone(workload: Workload, stack: LinearStack | None, setup: Setup) -> str | None:
    """Return why a workload's rounds are computed one by one; None if they are not.

    Args:
        workload: of the run.
        stack: its model's layers.
        setup: of the institutions.
    """
    values = sum(p.numel() for p in trainable(workload.model).values())
    objective = setup.serves.objective.kind
    compute = workload.compute
    device = compute.device.type
    most = MOST_VALUES.get(device, 0)
    reasons = {
        "the model is no stack of linear layers": stack is None,
        f"trainer.device={device} is not supported": not most,
        f"{values} trainable values are more than {most}": values > most,
        "trainer.precision is not float32": compute.autocast is not None and device == "cpu",
        "task.kind=custom: its loss is not known": workload.custom_task is not None,
        "task.views: a record stands for several rows": workload.augmentation is not None,
        "task.self_training: losses follow from what the model is sure of": workload.self_trains,
        f"privacy.unit={setup.serves.privacy.unit}": setup.serves.privacy.unit == "group",
        f"objective.kind={objective} reads records": not _is_elementwise(setup.serves),
        "simulation.faults: some clients fail on purpose": setup.faults is not None,
        # A last bit may turn a number's rounding, or another number be the largest
        f"strategy.upload.kind={setup.serves.upload.kind} would tell last bits apart": (
            setup.serves.upload.kind != "none"
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


__all__ = ["MOST_VALUES", "VectorisedEngine", "VectorisedGrid"]
