"""The trainer: one a process, reused for every client and round.

The model is wrapped once; each client's tensors are swapped in. A round's result depends on the
tensors received, the records, the plan and the round's keys, and on nothing that an earlier round
left behind.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from confide.client.schedule import LocalSchedule
from confide.client.training.aligned import AlignedRows
from confide.client.training.base_optimizer import make_optimizer
from confide.client.training.pace import Pace
from confide.client.training.passes import Filler
from confide.client.training.plain_steps import plain_batches, plain_gradients
from confide.client.training.private.custom_checks import check_losses
from confide.client.training.private.preflight import off_zero, preflight
from confide.client.training.private.row_check import CheckedTensors, RowCheck
from confide.client.training.private.step import DpSgdStep, expect_hook_warning
from confide.client.training.private.units import Units
from confide.client.training.scoring import Scorer
from confide.config.strategies.strategy import ALGORITHMS
from confide.errors import PrivacyError
from confide.models.compute import threads, threads_of
from confide.models.networks import inputs_of_last, refuse_batch_norm, trainable
from confide.models.workload import Workload
from confide.privacy.randomness import KeyedGenerator, derive_key, seed_from
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Shapes, Tensors, flatten, unflatten
from confide.strategies.algorithm import GradientFn, Records, Step
from confide.tasks.task import Batch, Examples

if TYPE_CHECKING:
    from confide.client.training.private.dp_sgd import DpSgd

# Records that are invented to stand beside one.
_INVENTED = 33
# Whoever writes plans must not fill the memory with what follows from them.
_MOST_FIGURES = 4096
# A round's steps before there is a plan.
_USUAL = DpSgdStep(
    clipping_norm=1.0, noise_multiplier=0.0, sampling_rate=0.5, expected_batch_size=32.0
)
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
        self._dp_sgd: DpSgd | None = None
        self._row_check: RowCheck | None = None
        self._checked = CheckedTensors({})
        self._covered: set[tuple[float, int]] = set()
        self._aligned = AlignedRows(workload.model)
        self._scorer = Scorer(workload, self._load, Filler(self._invent(1)), self._check_fn)
        self.num_threads = threads_of(workload.model, workload.compute)
        if private:
            self._prepare_privacy(group_size)

    @_on_own_threads
    def _prepare_privacy(self, group_size: int | None) -> None:
        """Build what clips, and check the model and the loss on invented records."""
        from confide.client.training.private import dp_sgd  # Opacus takes a second to load

        self._model.train()
        # Of code that is not ours, the check that says more comes first.
        is_custom = self._workload.custom_task is not None
        if is_custom:
            check_losses(self._workload, self._params)
        self._dp_sgd = dp_sgd.DpSgd(
            self._model,
            self._workload.losses,
            physical_batch_size=self._compute.physical_batch_size,
            filler=self._invent(1),
            longest=self._workload.longest,
            group_size=self._workload.rows_of(group_size),
        )
        preflight(
            self._dp_sgd,
            self._invent(4),
            autocast=self._compute.autocast,
            exact_loss_fn=self._workload.exact.losses,
        )
        if not is_custom:
            check_losses(self._workload, self._params)
        self._row_check = RowCheck(
            self._dp_sgd, self._invent(_INVENTED), longest=self._workload.longest
        )
        with off_zero(self._params):
            self._row_check.check(self._dp_sgd.sizes(_USUAL), is_first=True)

    def _invent(self, count: int) -> Examples:
        generator = torch.Generator().manual_seed(0)
        return self._workload.synthetic(count, generator).to(self._compute.device)

    @property
    def shapes(self) -> Shapes:
        """Names and shapes of the trainable tensors."""
        return self._shapes

    @property
    def workload(self) -> Workload:
        """What is trained."""
        return self._workload

    @_on_own_threads
    def train(  # noqa: PLR0913 - what local steps consist of
        self,
        start: Tensors,
        examples: Examples,
        *,
        plan: TrainingPlan,
        schedule: LocalSchedule,
        secret: bytes,
        groups: Tensor | None = None,
        change_gradient: GradientFn | None = None,
        pace: Pace | None = None,
    ) -> Tensors:
        """Take a round's local steps.

        Args:
            start: tensors to start from, checked.
            examples: training records.
            plan: optimizer and privacy.
            schedule: steps, batches, noise.
            secret: 32 bytes that this training's randomness derives from, used for no other.
            groups: whose each record is, int64 of shape [n]; needed where the unit is a group.
            change_gradient: called before every optimizer step; None leaves gradients as they are.
            pace: counts steps, and may end them early; None for all.

        Returns:
            What was added to ``start``, on the CPU.
        """
        loaded, examples = self._load(start), examples.to(self._compute.device)
        # A new one: moments of an earlier round, or of another institution, must not stay.
        optimizer = make_optimizer(plan.client.optimizer, self._params)
        self._forget_gradients()
        if not self._model.training:
            self._model.train()
        views = self._workload.views(seed_from(secret, "views"))
        gradients: Iterator[Tensor | None]
        pace = pace or Pace()
        if plan.private:
            units = Units(examples, groups, plan=plan, views=views)
            gradients = self._private_gradients(
                optimizer, units, plan=plan, schedule=schedule, secret=secret, pace=pace
            )
        else:
            losses_fn = functools.partial(self._checked_losses, self._model)
            batches = pace.over(plain_batches(schedule, len(examples), secret))
            gradients = plain_gradients(losses_fn, examples, batches, views, compute=self._compute)
        anchors = list(unflatten(loaded, self._shapes).values())
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

    def check_margin(self, schedule: LocalSchedule) -> None:
        """Check that rounding of a step's sum can be covered.

        Raises:
            PrivacyError: if so many records are in a step that it cannot.
        """
        if self._dp_sgd is None:
            raise PrivacyError(_NOT_PRIVATE)
        figures = schedule.sampling_rate, schedule.num_examples
        if figures not in self._covered:
            self._dp_sgd.margin(_shared(schedule))
            if len(self._covered) >= _MOST_FIGURES:
                self._covered.clear()
            self._covered.add(figures)

    def check_rows(self, tensors: Tensors, schedule: LocalSchedule) -> None:
        """Check, on the tensors of a round, that what a record adds is its own affair.

        Raises:
            RowsDifferError: if it depends on others in a batch, or on the record's place.
            PrivacyError: if rounding of so many records in a step cannot be covered.
        """
        self.check_margin(schedule)
        figures = schedule.sampling_rate, schedule.num_examples
        # The very same tensors, which nobody changes and which are held here: nothing to compare.
        if not self._checked.are(tensors):
            self._checked = CheckedTensors(tensors)
        if figures not in self._checked.figures:
            self._check_rows(tensors, schedule)
            self._checked.figures.add(figures)

    @_on_own_threads
    def _check_rows(self, tensors: Tensors, schedule: LocalSchedule) -> None:
        if self._dp_sgd is None or self._row_check is None:
            raise PrivacyError(_NOT_PRIVATE)
        shared = _shared(schedule)
        scores_fn = functools.partial(self.scores, tensors) if self._workload.self_trains else None
        if not self._model.training:
            self._model.train()
        self._load(tensors)
        # All that came, whatever of it is trained in this round
        received = flatten(tensors, sorted(tensors))
        self._row_check.check_once(received, self._dp_sgd.sizes(shared), scores_fn)

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
        if self._dp_sgd is not None:
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

    def _private_gradients(
        self,
        optimizer: torch.optim.Optimizer,
        units: Units,
        *,
        plan: TrainingPlan,
        schedule: LocalSchedule,
        secret: bytes,
        pace: Pace,
    ) -> Iterator[None]:
        """Sample units and write their noisy mean gradient into the parameters, once a step."""
        if self._dp_sgd is None:
            raise PrivacyError(_NOT_PRIVATE)
        step = replace(_shared(schedule), clipping_norm=plan.privacy.clipping_norm)
        noise = KeyedGenerator(derive_key(secret, "noise"))
        private = self._dp_sgd.optimizer(optimizer, step, noise)
        # Two streams, so that neither depends on how much the other has drawn.
        masks = KeyedGenerator(derive_key(secret, "mask"))
        # Before every pass too: with views, and large batches, a step has many
        with expect_hook_warning(), self._dp_sgd.losing(self._checked_losses):
            for _ in pace.over(range(schedule.steps)):
                self._check_fn()
                units.private_gradient(self._dp_sgd, private, masks, schedule.sampling_rate)
                yield None
        private.zero_grad(set_to_none=True)


def _nothing() -> None:
    """Check nothing."""


def _shared(schedule: LocalSchedule) -> DpSgdStep:
    return replace(
        _USUAL,
        noise_multiplier=schedule.noise_multiplier,
        sampling_rate=schedule.sampling_rate,
        expected_batch_size=schedule.sampling_rate * schedule.num_examples,
    )


def _share_storage(params: list[nn.Parameter]) -> Tensor:
    """Lay parameters out one after the other: loading them all is one operation, one transfer."""
    flat = torch.cat([p.detach().float().reshape(-1) for p in params])
    for p, part in zip(params, flat.split([p.numel() for p in params]), strict=True):
        p.data = part.view_as(p)
    return flat


__all__ = ["Trainer"]
