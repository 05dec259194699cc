"""The vectorised engine: the clients of a round as one program.

Every institution's door is passed through, before the computation and after it
(`confide.client.training_round`); between lies one program for all of them
(`confide.client.batched`). A round's question is carried without a message for each.

Which jobs are computed so follows from the plan and the model, and never from the time something
takes: the last bits of weights differ from those that the inline engine gives.
"""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from flwr.clientapp import ClientApp

from confide.client.batched.cohort import CohortProgram
from confide.client.batched.cuda import card_of
from confide.client.batched.stack import LinearStack, stack_of
from confide.client.institution import Institution
from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.client.training_round import RoundWork
from confide.config.strategies.strategy import ALGORITHMS
from confide.models.networks import trainable
from confide.models.workload import Workload
from confide.protocol.messages import Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.server.rounds.clock import Deadline
from confide.server.rounds.collect import Intake
from confide.server.rounds.participants import Answer
from confide.server.rounds.tally import Tally
from confide.simulations.engines.gathering import Begun, Gathering, Leaving, silent
from confide.simulations.engines.inline import InlineEngine, InlineGrid, LocalGrid
from confide.simulations.institutions import Setup
from confide.simulations.populations.doors import Doors, Unopened, opened_or_not
from confide.simulations.populations.roster import NodeNames

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
        super().__init__(app, nodes, expect_fn=expect_fn, doors=doors)
        self._together = functools.partial(_Together, doors, program, trainer)

    def collect(self, intake: Intake) -> Tally:
        """Ask a round's question and fill its accumulator, by one sum if the rule is one."""
        question = intake.question
        if question is None or not _is_elementwise(TrainingPlan.from_json(question.request.plan)):
            return super().collect(intake)
        gathering = Gathering(intake, question)
        return gathering.tally(self._together(gathering, intake).answers(question.requests()))


@dataclass(frozen=True)
class _Together:
    """Asks institutions, many at a time, and computes their rounds as one program.

    Attributes:
        doors: opens them.
        program: computes.
        trainer: scores.
        gathering: takes their updates.
        intake: of the round.
    """

    doors: Doors
    program: CohortProgram
    trainer: Trainer
    gathering: Gathering
    intake: Intake

    def answers(self, requests: Iterator[tuple[str, Request]]) -> Iterator[tuple[str, Answer]]:
        """Yield an answer for each who is asked.

        Nobody begins, and nothing is computed, once the round's time is up. What is under way is
        taken, as by the inline engine.

        Args:
            requests: what each is asked.
        """
        deadline = Deadline.after(self.intake.timeout_s, self.intake.clock)
        late: list[str] = []
        while asked := list(islice(requests, min(_SLICE, self.doors.most_open or _SLICE))):
            if deadline.is_past(len(asked)):  # no door is opened for nothing
                late += [name for name, _ in asked]
                continue
            begun: dict[int, tuple[Institution, RoundWork]] = {}
            for name, answer in self._begun(asked, deadline):
                if isinstance(answer, tuple):
                    begun[id(answer[1])] = answer
                elif answer is None:
                    late.append(name)
                else:
                    yield name, answer
            for chunk in self.program.chunks([work for _, work in begun.values()]):
                own = [begun[id(work)] for work in chunk]
                if deadline.is_past(len(chunk)):
                    late += [institution.name for institution, _ in own]  # counted all the same
                    continue
                yield from self._ended(own)
        yield from silent(late, self.intake.timeout_s)

    def _begun(
        self, asked: Sequence[tuple[str, Request]], deadline: Deadline
    ) -> Iterator[tuple[str, tuple[Institution, RoundWork] | Answer | None]]:
        """Yield what becomes of each: work, an answer without any, or None once time is up."""
        self.doors.expect([name for name, _ in asked])
        # Held until its round has ended, whoever is opened meanwhile
        opened = {name: opened_or_not(self.doors, name) for name, _ in asked}
        there = [one for one in opened.values() if isinstance(one, Institution)]
        with self.trainer.scoring_together([one.validation for one in there]):
            for number, (name, request) in enumerate(asked):
                institution = opened[name]
                if deadline.is_past(len(asked) - number):
                    yield name, None
                elif isinstance(institution, Unopened):
                    yield name, institution.handle("train", request)
                else:
                    begun = institution.begin(request, rows_fn=self.program.check_rows)
                    yield name, begun if isinstance(begun, Reply) else (institution, begun)

    def _ended(self, begun: Begun) -> Iterator[tuple[str, Reply]]:
        try:
            result = self.program.compute([work for _, work in begun])
            shapes = {name: tuple(one.shape[1:]) for name, one in result.leaving.items()}
            leaving = Leaving(rows=result.rows, shapes=shapes, measures=result.measures)
        # Whatever breaks off is a refusal of whom it concerns, as where it is computed alone: the
        # same rounds by themselves, with the randomness that each has anyway.
        except Exception as error:
            if len(begun) > 1:
                for one in begun:
                    yield from self._ended([one])
            else:
                yield from self.gathering.broken_off(*begun[0], error)
            return
        yield from self.gathering.ended(begun, result.of, leaving)


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
        f"objective.kind={objective} is no elementwise one": not _is_elementwise(setup.serves),
        "simulation.faults: some clients fail on purpose": setup.faults is not None,
        "strategy.mechanism.honest: each client adds noise to its own update": (
            setup.serves.noise_share is not None
        ),
        # A last bit may turn a number's rounding, or another number be the largest
        f"strategy.upload.kind={setup.serves.upload.kind} would tell last bits apart": (
            setup.serves.upload.kind != "none"
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


__all__ = ["MOST_VALUES", "VectorisedEngine", "VectorisedGrid"]
