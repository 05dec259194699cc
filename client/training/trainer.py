"""The trainer: one a process, reused for every client and round.

The model is wrapped once; each client's tensors are swapped in. A round's result depends on the
tensors received, the records, the plan and the round's keys, and on nothing that an earlier round
left behind.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from confide.client.schedule import LocalSchedule
from confide.client.training.base_optimizer import make_optimizer
from confide.client.training.pace import Pace
from confide.client.training.passes import Filler
from confide.client.training.plain_steps import plain_batches, plain_gradients
from confide.client.training.private.units import Units
from confide.client.training.scoring import Scorer
from confide.client.training.work import LocalWork
from confide.config.strategies.strategy import ALGORITHMS
from confide.errors import PrivacyError
from confide.models.compute import threads, threads_of
from confide.models.networks import inputs_of_last, refuse_batch_norm, trainable
from confide.models.workload import Workload
from confide.privacy.randomness import seed_from
from confide.protocol.tensors import Shapes, Tensors, flatten, unflatten
from confide.strategies.algorithm import GradientFn, Records, Step
from confide.tasks.task import Batch, Examples

if TYPE_CHECKING:
    from confide.client.training.private.gradients import PrivateGradients

_NOT_PRIVATE = (
    "The plan asks for privacy and this trainer was built without; build it with private=True."
)


P = ParamSpec("P")
R = TypeVar("R")


def _on_own_threads(
    method: Callable[Concatenate["Trainer", P], R],
) -> Callable[Concatenate["Trainer", P], R]:
    """Let a method compute with as many threads as the trainer's model takes."""

    @functools.wraps(method)
    def run(trainer: "Trainer", /, *args: P.args, **kwargs: P.kwargs) -> R:
        with threads(trainer.num_threads):
            return method(trainer, *args, **kwargs)

    return run


class Trainer:
    """Trains and evaluates one workload.

    Args:
        workload: task, model, compute.
        private: whether every training is under DP-SGD.
        group_size: largest number of a group's records; None where records are units.
        check_fn: called before every step, and between passes of it or of an evaluation; what it
            raises ends these.

    Raises:
        ModelError: if the model has BatchNorm.
        PrivacyError: if the preflight fails.
    """

    def __init__(
        self,
        workload: Workload,
        *,
        private: bool,
        group_size: int | None = None,
        check_fn: Callable[[], None] | None = None,
    ) -> None:
        refuse_batch_norm(workload.model)
        self._check_fn, self._workload = check_fn or _nothing, workload
        self._task, self._model, self._compute = workload.task, workload.model, workload.compute
        named = trainable(workload.model)
        self._names, self._params = list(named), list(named.values())
        self._shapes = {name: tuple(p.shape) for name, p in named.items()}
        self._flat = _share_storage(self._params)
        filler = Filler(workload.invent(1))
        self._scorer = Scorer(workload, self._load, filler, self._check_fn)
        self.num_threads = threads_of(workload.model, workload.compute)
        self._private: PrivateGradients | None = None
        if private:
            from confide.client.training.private import gradients  # Opacus takes a second to load

            with threads(self.num_threads):
                self._private = gradients.PrivateGradients(
                    workload,
                    group_size=group_size,
                    load_fn=self._load,
                    losses_fn=self._checked_losses,
                    check_fn=self._check_fn,
                )

    @property
    def _privately(self) -> "PrivateGradients":
        if self._private is None:
            raise PrivacyError(_NOT_PRIVATE)
        return self._private

    @property
    def shapes(self) -> Shapes:
        """Names and shapes of the trainable tensors."""
        return self._shapes

    @property
    def workload(self) -> Workload:
        """What is trained."""
        return self._workload

    @_on_own_threads
    def train(
        self,
        start: Tensors,
        examples: Examples,
        work: LocalWork,
        *,
        groups: Tensor | None = None,
        change_gradient: GradientFn | None = None,
        pace: Pace | None = None,
    ) -> Tensors:
        """Take a round's local steps.

        Args:
            start: tensors to start from, checked.
            examples: training records.
            work: its plan, steps and secret, which no other training has.
            groups: whose each record is, int64 of shape [n]; needed where the unit is a group.
            change_gradient: called before every optimizer step; None leaves gradients as they are.
            pace: counts steps, and may end them early; None for all.

        Returns:
            What was added to ``start``, on the CPU.
        """
        loaded, examples = self._load(start), examples.to(self._compute.device)
        # A new one: moments of an earlier round, or of another institution, must not stay.
        optimizer = make_optimizer(work.plan.client.optimizer, self._params)
        self._forget_gradients()
        if not self._model.training:
            self._model.train()
        gradients = self._gradients(optimizer, examples, groups, work, pace or Pace())
        anchors = list(unflatten(loaded, self._shapes).values())
        plan = work.plan
        # Under privacy records reach a step only by the clipped, noisy sum.
        reads_records = ALGORITHMS[plan.objective.kind].reads_records and not plan.private
        for indices in gradients:
            if change_gradient is not None:
                places = indices if reads_records else None
                step = Step(
                    params=self._params,
                    start=anchors,
                    model=self._model,
                    batch=None if places is None else examples.take(places),
                    places=places,
                )
                change_gradient(step)
            optimizer.step()
            if not plan.private:  # else they are the private optimizer's to forget
                self._forget_gradients()
        return unflatten((self._flat - loaded).cpu(), self._shapes)

    def _gradients(
        self,
        optimizer: torch.optim.Optimizer,
        examples: Examples,
        groups: Tensor | None,
        work: LocalWork,
        pace: Pace,
    ) -> Iterator[Tensor | None]:
        """Write each step's gradient into the parameters; yield its records, None under privacy."""
        views = self._workload.views(seed_from(work.secret, "views"))
        if work.plan.private:
            units = Units(examples, groups, plan=work.plan, views=views)
            return self._privately.of_steps(optimizer, units, work, pace)
        losses_fn = functools.partial(self._checked_losses, self._model)
        batches = pace.over(plain_batches(work.schedule, len(examples), work.secret))
        return plain_gradients(losses_fn, examples, batches, views, compute=self._compute)

    def check_margin(self, schedule: LocalSchedule) -> None:
        """Check that rounding of a step's sum can be covered.

        Raises:
            PrivacyError: if so many records are in a step that it cannot.
        """
        self._privately.check_margin(schedule)

    def check_rows(self, tensors: Tensors, schedule: LocalSchedule) -> None:
        """Check, on the tensors of a round, that what a record adds is its own affair.

        Raises:
            RowsDifferError: if it depends on others in a batch, or on the record's place.
            PrivacyError: if rounding of so many records in a step cannot be covered.
        """
        scores_fn = functools.partial(self.scores, tensors) if self._workload.self_trains else None
        self._privately.check_rows(tensors, schedule, scores_fn)

    def place(self, tensors: Tensors) -> list[Tensor]:
        """Move named tensors to the device of the training, in the order of the parameters."""
        return [tensors[name].to(self._compute.device) for name in self._names]

    @_on_own_threads
    def scores(self, tensors: Tensors, examples: Examples) -> Tensor:
        """Predict; a record's scores do not depend on the records beside it.

        Args:
            tensors: to predict with.
            examples: n >= 1 records.

        Returns:
            The task's scores, or its tallies, on the CPU, shape [n, ...].
        """
        return self._scorer.scores(tensors, examples)

    def scoring_together(self, many: Sequence[Examples]) -> AbstractContextManager[None]:
        """Have the first of some records that are scored bring the scores of all, for the moment.

        Args:
            many: records of several institutions, to be scored with the same tensors.
        """
        return self._scorer.together(many)

    def model_with(self, tensors: Tensors) -> nn.Module:
        """Return the model with these tensors, to be asked until it next trains or scores."""
        self._load(tensors)
        return self._model.eval()

    def records(self, tensors: Tensors, examples: Examples) -> Records:
        """Return records, with the model that holds ``tensors``, for an algorithm that reads them.

        Raises:
            PrivacyError: if this trainer is one of private rounds.
        """
        if self._private is not None:
            raise PrivacyError("Under privacy no algorithm reads records.")
        self._load(tensors)
        self._model.eval()
        return Records(
            examples=examples.to(self._compute.device),
            model=self._model,
            outputs_fn=self._checked_outputs,
            losses_fn=self._task.loss,
            features_fn=lambda batch: inputs_of_last(
                self._model, functools.partial(self._checked_outputs, batch)
            ),
            load_fn=self._load,
            at_once=self._compute.physical_batch_size,
        )

    def _checked_outputs(self, batch: Batch) -> Tensor:
        self._check_fn()
        return self._workload.outputs(self._model, batch)

    def _checked_losses(self, model: nn.Module, batch: Batch) -> Tensor:
        self._check_fn()
        return self._workload.losses(model, batch)

    def evaluate(self, tensors: Tensors, examples: Examples) -> dict[str, float]:
        """Score predictions; undefined metrics are left out."""
        return self._task.metrics(self.scores(tensors, examples), examples.labels)

    def _load(self, tensors: Tensors) -> Tensor:
        """Copy tensors into the model, in one piece, and return them on its device, shape [d]."""
        flat = flatten(tensors, self._names).to(self._compute.device)
        self._flat.copy_(flat)
        return flat

    def _forget_gradients(self) -> None:
        # The optimizer's own zero_grad costs a tenth of a small model's step.
        for parameter in self._params:
            parameter.grad = None


def _nothing() -> None:
    """Check nothing."""


def _share_storage(params: list[nn.Parameter]) -> Tensor:
    """Lay parameters out one after the other: loading them all is one operation, one transfer."""
    flat = torch.cat([p.detach().float().reshape(-1) for p in params])
    for p, part in zip(params, flat.split([p.numel() for p in params]), strict=True):
        p.data = part.view_as(p)
    return flat


__all__ = ["Trainer"]
