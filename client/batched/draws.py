"""Which records each institution of a cohort takes in each step, as places in one table.

The table holds the training records of all institutions one after the other, and behind them the
synthetic record that fills up what has room. Each institution's batches and samples are those that
it draws alone: of its own permutation, or of its own stream.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from confide.client.schedule import LocalSchedule
from confide.client.training.plain_steps import batch_sizes, plain_order
from confide.privacy.randomness import KeyedGenerators

# Numbers of all streams that are drawn at once.
_AT_ONCE = 2**22


@dataclass(frozen=True, eq=False)
class Drawn:
    """The records of a step.

    Attributes:
        places: in the table, int64 of shape [m, r].
        is_record: which of them count, bool of shape [m, r].
    """

    places: Tensor
    is_record: Tensor


def batches(
    schedules: Sequence[LocalSchedule], counts: Sequence[int], secrets: Sequence[bytes]
) -> Iterator[Drawn]:
    """Yield each step's batches, without privacy.

    Args:
        schedules: of m institutions; whoever has fewer steps draws nothing in the others.
        counts: how many records each has.
        secrets: of each, which its order derives from.
    """
    steps = max(one.steps for one in schedules)
    width = max(min(one.batch_size, count) for one, count in zip(schedules, counts, strict=True))
    end = sum(counts)
    places = torch.full((len(counts), steps * width), end)
    # Equal figures, equal cells: who has them is written at once.
    kinds: dict[tuple[int, ...], list[int]] = {}
    orders: list[Tensor] = []
    generator = torch.Generator()
    for row, (schedule, count, secret) in enumerate(zip(schedules, counts, secrets, strict=True)):
        sizes = batch_sizes(schedule.steps, schedule.batch_size, count)
        kinds.setdefault(sizes, []).append(row)
        orders.append(plain_order(sum(sizes), count, secret, generator))
    starts = torch.tensor([0, *counts]).cumsum(0)
    for sizes, rows in kinds.items():
        cells = (torch.arange(width) < torch.tensor(sizes)[:, None]).flatten().nonzero().flatten()
        own = torch.stack([orders[row] for row in rows])
        places[torch.tensor(rows)[:, None], cells] = own + starts[rows, None]
    places = places.view(len(counts), steps, width)
    is_record = places < end
    for step in range(steps):
        yield Drawn(places[:, step], is_record[:, step])


def samples(
    schedules: Sequence[LocalSchedule],
    counts: Sequence[int],
    masks: KeyedGenerators,
    *,
    rows: int,
) -> Iterator[Drawn]:
    """Yield each step's Poisson samples, under privacy.

    None is cut: a step is as wide as its largest sample, in whole passes.

    Args:
        schedules: of m institutions; whoever has fewer steps samples nothing in the others.
        counts: how many records each has.
        masks: stream of each.
        rows: R, of a pass; the width of a step is a multiple of it.
    """
    steps = torch.tensor([one.steps for one in schedules])
    rates = torch.tensor([one.sampling_rate for one in schedules], dtype=torch.float64)
    sizes = torch.tensor(counts)
    most, block = int(steps.max()), max(1, _AT_ONCE // int(sizes.sum()))
    for first in range(0, most, block):
        here = (steps - first).clamp(0, block)
        yield from _sampled(here, sizes, rates, masks, rows=rows)


def _sampled(
    steps: Tensor, sizes: Tensor, rates: Tensor, masks: KeyedGenerators, *, rows: int
) -> Iterator[Drawn]:
    """Yield the samples of some steps; ``steps`` is how many of them each institution takes."""
    count, end = len(sizes), int(sizes.sum())
    drawn = steps * sizes
    uniform = masks.uniform(drawn.tolist())
    taken = (uniform < rates.repeat_interleave(drawn)).nonzero().flatten()
    owner = torch.bucketize(taken, drawn.cumsum(0), right=True)
    # A stream's numbers are those of its first step, then of its second, record by record.
    place = taken - (drawn.cumsum(0) - drawn)[owner]
    step, record = place // sizes[owner], place % sizes[owner]
    record += (sizes.cumsum(0) - sizes)[owner]
    cell = step * count + owner
    numbers = torch.bincount(cell, minlength=int(steps.max()) * count)
    cell, order = cell.sort(stable=True)
    rank = torch.arange(len(cell)) - (numbers.cumsum(0) - numbers)[cell]
    record, owner = record[order], owner[order]
    starts = [0, *numbers.view(-1, count).sum(dim=1).cumsum(0).tolist()]
    for own, (begin, stop) in zip(numbers.view(-1, count), itertools.pairwise(starts), strict=True):
        width = -(-int(own.max()) // rows) * rows
        places = torch.full((count, width), end)
        places[owner[begin:stop], rank[begin:stop]] = record[begin:stop]
        yield Drawn(places, places < end)


__all__ = ["Drawn", "batches", "samples"]
