"""The rounds of a cohort, computed together: the same local steps, for many institutions at once.

Only where models are stacks of linear layers (`confide.client.batched.stack`), whose gradients of
single records follow in closed form. What is computed for an institution is what it computes alone,
but for the last bits: the same batches or Poisson samples, the same clipping rule, norms and sums
in float64, the same noise from its own cipher, the same optimizer and the same client part of the
algorithm, called once for tensors that have the institution as one more, first dimension.

What is protected, the neighbouring relation, who is trusted and what voids the guarantee are those
of `confide.client.training.private.dp_sgd`. Here too every pass has a number of rows that is
public: it follows from the schedules of the cohort, and what a record adds does not depend on who
else was sampled (`confide.client.batched.check`).
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from confide.client.batched.check import CohortCheck
from confide.client.batched.cuda import Card
from confide.client.batched.gradients import CohortGradients
from confide.client.batched.passes import RecordPasses, Table
from confide.client.batched.result import CohortResult, for_each
from confide.client.batched.stack import LinearStack
from confide.client.schedule import LocalSchedule, noise_square
from confide.client.training.base_optimizer import is_bare, make_optimizer
from confide.client.training.private.row_check import CheckedTensors
from confide.client.training_round import RoundWork
from confide.config.strategies.strategy import ALGORITHMS
from confide.errors import PrivacyError
from confide.models.compute import threads, threads_of
from confide.models.workload import Workload
from confide.protocol.tensors import Tensors, shapes_of
from confide.strategies.algorithm import ClientRound, GradientFn, Step
from confide.strategies.parts import build_algorithm
from confide.tasks.task import Examples

# Kernels that work in vectors treat what is left over in another way: rows are a multiple.
_ROWS = 16
# Numbers that the tensors and records of one chunk may have: they stay near the processor.
_CHUNK = 2**22


class CohortProgram:
    """Computes rounds of many institutions that share a model.

    Args:
        workload: whose model is a stack.
        stack: its layers.
        check_fn: called before every step; what it raises ends the computation.
        card: the accelerator that computes them; None for the CPU.
    """

    def __init__(
        self,
        workload: Workload,
        stack: LinearStack,
        check_fn: Callable[[], None] | None = None,
        *,
        card: Card | None = None,
    ) -> None:
        self._workload, self._stack, self._card = workload, stack, card
        self._passes = RecordPasses(workload, stack, card)
        self._check, self._checked = CohortCheck(self._passes), CheckedTensors({})
        self._checked_rows: set[int] = set()
        self._threads = threads_of(workload.model, workload.compute)
        self._gradients = CohortGradients(
            self._passes, self._check, rows_fn=self._rows, check_fn=check_fn
        )
        self._laid_out: tuple[Sequence[Examples], Table | None] = ((), None)

    def check_rows(self, tensors: Tensors, schedule: LocalSchedule) -> None:
        """Check, before a round is counted, the passes that it would be computed in.

        Raises:
            RowsDifferError: if what a record adds depends on others, or on its place.
        """
        if not self._checked.are(tensors):
            self._checked, self._checked_rows = CheckedTensors(tensors), set()
        rows = self._rows(schedule)
        # Institutions of many sizes share few shapes of a pass.
        if rows not in self._checked_rows:
            with threads(self._threads):
                alone = {name: tensor[None] for name, tensor in tensors.items()}
                self._check.check_few(self._passes.put(self._stack.rows(alone)[0]), rows)
            self._checked_rows.add(rows)

    def chunks(self, works: Sequence[RoundWork]) -> Iterator[Sequence[RoundWork]]:
        """Deal rounds of one plan out to chunks that are computed together, like with like."""
        if not works:
            return
        objective = works[0].plan.objective
        equal_steps = ALGORITHMS[objective.kind].reads_steps or (
            build_algorithm(objective).first_kept is not None
        )
        chunk: list[RoundWork] = []
        most = _CHUNK if self._card is None else self._card.room()
        room = most
        for work in sorted(works, key=lambda it: (it.schedule.steps, it.schedule.num_examples)):
            size = self._numbers(work)
            # What an algorithm keeps or sends may follow from their number, which it is told once.
            differs = equal_steps and chunk and chunk[-1].schedule.steps != work.schedule.steps
            if chunk and (differs or size > room):
                yield chunk
                chunk, room = [], most
            chunk.append(work)
            room -= size
        yield chunk

    def _numbers(self, work: RoundWork) -> int:
        rows = self._rows(work.schedule) if work.plan.private else work.schedule.batch_size
        tensors = (6 if work.plan.private else 3) * self._stack.size
        # On an accelerator the records have to be brought there, too.
        table = 0 if self._card is None else len(work.data.train) * self._stack.widths[0]
        return tensors + 2 * rows * sum(self._stack.widths) + table

    def _rows(self, schedule: LocalSchedule) -> int:
        """Return R, the rows of a private pass, which follow from public figures.

        Nearly every Poisson sample fits; another takes more passes. What a pass costs whatever it
        is given is shared by all institutions in it, so that no other size pays.
        """
        most = self._workload.compute.physical_batch_size // _ROWS * _ROWS
        return min(_whole_rows(schedule.sampling_rate, schedule.num_examples), max(_ROWS, most))

    def compute(self, works: Sequence[RoundWork]) -> CohortResult:
        """Compute rounds of one plan and one question.

        Args:
            works: at least one, as :meth:`chunks` deals them out.

        Raises:
            RowsDifferError: if what a record adds depends on others in a pass.
        """
        first, count = works[0], len(works)
        plan = first.plan
        table = self._table([work.data.train for work in works])
        given = ClientRound(
            params=_repeated(first.inputs.params, count),
            extra=_repeated(first.inputs.extra, count),
            kept={
                name: torch.stack([work.inputs.kept[name] for work in works])
                for name in first.inputs.kept
            },
            steps=first.schedule.steps,
            learning_rate=plan.client.optimizer.learning_rate,
            momentum=plan.client.optimizer.momentum,
            square_fn=functools.partial(self._squares, works),
            place_fn=lambda tensors: [
                self._passes.put(tensors[name]) for name in self._stack.names
            ],
            server_round=first.inputs.server_round,
            num_rounds=plan.num_rounds,
        )

        trainings = itertools.count()

        def train(start: Tensors, change_gradient: GradientFn | None = None) -> Tensors:
            # Equal noise on two sums would cancel, and equal batches would be the first's.
            if next(trainings):
                raise PrivacyError(
                    f"objective.kind={plan.objective.kind} trains more than once a round, which"
                    " simulation.engine=vectorised does not do; set simulation.engine=inline."
                )
            return self._train(works, table, start, change_gradient)

        with threads(self._threads):
            algorithm = build_algorithm(plan.objective)
            whole = algorithm.client(given, train)
            declared = algorithm.returned_shapes(shapes_of(first.inputs.params))
            return CohortResult(works, for_each(whole, declared, count))

    def _squares(self, works: Sequence[RoundWork], update: Tensors) -> Tensor:
        """Return the squared norm of each one's update as alone, shape [m, 1]."""
        rows = torch.cat([value.flatten(1) for value in update.values()], dim=1)
        noise = [noise_square(it.plan, it.schedule, values=rows.shape[1]) for it in works]
        return (
            rows.double().square().sum(dim=1, keepdim=True).float() - torch.tensor(noise)[:, None]
        )

    def _table(self, parts: Sequence[Examples]) -> Table:
        """Lay records out, or take what was laid out of the same ones last."""
        known, table = self._laid_out
        if table is None or len(known) != len(parts) or not all(map(operator.is_, known, parts)):
            table = self._passes.table(parts)
            self._laid_out = parts, table
        return table

    def _train(
        self,
        works: Sequence[RoundWork],
        table: Table,
        start: Tensors,
        change_gradient: GradientFn | None,
    ) -> Tensors:
        """Take all local steps; return what was added to ``start``, [m, ...] each."""
        begun = self._passes.put(self._stack.rows(start))
        anchors = self._stack.parts(begun)
        tensors = nn.Parameter(begun.clone(), requires_grad=False)
        plan = works[0].plan
        if not plan.private and change_gradient is None and is_bare(plan.client.optimizer):
            for first, found in self._gradients.passes(works, table, tensors.data):
                own = tensors.data[first:]
                self._stack.descend(own, found, plan.client.optimizer.learning_rate)
        else:
            step = Step(
                params=_with_gradients(self._stack, tensors),
                start=anchors,
                model=self._workload.model,
            )
            self._optimise(works, table, tensors, step, change_gradient)
        # The one place where an accelerator is waited for.
        update = self._stack.parts(tensors.data.sub_(begun).cpu())
        return dict(zip(self._stack.names, update, strict=True))

    def _optimise(
        self,
        works: Sequence[RoundWork],
        table: Table,
        tensors: nn.Parameter,
        step: Step,
        change_gradient: GradientFn | None,
    ) -> None:
        """Take all local steps by an optimizer of torch."""
        optimizer = make_optimizer(works[0].plan.client.optimizer, [tensors])
        private = works[0].plan.private
        gradients_fn = self._gradients.private if private else self._gradients.plain
        for first in gradients_fn(works, table, tensors):
            if change_gradient is not None:
                change_gradient(step)
            kept = tensors[:first].clone() if first else None
            optimizer.step()
            if kept is not None:
                tensors[:first] = kept


# Asked several times of every institution in every round, and few figures differ.
@functools.lru_cache(maxsize=4096)
def _whole_rows(rate: float, count: int) -> int:
    """Return whole rows that nearly every Poisson sample of ``count`` records fits into."""
    expected = rate * count
    nearly_all = expected + 3 * math.sqrt(expected * (1 - rate))
    return -(-math.ceil(nearly_all) // _ROWS) * _ROWS


def _repeated(tensors: Tensors, count: int) -> Tensors:
    return {name: tensor.expand(count, *tensor.shape) for name, tensor in tensors.items()}


def _with_gradients(stack: LinearStack, tensors: nn.Parameter) -> list[nn.Parameter]:
    """Return the tensors of rows as parameters whose gradients are parts of the rows'."""
    tensors.grad = torch.zeros_like(tensors)
    params = []
    for part, gradient in zip(stack.parts(tensors.data), stack.parts(tensors.grad), strict=True):
        param = nn.Parameter(part, requires_grad=False)
        param.grad = gradient
        params.append(param)
    return params


__all__ = ["CohortProgram"]
