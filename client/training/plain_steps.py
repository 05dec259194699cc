"""Gradients of steps without privacy: batches, and the mean loss of each."""

import functools
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from confide.client.schedule import LocalSchedule
from confide.models.compute import Compute
from confide.tasks.media.views import Views
from confide.tasks.task import Batch, Examples


def plain_batches(schedule: LocalSchedule, count: int, secret: bytes) -> Iterator[Tensor]:
    """Yield ``schedule.steps`` batches.

    A new permutation each epoch, the last batch of an epoch short.
    """
    sizes = batch_sizes(schedule.steps, schedule.batch_size, count)
    yield from plain_order(sum(sizes), count, secret).split(sizes)


def plain_order(
    total: int, count: int, secret: bytes, generator: torch.Generator | None = None
) -> Tensor:
    """Return the records of all batches, one batch behind the other: int64, shape [total].

    Args:
        total: number of records in all batches.
        count: number of records.
        secret: decides the order.
        generator: seeded anew, where there is one; to make one takes as long as a small order.
    """
    generator = generator or torch.Generator()
    generator.manual_seed(int.from_bytes(secret[:8], "little"))
    order = torch.randperm(count, generator=generator)
    if total <= count:
        return order[:total]
    more = [torch.randperm(count, generator=generator) for _ in range((total - 1) // count)]
    return torch.cat([order, *more])[:total]


@functools.lru_cache(maxsize=4096)
def batch_sizes(steps: int, batch_size: int, count: int) -> tuple[int, ...]:
    """Return how many records each step takes."""
    epoch = [min(batch_size, count - start) for start in range(0, count, batch_size)]
    return tuple((epoch * -(-steps // len(epoch)))[:steps])


def plain_gradients(
    losses_fn: Callable[[Batch], Tensor],
    examples: Examples,
    batches: Iterable[Tensor],
    views: Views | None = None,
    *,
    compute: Compute,
) -> Iterator[Tensor]:
    """Write the gradient of each batch's mean loss into the parameters; yield its indices.

    Args:
        losses_fn: loss of each record of a batch, shape [b]; what it raises ends the training.
        examples: training records.
        batches: indices of each, shape [b].
        views: makes views of records, whose losses count alike; None for records themselves.
        compute: device, and how many records are computed at a time.
    """
    limit = compute.physical_batch_size
    for step, indices in enumerate(batches):
        taken, rows = examples, indices
        if views is not None:
            taken, (rows,) = views.of(examples, [indices], step)
        size = len(rows)
        for chunk in rows.split(limit) if size > limit else (rows,):
            losses = losses_fn(taken.take(chunk))
            # A number, since to check the shape of a given gradient torch loads SymPy
            torch.dot(losses, _mean_weights(len(chunk), size, compute.device)).backward()
        yield indices  # the optimizer steps here


@functools.lru_cache(maxsize=64)
def _mean_weights(count: int, batch_size: int, device: torch.device) -> Tensor:
    """Return the gradient of a mean loss with respect to ``count`` of its losses, shape [count]."""
    return torch.full((count,), 1 / batch_size, device=device)


__all__ = ["batch_sizes", "plain_batches", "plain_gradients", "plain_order"]
