"""How much memory a pass takes, known before it does.

A plan chooses how long texts and how large pictures are, and many models take any. A network of the
plan's own making says what its layers hand on of a record; of a pretrained one all that operations
give is counted, attention weights among it, whichever family it is.
"""

import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from confide.errors import ModelError
from confide.models.compute import Compute
from confide.tasks.task import Batch, padded_length

MOST_OF_PRETRAINED = 2**31
"""Numbers of one record in a pretrained model, that are not all held at once."""
_MOST_OF_RECORD = 2**28
_MOST_IN_PASS = 2**30
"""Numbers that layers hand on in one pass: 4 GiB of float32, kept for the gradients."""
_MOST_IN_FROZEN_PASS = 2**33
"""The same where no gradient needs them, so that a layer's are forgotten by the next."""
_TRIED = (64, 128, 192)
"""Numbers of tokens; those of longer texts follow, as a square at most."""


def refuse_large(numbers: int, *, fix: str, most: int = _MOST_OF_RECORD) -> None:
    """Refuse records of which one alone would take gibibytes.

    Args:
        numbers: that layers hand on of one record.
        fix: the end of the sentence that says what to do.
        most: of these.

    Raises:
        ModelError: if they are more.
    """
    if numbers > most:
        raise ModelError(
            f"The layers would hand on {numbers:,} numbers of one record, expected at most"
            f" {most:,}; {fix}."
        )


def within_memory(compute: Compute, numbers: int) -> Compute:
    """Let no pass hold more than memory does, whatever sizes a plan asks for.

    Args:
        compute: how many records a pass may have otherwise.
        numbers: that layers hand on of one record.
    """
    rows = max(1, _MOST_IN_PASS // max(1, numbers))
    return replace(compute, physical_batch_size=min(compute.physical_batch_size, rows))


def in_parts(encode_fn: Callable[[Batch], Tensor], batch: Batch, numbers: int) -> Tensor:
    """Pass over records without gradients, as many at once as memory holds.

    Args:
        encode_fn: columns of records -> a tensor with a row for each.
        batch: columns of records.
        numbers: that layers hand on of one record.
    """
    rows = max(1, _MOST_IN_FROZEN_PASS // max(1, numbers))
    parts = zip(*(column.split(rows) for column in batch.values()), strict=True)
    return torch.cat([encode_fn(dict(zip(batch, part, strict=True))) for part in parts])


class _Counter(TorchDispatchMode):
    """Counts numbers of results, views of others and what is written in place aside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers: int = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        results = made if isinstance(made, tuple | list) else (made,)
        for result, told in zip(results, func._schema.returns, strict=False):
            if isinstance(result, Tensor) and told.alias_info is None:
                self.numbers += result.numel() if result.is_floating_point() else 0
        return made


def _counted(forward_fn: Callable[[], object]) -> int:
    counter = _Counter()
    with torch.no_grad(), counter:
        forward_fn()
    return counter.numbers


def numbers_of_text(forward_fn: Callable[[int], object], longest: int) -> int:
    """Return how many numbers the operations of a pass over one text give.

    Args:
        forward_fn: passes over a text of so many tokens.
        longest: tokens of the text that is asked about; it is passed over only if it is short.
    """
    width = padded_length(longest)
    if width <= _TRIED[-1]:
        return _counted(lambda: forward_fn(width))
    step = _TRIED[0]
    one, two, three = (_counted(lambda tokens=tokens: forward_fn(tokens)) for tokens in _TRIED)  # type: ignore[misc]
    # Through the three: once for each pair of tokens, once for each token, and once
    pairs = max(0, three - 2 * two + one) / (2 * step**2)
    each = (two - one) / step - 3 * step * pairs
    found = pairs * width**2 + each * width + one - each * step - pairs * step**2
    # Attention in windows gives as much for few tokens as for a window of them
    return max(round(found), three * width // _TRIED[-1])


def numbers_of_record(model: nn.Module, forward_fn: Callable[[Any], object]) -> int:
    """Return how many numbers the operations of a pass give, without its memory.

    Args:
        model: on the CPU; as it was afterwards.
        forward_fn: passes one record through a model that is like it; raises whatever it raises.
    """
    # A copy: some models keep what they once made, such as positions
    twin = copy.deepcopy(model)
    with contextlib.suppress(Exception), FakeTensorMode(allow_non_fake_inputs=True):
        return _counted(lambda: forward_fn(twin))
    # Code that asks for values, which are not there
    return _counted(lambda: forward_fn(model))


__all__ = [
    "MOST_OF_PRETRAINED",
    "in_parts",
    "numbers_of_record",
    "numbers_of_text",
    "refuse_large",
    "within_memory",
]
