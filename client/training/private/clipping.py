"""The clipping rule: what one unit adds to a sum has an L2 norm of at most C.

Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv 1607.00133, algorithm 1.
Both engines call it: Opacus's per-record gradients (`dp_sgd`) with whole
gradients, book-keeping (`confide.client.training.private.book_keeping`) with norms alone.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from confide.errors import PrivacyError
from confide.moved import known_all
from confide.tasks.task import Batch

LossFn = Callable[[nn.Module, Batch], Tensor]
"""(model, batch) -> loss of each record, shape [b]."""

MARGIN = 2.0**-20
"""Relative distance below C: float64 rounding of a norm of up to 2^32 elements, of a factor and of
the product with it stays below."""
LARGEST_NORM = 1e30
"""A longer gradient counts as one that is not finite."""
# Elements whose float64 copy is held at once: they stay in a processor's cache.
_BLOCK = 2**17
# Bits of a float64's integers that sums may fill.
_INTEGER_BITS = 52


@dataclass(frozen=True)
class ClippingRule:
    """Scales each unit's gradient g by min(1, C (1 - margin) / |g|), in float64.

    Guarantee: what a unit adds depends on its own gradient alone and has a norm of at most C. Sums
    are exact: each scaled gradient is rounded to multiples of a power of two that depends on C and
    ``units`` alone, and so many of these add up in float64 without rounding, in any order. The sum
    over units therefore has the sensitivity below, with nothing beside it.

    ===============================  =============================================================
    gradient g of a unit             what it adds
    ===============================  =============================================================
    norm 0                           0; nothing is divided by 0
    |g| up to C (1 - margin)         g, each element rounded to a multiple of at most 2^-50 units C
    |g| above that                   g scaled to a norm just below C, rounded likewise
    an element infinite or NaN       0 everywhere: 0 * inf would be NaN, which no noise hides
    |g| above 1e30                   0 everywhere, as if it were infinite
    squares overflow float32         as any other: norms are float64
    subnormal elements               0, as all that is far smaller than the multiples
    bf16, fp16                       what its float32 copy adds, which is exact
    ===============================  =============================================================

    Attributes:
        clipping_norm: C, from 1e-3 to 1e6 in a plan.
        margin: relative distance below C, which covers rounding.
        units: largest number of units that are added up.
    """

    clipping_norm: float
    margin: float = MARGIN
    units: int = 2**10

    def sensitivity(self) -> float:
        """Bound how far the sum of scaled gradients moves, in L2, if one unit is zeroed out.

        Its term becomes 0 and no other changes: C, not 2 C as where a unit is replaced.
        """
        return self.clipping_norm

    @property
    def grid(self) -> float:
        """The power of two that scaled gradients are rounded to multiples of."""
        return 2.0 ** (
            math.frexp(self.clipping_norm)[1] + math.ceil(math.log2(self.units)) - _INTEGER_BITS
        )

    def factors(self, norms: Tensor, *, rounded: int = 0) -> Tensor:
        """Return what each gradient is multiplied by.

        Args:
            norms: L2 norms, or upper bounds of them; float64, shape [b].
            rounded: number of elements that are rounded to multiples afterwards, by at most half of
                one each; the norm stays so far below C.

        Returns:
            float64 in [0, 1], shape [b]. Where it is 0 the caller also has to leave the gradient
            out (:func:`zero_unless`).

        Raises:
            PrivacyError: if rounding leaves no norm below C.
        """
        longest = self.clipping_norm * (1 - self.margin) - math.sqrt(rounded) * self.grid / 2
        if not longest > 0:  # the sum would turn round, unbounded
            raise PrivacyError(
                f"privacy.clipping_norm={self.clipping_norm:g} leaves no room for the rounding of"
                f" {rounded} elements over {self.units} units; train on fewer units a step."
            )
        # A norm of 0 would divide by 0; 1e-300 lies below every norm that float32 elements have.
        factors = longest / norms.clamp_min(1e-300)
        return torch.where(counts(norms), factors.clamp_max(1.0), 0.0)

    def clipped_sums(
        self, gradients: Sequence[Tensor], is_unit: Tensor | None = None
    ) -> list[Tensor]:
        """Add up the scaled gradients of b >= 0 units.

        Args:
            gradients: one tensor a parameter, shape [b, ...], float32 or float64.
            is_unit: which rows count, bool, shape [b]; None for all.

        Returns:
            One tensor a parameter, shape [...], float64.
        """
        shapes = [gradient.shape[1:] for gradient in gradients]
        if sum(gradient.numel() for gradient in gradients) <= _BLOCK:
            # One piece: small operations cost by the call.
            gradients = [torch.cat([_as_rows(gradient) for gradient in gradients], dim=1).double()]
        norms = gradient_norms(gradients)
        kept = counts(norms)
        # Copying every gradient costs as much as the sum itself, and is hardly ever needed.
        if not known_all(kept):
            gradients = [zero_unless(kept, gradient) for gradient in gradients]
        rounded = sum(math.prod(shape) for shape in shapes)
        scaled = self.factors(norms, rounded=rounded) / self.grid
        if is_unit is not None:
            scaled = scaled * is_unit
        sums = [_sum_of_integers(gradient, scaled).mul_(self.grid) for gradient in gradients]
        if len(sums) == 1:
            sums = list(sums[0].split([math.prod(shape) for shape in shapes]))
        return [total.view(shape) for total, shape in zip(sums, shapes, strict=True)]


def counts(norms: Tensor) -> Tensor:
    """Return whose gradients count, bool [b]: those of norms that are finite and at most 1e30."""
    # NaN is not at most anything.
    return norms <= LARGEST_NORM


def _sum_of_integers(gradient: Tensor, scaled: Tensor) -> Tensor:
    """Multiply rows [b, ...] by ``scaled`` [b], round to integers, add up: float64, [d]."""
    rows = _as_rows(gradient)
    step = max(1, _BLOCK // max(1, rows.shape[1]))
    # Rounding towards zero would need no room below C, and takes ten times as long.
    sums = [
        (part.double() * factors[:, None]).round_().sum(dim=0)
        for part, factors in zip(rows.split(step), scaled.split(step), strict=True)
    ]
    total: Tensor = functools.reduce(torch.add, sums)
    return total


def _as_rows(gradient: Tensor) -> Tensor:
    return gradient.flatten(1) if gradient.dim() > 1 else gradient[:, None]


def gradient_norms(gradients: Sequence[Tensor]) -> Tensor:
    """Return the L2 norm of each unit's gradient over all parameters.

    A unit's norm does not depend on its place among others of the same number.

    Args:
        gradients: one tensor a parameter, shape [b, ...], float32 or float64.

    Returns:
        float64, shape [b]; not finite where any element is not.
    """
    first = gradients[0]
    squared = torch.zeros(len(first), dtype=torch.float64, device=first.device)
    for gradient in gradients:
        rows = _as_rows(gradient)
        step = largest_divisor(len(rows), _BLOCK // max(1, rows.shape[1]))
        norms = [torch.linalg.vector_norm(p, dim=1, dtype=torch.float64) for p in rows.split(step)]
        squared += torch.cat(norms).square()
    return squared.sqrt()


def largest_divisor(count: int, most: int) -> int:
    """Return the largest divisor of a number of rows that is at most ``most``, at least 1.

    Blocks of one size: a row of a shorter last block could be computed in another way.
    """
    return next((d for d in range(min(count, max(1, most)), 0, -1) if count % d == 0), 1)


def zero_unless(kept: Tensor, values: Tensor) -> Tensor:
    """Return ``values``, shape [b, ...], with zeros in the rows that are not ``kept``, bool [b]."""
    return torch.where(kept.view(-1, *[1] * (values.dim() - 1)), values, 0.0)


__all__ = [
    "LARGEST_NORM",
    "MARGIN",
    "ClippingRule",
    "LossFn",
    "counts",
    "gradient_norms",
    "largest_divisor",
    "zero_unless",
]
