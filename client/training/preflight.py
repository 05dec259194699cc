"""The preflight: clipped sums are compared with a loop over single records before the first step.

It finds what would void the guarantee unseen: a loss or a model that mixes the records of a batch,
layers that per-record gradients do not cover, a clipping that is forgotten or wrongly scaled. Its
records are synthetic, so it spends nothing. The reference shares no code with the clipping rule, or
a mistake in the rule would stand on both sides.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from confide.client.training.base_optimizer import make_optimizer
from confide.client.training.step import DpSgdStep, expect_hook_warning
from confide.config.client import OptimizerConfig
from confide.errors import ConfideError, PrivacyError
from confide.privacy.randomness import KeyedGenerator
from confide.tasks.task import Examples

if TYPE_CHECKING:
    from confide.client.training.dp_sgd import DpSgd

# Small: every record is clipped, so a clipping that is forgotten shows. Large: none is, so a wrong
# scale shows.
_NORMS = (1e-3, 1e6)
_TOLERANCE = {None: 1e-3, torch.bfloat16: 6e-2}


def preflight(dp_sgd: "DpSgd", synthetic: Examples, *, autocast: torch.dtype | None) -> None:
    """Check that clipped sums equal those of a loop over single records.

    They are compared for records as units and, where the engine allows it, for groups.

    Args:
        dp_sgd: the wrapped model; goes back to Opacus where book-keeping refuses a forward pass.
        synthetic: at least three invented records.
        autocast: dtype of the forward pass; None for float32.

    Raises:
        PrivacyError: if they differ, with the relative error, or cannot be computed.
    """
    try:
        with off_zero(dp_sgd.params), expect_hook_warning():
            dp_sgd.settle_engine(synthetic)
            single = _gradients_by_loop(dp_sgd, synthetic)
            errors = [_relative_error(dp_sgd, synthetic, single, norm) for norm in _NORMS]
            if not dp_sgd.book_keeping:  # it clips record by record
                # One of two records: a sum instead of a mean would show.
                groups = [torch.tensor([0, 1]), *torch.arange(2, len(synthetic)).split(1)]
                means = torch.stack([single[group].mean(dim=0) for group in groups])
                errors += [
                    _relative_error(dp_sgd, synthetic, means, norm, groups) for norm in _NORMS
                ]
    except ConfideError:
        raise
    except Exception as error:  # a family's layers may fail in any way under Opacus's hooks
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise PrivacyError(
            f"Preflight: per-record gradients of this model cannot be computed: {reason}. Train"
            " less of it (tuning=lora or tuning=head), or choose another backbone."
        ) from error
    finally:
        dp_sgd.forget()
    # Written so that NaN fails: max() may pass over it.
    if not all(error <= _TOLERANCE[autocast] for error in errors):
        raise PrivacyError(
            f"Preflight: clipped gradient sums of {len(synthetic)} synthetic records differ from a"
            f" loop over single records (relative error {max(errors):.2g}); this model mixes the"
            " records of a batch, or has layers that per-record gradients do not cover."
        )


@contextlib.contextmanager
def off_zero(params: Sequence[Tensor]) -> Iterator[None]:
    """Move tensors a little for the moment: a head that starts at zero would pass any check."""
    kept = [p.detach().clone() for p in params]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in params:
            p.add_(0.02 * torch.randn(p.shape, generator=generator).to(p.device))
    try:
        yield
    finally:
        with torch.no_grad():
            for p, value in zip(params, kept, strict=True):
                p.copy_(value)


def _relative_error(
    dp_sgd: "DpSgd",
    examples: Examples,
    gradients: Tensor,
    norm: float,
    groups: Sequence[Tensor] | None = None,
) -> float:
    """Take one step without noise, on every unit, and compare its sum with a plain one.

    Args:
        dp_sgd: the engine that is checked.
        examples: records.
        gradients: the reference's gradient of each unit, shape [b, d], on the CPU.
        norm: C.
        groups: records of each unit; None for records as units.
    """
    sgd = make_optimizer(OptimizerConfig(learning_rate=1.0), dp_sgd.params)
    step = DpSgdStep(
        clipping_norm=norm, noise_multiplier=0.0, sampling_rate=1.0, expected_batch_size=1.0
    )
    optimizer = dp_sgd.optimizer(sgd, step, KeyedGenerator(bytes(32)))
    if groups is None:
        dp_sgd.private_gradient(optimizer, examples, torch.arange(len(examples)))
    else:
        dp_sgd.private_group_gradient(optimizer, examples, groups)
    found = torch.cat([p.grad.flatten() for p in dp_sgd.params if p.grad is not None]).cpu()
    # Not `ClippingRule`, on purpose: the reference has to find its mistakes.
    factors = (norm / gradients.norm(dim=1).clamp_min(1e-12)).clamp_max(1.0)
    expected = (gradients * factors[:, None]).sum(dim=0)
    return float((found - expected).norm() / expected.norm().clamp_min(1e-12))


def _gradients_by_loop(dp_sgd: "DpSgd", examples: Examples) -> Tensor:
    """Return each record's gradient, alone in its batch and without Opacus, shape [b, d]."""
    rows = []
    with dp_sgd.plain() as loss_fn:
        for index in range(len(examples)):
            loss = loss_fn(examples.take(torch.tensor([index]))).sum()
            found = torch.autograd.grad(loss, dp_sgd.params, allow_unused=True)
            parts = [
                torch.zeros_like(p) if g is None else g
                for p, g in zip(dp_sgd.params, found, strict=True)
            ]
            rows.append(torch.cat([part.flatten() for part in parts]).cpu())
    return torch.stack(rows)


__all__ = ["off_zero", "preflight"]
