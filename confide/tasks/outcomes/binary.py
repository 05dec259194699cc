"""Outputs that each say whether something holds: their loss, whatever their number."""

import math

from torch import Tensor
from torch.nn import functional

from confide.tasks.outcomes.outcome import at_least_float32


def binary_losses(outputs: Tensor, truth: Tensor) -> Tensor:
    """Return sigmoid cross entropy, summed over k outputs and divided by sqrt(k), shape [b].

    A gradient in the outputs is (p - y) / sqrt(k), of norm at most 1 for any number of them.

    Args:
        outputs: logits, shape [b, k].
        truth: 0 or 1, shape [b, k].
    """
    exact = at_least_float32(outputs)
    losses = functional.binary_cross_entropy_with_logits(
        exact, truth.to(exact.dtype), reduction="none"
    )
    # Column by column: a sum along a row may be taken in another order beside other rows
    total = losses[:, 0]
    for column in range(1, losses.shape[1]):
        total = total + losses[:, column]
    return total / math.sqrt(losses.shape[1])


__all__ = ["binary_losses"]
