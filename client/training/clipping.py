"""The clipping rule: what one unit adds to a sum has an L2 norm of at most C.

Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv 1607.00133, algorithm 1.
Both engines call it: Opacus's per-record gradients (`confide.client.training.dp_sgd`) with whole
gradients, book-keeping (`confide.client.training.book_keeping`) with norms alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from confide.tasks.task import Batch

LossFn = Callable[[nn.Module, Batch], Tensor]
"""(model, batch) -> loss of each record, shape [b]."""

# Relative margin below C: a factor rounded to float32 and the product with it err by 2^-24 each.
_SLACK = 1e-6
# Elements of a gradient whose float64 copy is held at once.
_NORM_BLOCK = 2**22


@dataclass(frozen=True)
class ClippingRule:
    """Scales each unit's gradient g by min(1, C (1 - 1e-6) / |g|), one that is not finite by 0.

    Guarantee: a scaled gradient has a norm of at most C, float32 rounding included, wherever C is
    at least 2^-110 and |g| at most 2^125 C. What a unit adds depends on its own gradient alone, so
    that the sum over units has the sensitivity below.

    ===============================  =============================================================
    gradient g of a unit             what it adds
    ===============================  =============================================================
    norm 0                           0; nothing is divided by 0
    subnormal elements               as any other: norms are float64, where no square underflows
    |g| up to C (1 - 1e-6)           g, bit for bit
    an element infinite or NaN       0 everywhere: 0 * inf would be NaN, which no noise hides
    squares overflow float32         as any other: norms are float64
    bf16, fp16                       what its float32 copy adds, which is exact
    |g| above 2^125 C                a factor below float32's normal range rounds by up to 2^-150,
                                     so that the norm may exceed C by 2^-150 |g|
    C below 2^-110                   elements round by up to 2^-150 each: so does the bound
    C / |g| overflows                g
    ===============================  =============================================================

    Attributes:
        clipping_norm: C > 0.
    """

    clipping_norm: float

    def sensitivity(self) -> float:
        """Bound how far the sum of scaled gradients moves, in L2, if one unit is zeroed out.

        Its term becomes 0 and no other changes: C, not 2 C as where a unit is replaced.
        """
        return self.clipping_norm

    def factors(self, norms: Tensor) -> Tensor:
        """Return what each gradient is multiplied by.

        Args:
            norms: L2 norms, or upper bounds of them; float64, shape [b].

        Returns:
            float32 in [0, 1], shape [b]. Where it is 0 for a norm that is not finite, the caller
            also has to leave the gradient out (:func:`zero_unless`).
        """
        # A norm of 0 would divide by 0; 1e-300 lies below every norm that float32 elements have.
        factors = self.clipping_norm * (1 - _SLACK) / norms.clamp_min(1e-300)
        factors = factors.clamp_max(1.0)
        return torch.where(norms.isfinite(), factors, 0.0).float()

    def clipped_sums(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Add up the scaled gradients of b >= 0 units.

        Args:
            gradients: one tensor a parameter, shape [b, ...], float32.

        Returns:
            One tensor a parameter, shape [...], float32.
        """
        norms = gradient_norms(gradients)
        factors = self.factors(norms)
        finite = norms.isfinite()
        # Copying every gradient costs as much as the sum itself, and is hardly ever needed.
        if not bool(finite.all()):
            gradients = [zero_unless(finite, gradient) for gradient in gradients]
        return [torch.einsum("i,i...->...", factors, gradient) for gradient in gradients]


def gradient_norms(gradients: Sequence[Tensor]) -> Tensor:
    """Return the L2 norm of each unit's gradient over all parameters.

    Args:
        gradients: one tensor a parameter, shape [b, ...], float32.

    Returns:
        float64, shape [b]; not finite where any element is not.
    """
    first = gradients[0]
    squared = torch.zeros(len(first), dtype=torch.float64, device=first.device)
    for gradient in gradients:
        rows = max(1, _NORM_BLOCK // max(1, gradient[:1].numel()))
        for start in range(0, len(gradient), rows):
            part = gradient[start : start + rows].flatten(1)
            norms = torch.linalg.vector_norm(part, dim=1, dtype=torch.float64)
            squared[start : start + rows] += norms.square()
    return squared.sqrt()


def zero_unless(kept: Tensor, values: Tensor) -> Tensor:
    """Return ``values``, shape [b, ...], with zeros in the rows that are not ``kept``, bool [b]."""
    return torch.where(kept.view(-1, *[1] * (values.dim() - 1)), values, 0.0)


__all__ = ["ClippingRule", "LossFn", "gradient_norms", "zero_unless"]
