"""The optimizer of private steps: Opacus's bookkeeping with our clipping rule and our noise.

A step's clipped sums stay float64 until noise was added to them.
"""

import math

import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor

from confide.client.training.private.clipping import MARGIN, ClippingRule
from confide.client.training.private.step import DpSgdStep
from confide.errors import PrivacyError
from confide.privacy.randomness import KeyedGenerator


class KeyedDPOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus ships no types
    """Opacus's optimizer, with our clipping rule and noise from a cryptographic generator.

    Args:
        optimizer: takes the steps.
        step: what every step has in common.
        noise: of this round alone.
        margin: of the clipping rule.

    Attributes:
        shared: what every step has in common.
        is_record: which rows of ``param.grad_sample`` count, bool; None for all.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        step: DpSgdStep,
        noise: KeyedGenerator,
        *,
        margin: float = MARGIN,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=step.noise_multiplier,
            max_grad_norm=step.clipping_norm,
            expected_batch_size=step.expected_batch_size,
            loss_reduction="mean",
        )
        self._noise = noise
        self._margin = margin
        self.shared = step
        self.is_record: Tensor | None = None

    @property
    def clipping(self) -> ClippingRule:
        """The rule that gradients are clipped by."""
        units = self.shared.expected_batch_size / self.shared.sampling_rate
        # Fewer would only make sums finer, and a test may claim fewer than it adds up.
        most = max(ClippingRule.units, math.ceil(units))
        return ClippingRule(self.max_grad_norm, margin=self._margin, units=most)

    def clip_and_accumulate(self) -> None:
        """Add the clipped sum of a batch's gradients to ``param.summed_grad``.

        Raises:
            PrivacyError: if these gradients were added before.
        """
        if any(getattr(p.grad_sample, "_processed", False) for p in self.params):
            raise PrivacyError(
                "Per-record gradients were about to be used twice; zero_grad() is missing between"
                " two steps."
            )
        samples = self.grad_samples
        # Book-keeping leaves none, and added up itself; nor does an empty sample.
        if not len(samples[0]):
            for p in self.params:
                if p.summed_grad is None:
                    p.summed_grad = torch.zeros_like(p, dtype=torch.float64)
                p.grad_sample._processed = True
            return
        sums = self.clipping.clipped_sums(samples, self.is_record)
        for p, clipped in zip(self.params, sums, strict=True):
            p.summed_grad = clipped if p.summed_grad is None else p.summed_grad + clipped
            p.grad_sample._processed = True

    def add_noise(self) -> None:
        """Add noise to the clipped sums, and round them to ``param.grad``."""
        params = self.params
        for p in params:
            if getattr(p.summed_grad, "_processed", False):
                raise PrivacyError(
                    "A clipped sum was about to be used twice; zero_grad() is missing between two"
                    " steps."
                )
            p.summed_grad._processed = True
        std = self.noise_multiplier * self.clipping.sensitivity()
        # Drawn for all parameters at once: the generator costs by the call.
        if std:
            self._noise.add_normal([p.summed_grad.view(-1) for p in params], std=std)
        for p in params:
            p.grad = p.summed_grad.view_as(p).to(p)


__all__ = ["KeyedDPOptimizer"]
