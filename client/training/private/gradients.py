"""A trainer's gradients under DP-SGD, and the checks that they stand on."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from confide.client.schedule import LocalSchedule
from confide.client.training.pace import Pace
from confide.client.training.private.custom_checks import check_losses
from confide.client.training.private.dp_sgd import DpSgd
from confide.client.training.private.preflight import off_zero, preflight
from confide.client.training.private.row_check import CheckedTensors, RowCheck
from confide.client.training.private.step import DpSgdStep, expect_hook_warning
from confide.client.training.private.units import Units
from confide.client.training.work import LocalWork
from confide.models.compute import threads, threads_of
from confide.models.networks import trainable
from confide.models.workload import Workload
from confide.privacy.randomness import KeyedGenerator, derive_key
from confide.protocol.tensors import Tensors, flatten
from confide.tasks.task import Batch, Examples

# Records that are invented to stand beside one.
_INVENTED = 33
# Whoever writes plans must not fill the memory with what follows from them.
_MOST_FIGURES = 4096
# A round's steps before there is a plan.
_USUAL = DpSgdStep(
    clipping_norm=1.0, noise_multiplier=0.0, sampling_rate=0.5, expected_batch_size=32.0
)


class PrivateGradients:
    """Noisy mean gradients of a model, which is checked on invented records as this is made.

    Args:
        workload: task, model, compute.
        group_size: largest number of a group's records; None where records are units.
        load_fn: copies tensors into the model.
        losses_fn: loss of each record of a batch; what it raises ends a training.
        check_fn: called before every step; what it raises ends a training.

    Raises:
        PrivacyError: if the model or its loss cannot be trained privately.
    """

    def __init__(
        self,
        workload: Workload,
        *,
        group_size: int | None,
        load_fn: Callable[[Tensors], object],
        losses_fn: Callable[[nn.Module, Batch], Tensor],
        check_fn: Callable[[], None],
    ) -> None:
        self._workload, self._load_fn = workload, load_fn
        self._losses_fn, self._check_fn = losses_fn, check_fn
        self._checked = CheckedTensors({})
        self._covered: set[tuple[float, int]] = set()
        workload.model.train()
        params = list(trainable(workload.model).values())
        # Of code that is not ours, the check that says more comes first.
        is_custom = workload.custom_task is not None
        if is_custom:
            check_losses(workload, params)
        self.dp_sgd = DpSgd(
            workload.model,
            workload.losses,
            physical_batch_size=workload.compute.physical_batch_size,
            filler=workload.invent(1),
            longest=workload.longest,
            group_size=workload.rows_of(group_size),
        )
        preflight(
            self.dp_sgd,
            workload.invent(4),
            autocast=workload.compute.autocast,
            exact_loss_fn=workload.exact.losses,
        )
        if not is_custom:
            check_losses(workload, params)
        self._row_check = RowCheck(
            self.dp_sgd, workload.invent(_INVENTED), longest=workload.longest
        )
        with off_zero(params):
            self._row_check.check(self.dp_sgd.sizes(_USUAL), is_first=True)

    def check_margin(self, schedule: LocalSchedule) -> None:
        """Check that rounding of a step's sum can be covered.

        Raises:
            PrivacyError: if so many records are in a step that it cannot.
        """
        figures = schedule.sampling_rate, schedule.num_examples
        if figures not in self._covered:
            self.dp_sgd.margin(_shared(schedule))
            if len(self._covered) >= _MOST_FIGURES:
                self._covered.clear()
            self._covered.add(figures)

    def check_rows(
        self,
        tensors: Tensors,
        schedule: LocalSchedule,
        scores_fn: Callable[[Examples], Tensor] | None,
    ) -> None:
        """Check, on the tensors of a round, that what a record adds is its own affair.

        Args:
            tensors: that the round starts from.
            schedule: the round's.
            scores_fn: of records, by these tensors; None where no label follows from scores.

        Raises:
            RowsDifferError: if it depends on others in a batch, or on the record's place.
            PrivacyError: if rounding of so many records in a step cannot be covered.
        """
        self.check_margin(schedule)
        figures = schedule.sampling_rate, schedule.num_examples
        # The very same tensors, which nobody changes and which are held here: nothing to compare.
        if not self._checked.are(tensors):
            self._checked = CheckedTensors(tensors)
        if figures in self._checked.figures:
            return
        model = self._workload.model
        with threads(threads_of(model, self._workload.compute)):
            if not model.training:
                model.train()
            self._load_fn(tensors)
            # All that came, whatever of it is trained in this round
            received = flatten(tensors, sorted(tensors))
            sizes = self.dp_sgd.sizes(_shared(schedule))
            self._row_check.check_once(received, sizes, scores_fn)
        self._checked.figures.add(figures)

    def of_steps(
        self, optimizer: torch.optim.Optimizer, units: Units, work: LocalWork, pace: Pace
    ) -> Iterator[None]:
        """Sample units and write their noisy mean gradient into the parameters, once a step.

        Args:
            optimizer: takes the steps, between one gradient and the next.
            units: that are sampled.
            work: of this training.
            pace: counts steps, and may end them early.
        """
        schedule = work.schedule
        step = replace(_shared(schedule), clipping_norm=work.plan.privacy.clipping_norm)
        noise = KeyedGenerator(derive_key(work.secret, "noise"))
        private = self.dp_sgd.optimizer(optimizer, step, noise)
        # Two streams, so that neither depends on how much the other has drawn.
        masks = KeyedGenerator(derive_key(work.secret, "mask"))
        # Before every pass too: with views, and large batches, a step has many
        with expect_hook_warning(), self.dp_sgd.losing(self._losses_fn):
            for _ in pace.over(range(schedule.steps)):
                self._check_fn()
                units.private_gradient(self.dp_sgd, private, masks, schedule.sampling_rate)
                yield None
        private.zero_grad(set_to_none=True)


def _shared(schedule: LocalSchedule) -> DpSgdStep:
    return replace(
        _USUAL,
        noise_multiplier=schedule.noise_multiplier,
        sampling_rate=schedule.sampling_rate,
        expected_batch_size=schedule.sampling_rate * schedule.num_examples,
    )


__all__ = ["PrivateGradients"]
