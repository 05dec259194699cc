"""Gradients of a cohort's steps: of each batch's mean loss, or of Poisson samples, with noise."""

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from confide.client.batched.check import CohortCheck
from confide.client.batched.draws import Drawn, batches, samples
from confide.client.batched.passes import RecordPasses, Table
from confide.client.batched.stack import Pass
from confide.client.schedule import LocalSchedule
from confide.client.training.private.clipping import ClippingRule
from confide.client.training.private.layer_gradients import rounding_margin
from confide.client.training_round import RoundWork
from confide.privacy.randomness import KeyedGenerators, derive_key


class CohortGradients:
    """Writes the gradients of many institutions' steps, of rising numbers of steps.

    Args:
        passes: runs records through the model and back.
        check: of the passes that private steps take.
        rows_fn: rows of a private pass, which follow from a schedule's public figures.
        check_fn: called before every step; what it raises ends the computation.
    """

    def __init__(
        self,
        passes: RecordPasses,
        check: CohortCheck,
        *,
        rows_fn: Callable[[LocalSchedule], int],
        check_fn: Callable[[], None] | None = None,
    ) -> None:
        self._passes, self._check, self._rows_fn = passes, check, rows_fn
        self._check_fn = check_fn or _nothing

    def passes(
        self, works: Sequence[RoundWork], table: Table, tensors: Tensor
    ) -> Iterator[tuple[int, Pass]]:
        """Yield each step's pass of those who take it, weighted to mean losses, and the first."""
        for first, drawn in zip(_done(works), batches(*_lists(works)), strict=True):
            self._check_fn()
            places, is_record = drawn.places[first:], drawn.is_record[first:]
            if bool(is_record.all()):
                weight = 1 / is_record.shape[1]
                yield first, self._passes.run(tensors[first:], table, places, weight)
                continue
            weights = self._passes.put(is_record / is_record.sum(dim=1, keepdim=True))
            found = self._passes.run(tensors[first:], table, places, weights)
            yield first, found.only(self._passes.put(is_record))

    def plain(
        self, works: Sequence[RoundWork], table: Table, tensors: nn.Parameter
    ) -> Iterator[int]:
        """Write the gradient of each batch's mean loss, once a step; yield who takes it first."""
        assert tensors.grad is not None
        for first, found in self.passes(works, table, tensors.data):
            self._passes.stack.write_sums(tensors.grad[first:], found, fresh=True)
            yield first

    def private(
        self, works: Sequence[RoundWork], table: Table, tensors: nn.Parameter
    ) -> Iterator[int]:
        """Write the noisy mean gradient of each Poisson sample, once a step; see `plain`."""
        assert tensors.grad is not None
        schedules, sizes, secrets = _lists(works)
        rows = max(map(self._rows_fn, schedules))
        self._check.check(tensors.data[0], len(works), rows)
        masks, noise = (
            KeyedGenerators([derive_key(secret, name) for secret in secrets])
            for name in ("mask", "noise")
        )
        expected = torch.tensor([one.sampling_rate * one.num_examples for one in schedules])
        norm = works[0].plan.privacy.clipping_norm
        rule = ClippingRule(norm, margin=rounding_margin(expected=float(expected.max()), tokens=1))
        sigma = torch.tensor([one.noise_multiplier for one in schedules], dtype=torch.float64)
        sums = torch.empty_like(tensors.data, dtype=torch.float64)
        divisors = self._passes.put(expected)[:, None]
        size = sum(part[0].numel() for part in self._passes.stack.parts(sums))
        done, drawings = _done(works), samples(schedules, sizes, masks, rows=rows)
        noises: Iterable[Tensor | None] = [None] * len(done)
        if bool(sigma.any()):
            noises = noise.normals(len(done), size, std=sigma * rule.sensitivity())
        for first, drawn, z in zip(done, drawings, noises, strict=True):
            self._check_fn()
            self._add_passes(sums, tensors.data, table, drawn, rule=rule, rows=rows)
            if z is not None:
                own = self._passes.stack.parts(sums)
                z = self._passes.put(z)
                for part, more in zip(own, z.split([p[0].numel() for p in own], 1), strict=True):
                    part += more.view_as(part)
            # As Opacus: rounded first, then divided by the expected size of a batch.
            tensors.grad.copy_(sums).div_(divisors)
            yield first

    def _add_passes(
        self,
        sums: Tensor,
        tensors: Tensor,
        table: Table,
        drawn: Drawn,
        *,
        rule: ClippingRule,
        rows: int,
    ) -> None:
        """Write each institution's sum of clipped gradients, in passes of ``rows`` records."""
        if not drawn.places.shape[1]:
            sums.zero_()  # an empty sample is a step too
        for start in range(0, drawn.places.shape[1], rows):
            own = slice(start, start + rows)
            found = self._passes.run(tensors, table, drawn.places[:, own])
            is_record = self._passes.put(drawn.is_record[:, own])
            self._passes.add_clipped(sums, found, is_record, rule=rule, fresh=not start)


def _lists(works: Sequence[RoundWork]) -> tuple[list[LocalSchedule], list[int], list[bytes]]:
    return (
        [work.schedule for work in works],
        [len(work.data.train) for work in works],
        [work.reserved.secret for work in works],
    )


def _done(works: Sequence[RoundWork]) -> list[int]:
    """Return how many have no more steps at each step; of rising numbers of steps, the first."""
    steps = [work.schedule.steps for work in works]
    return [bisect.bisect_right(steps, step) for step in range(steps[-1])]


def _nothing() -> None:
    """Check nothing."""


__all__ = ["CohortGradients"]
