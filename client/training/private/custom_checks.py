"""What a task has to show before its first private step, beside the preflight.

The guarantee holds for a record whose gradient and encoding depend on no other record. The built-in
tasks have to show it too, with each backbone and tokenizer that is loaded. A custom task can be
looked at from outside only: on a few records, in batches of two sizes and one by one.
What such a look misses is in ``docs/privacy.md``.
"""

import functools
from collections.abc import Callable, Sequence

import torch
from datasets import Dataset
from torch import Tensor

from confide.client.training.private.preflight import off_zero
from confide.errors import PrivacyError
from confide.models.workload import Workload
from confide.tasks.task import LABELS, Batch, Examples

_BATCHES = (4, 33)
_ALONE = 4
"""Records that are encoded alone as well; the others only stand beside them."""
_TOLERANCE = {None: 1e-4, torch.bfloat16: 6e-2}
_ENCODING_TOLERANCE = 1e-6


def check_losses(workload: Workload, params: Sequence[Tensor]) -> None:
    """Check that a record's loss is the same alone, in a batch of 4, in one of 33 and afterwards.

    In half precision rounding hides a few hundredths, so that float32 is looked at as well.

    Args:
        workload: workload of any task.
        params: the model's trainable tensors.

    Raises:
        PrivacyError: if it is not, or ``synthetic`` invents records that show nothing.
    """
    examples = _varied(workload).to(workload.compute.device)
    with torch.no_grad(), off_zero(params):
        _check_losses(workload.exact, examples)
        if workload.compute.autocast is not None:
            _check_losses(workload, examples)


def _check_losses(workload: Workload, examples: Examples) -> None:
    loss_fn = functools.partial(workload.losses, workload.model)
    alone = _losses_alone(loss_fn, examples)
    for size in _BATCHES:
        for indices in examples.length_buckets(torch.arange(size)):
            losses = loss_fn(examples.take(indices)).float().cpu()
            if losses.shape != indices.shape:
                raise PrivacyError(
                    f"{_named(workload)}: loss of {len(indices)} records has"
                    f" shape {list(losses.shape)}, expected [{len(indices)}]; return the loss"
                    " of each record."
                )
            _check_equal(workload, losses, alone[indices], f"in a batch of {len(indices)}")
    # A loss that remembers what it saw gives other values the second time.
    _check_equal(workload, _losses_alone(loss_fn, examples), alone, "after other records")


def check_encoding(workload: Workload, records: Dataset) -> None:
    """Check that a record is encoded alike alone, beside a few others and beside 32.

    That of a built-in task rests on a tokenizer that comes with a backbone's folder.

    Args:
        workload: workload of any task.
        records: an institution's records, which fit the schema; at least one.

    Raises:
        PrivacyError: naming the column that differs.
    """
    alone = [
        workload.task.encode(records.select([index])).take(torch.tensor([0]))
        for index in range(min(len(records), _ALONE))
    ]
    for count in sorted({min(len(records), size) for size in _BATCHES}):
        together = workload.task.encode(records.select(range(count)))
        for index, own in enumerate(alone):
            beside = together.take(torch.tensor([index])) if len(together) == count else {}
            differing = [
                name
                for name, column in own.items()
                if name not in beside or not _is_equal(column, beside[name])
            ]
            if differing:
                raise PrivacyError(
                    f"{_named(workload)}: encode gives column {', '.join(differing)} of a record"
                    f" other values alone than beside {count - 1} others, so one record changes"
                    " what others are; encode each record by itself, with public ranges."
                )


def _named(workload: Workload) -> str:
    if workload.custom_task is None:
        return "The task, with this backbone and its tokenizer"
    return f"task._target_={workload.custom_task}"


def _varied(workload: Workload) -> Examples:
    """Invent records for the larger batch.

    Where all have one label, their labels are dealt out in turn.
    """
    for number in _BATCHES:
        examples = workload.synthetic(number, torch.Generator().manual_seed(0))
        varied = any(
            bool((column != column[:1]).any())
            for name, column in examples.columns.items()
            if name != LABELS
        )
        if len(examples) != number or not varied:
            raise PrivacyError(
                f"{_named(workload)}: synthetic({number}) gives {len(examples)}"
                f" records, {'not all' if varied else 'all'} alike; invent {number} that differ, or"
                " the preflight would see nothing."
            )
    labels = examples.labels
    alike = labels.dim() == 1 and bool((labels == labels[0]).all())
    if alike and labels.dtype == torch.int64 and workload.task.labels:
        dealt = torch.arange(len(examples)) % len(workload.task.labels)
        return Examples({**examples.columns, LABELS: dealt}, examples.lengths, examples.ragged)
    return examples


def _losses_alone(loss_fn: Callable[[Batch], Tensor], examples: Examples) -> Tensor:
    return torch.stack(
        [
            loss_fn(examples.take(torch.tensor([i]))).float().sum().cpu()
            for i in range(len(examples))
        ]
    )


def _check_equal(workload: Workload, losses: Tensor, alone: Tensor, where: str) -> None:
    error = float((losses - alone).abs().max() / (1 + alone.abs().max()))
    if not error <= _TOLERANCE[workload.compute.autocast]:
        raise PrivacyError(
            f"{_named(workload)}: the loss of a synthetic record {where} is not"
            f" its loss alone (relative error {error:.2g}); return the loss of each record, which"
            " depends on no other."
        )


def _is_equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point():
        return one.equal(other)
    return torch.allclose(
        one, other, rtol=_ENCODING_TOLERANCE, atol=_ENCODING_TOLERANCE, equal_nan=True
    )


__all__ = ["check_encoding", "check_losses"]
