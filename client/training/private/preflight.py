"""The preflight: clipped sums are compared with a loop over single records before the first step.

It finds what would void the guarantee unseen: a loss or a model that mixes the records of a batch,
layers that per-record gradients do not cover, a clipping that is forgotten or wrongly scaled. Its
records are synthetic, so it spends nothing. The reference shares no code with the clipping rule, or
a mistake in the rule would stand on both sides.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from confide.client.training.base_optimizer import make_optimizer
from confide.client.training.private.clipping import LossFn
from confide.client.training.private.step import DpSgdStep, expect_hook_warning
from confide.config.client import OptimizerConfig
from confide.errors import ConfideError, PrivacyError
from confide.models.coverage import refuse_unseen
from confide.privacy.randomness import KeyedGenerator
from confide.tasks.task import Examples

if TYPE_CHECKING:
    from confide.client.training.private.dp_sgd import DpSgd

# Small: every record is clipped, so a clipping that is forgotten shows. Large: none is, so a wrong
# scale shows.
_NORMS = (1e-3, 1e6)
_TOLERANCE = {None: 1e-3, torch.bfloat16: 6e-2}


def preflight(
    dp_sgd: "DpSgd",
    synthetic: Examples,
    *,
    autocast: torch.dtype | None,
    exact_loss_fn: LossFn | None = None,
) -> None:
    """Check that clipped sums equal those of a loop over single records.

    They are compared for records as units and, where the engine allows it, for groups. In half
    precision rounding hides a mistake of a few hundredths, so that float32 is compared as well.

    Args:
        dp_sgd: the wrapped model; goes back to Opacus where book-keeping refuses a forward pass.
        synthetic: at least three invented records.
        autocast: dtype of the forward pass; None for float32.
        exact_loss_fn: loss of each record in float32; None: that of ``dp_sgd``.

    Raises:
        PrivacyError: if they differ, with the relative error, or cannot be computed; if a layer is
            known not to be covered, with its name.
    """
    try:
        with off_zero(dp_sgd.params), expect_hook_warning():
            with dp_sgd.losing(exact_loss_fn):
                _refuse_unseen(dp_sgd, synthetic)
            dp_sgd.settle_engine(synthetic)
            with dp_sgd.losing(exact_loss_fn):
                _compare(dp_sgd, synthetic, _TOLERANCE[None])
            if autocast is not None:
                _compare(dp_sgd, synthetic, _TOLERANCE[autocast])
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


def _refuse_unseen(dp_sgd: "DpSgd", synthetic: Examples) -> None:
    everything = synthetic.take(torch.arange(len(synthetic)))
    with dp_sgd.plain() as loss_fn:
        refuse_unseen(dp_sgd.model, lambda: loss_fn(everything), dp_sgd.params)


def _compare(dp_sgd: "DpSgd", synthetic: Examples, tolerance: float) -> None:
    """Raise PrivacyError unless clipped sums of records, and of groups, are within a tolerance."""
    single = _gradients_by_loop(dp_sgd, synthetic)
    found = [_difference(dp_sgd, synthetic, single, norm) for norm in _NORMS]
    if dp_sgd.places or not dp_sgd.book_keeping:
        # Two or three records of one: a sum instead of a mean would show, and so would a place
        # that is empty.
        most = 2 if not dp_sgd.places else min(3, max(dp_sgd.places))
        groups = [torch.arange(most), *torch.arange(most, len(synthetic)).split(1)]
        means = torch.stack([single[group].mean(dim=0) for group in groups])
        found += [_difference(dp_sgd, synthetic, means, norm, groups) for norm in _NORMS]
    error = max(found, key=lambda one: math.inf if math.isnan(one[0]) else one[0])
    # Written so that NaN fails.
    if not error[0] <= tolerance:
        raise PrivacyError(
            f"Preflight: clipped gradient sums of {len(synthetic)} synthetic records differ from a"
            f" loop over single records (relative error {error[0]:.2g}, most of it in {error[1]});"
            " this model mixes the records of a batch, or has layers that per-record gradients do"
            " not cover."
        )


@contextlib.contextmanager
def off_zero(params: Sequence[Tensor], *, size: float = 0.02) -> Iterator[None]:
    """Move tensors a little for the moment: a head that starts at zero would pass any check.

    Args:
        params: tensors.
        size: standard deviation of what is added.
    """
    kept = [p.detach().clone() for p in params]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in params:
            p.add_(size * torch.randn(p.shape, generator=generator).to(p.device))
    try:
        yield
    finally:
        with torch.no_grad():
            for p, value in zip(params, kept, strict=True):
                p.copy_(value)


def _difference(
    dp_sgd: "DpSgd",
    examples: Examples,
    gradients: Tensor,
    norm: float,
    groups: Sequence[Tensor] | None = None,
) -> tuple[float, str]:
    """Take one step without noise, on every unit, and compare its sum with a plain one.

    Args:
        dp_sgd: the engine that is checked.
        examples: records.
        gradients: the reference's gradient of each unit, shape [b, d], on the CPU.
        norm: C.
        groups: records of each unit; None for records as units.

    Returns:
        The relative error, and the name of the parameter that differs most.
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
    parts = (found - expected).split([p.numel() for p in dp_sgd.params])
    worst = max(zip(parts, dp_sgd.names, strict=True), key=lambda one: float(one[0].norm()))[1]
    return float((found - expected).norm() / expected.norm().clamp_min(1e-12)), worst


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
