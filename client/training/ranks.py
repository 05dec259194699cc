"""Adapters of mixed ranks: an institution of rank r trains the first r directions of each.

It computes with the whole adapter B A that it was sent, and changes the first r rows of A and
columns of B: what it sends is zero elsewhere, as HetLoRA pads it (Cho et al., "Heterogeneous LoRA
for Federated Fine-tuning of On-Device Foundation Models", EMNLP 2024, arXiv 2401.06432, section
3.2). HetLoRA also computes with the first r directions alone and pads the tensors, so that what few
institutions hold decays in every mean; here it stays. Where rounds start with B = 0, as FLoRA's do,
both are the same, and the padded adapters multiply out to the stack of those of rank r.

Under privacy gradients are clipped and noised as ever, and only then set to zero: post-processing.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from confide.client.training.trainer import Trainer
from confide.config.tunings.lora import LoraConfig
from confide.config.tunings.tuning import TuningConfig
from confide.protocol.tensors import Shapes, Tensors
from confide.strategies.algorithm import GradientFn, Step

_A, _B = ".lora_A.", ".lora_B."


def masks_of(tuning: TuningConfig, institution: str, shapes: Shapes) -> Tensors:
    """Return 1 where an institution trains and 0 elsewhere, for adapters of which it trains a part.

    Args:
        tuning: of the plan.
        institution: its name.
        shapes: of what is trained.
    """
    if not isinstance(tuning, LoraConfig) or tuning.rank_of(institution) >= tuning.rank:
        return {}
    rank, masks = tuning.rank_of(institution), dict[str, Tensor]()
    for name, shape in shapes.items():
        if _A in name or _B in name:
            masks[name] = torch.zeros(shape)
            masks[name][(slice(rank),) if _A in name else (slice(None), slice(rank))] = 1.0
    return masks


def holding(
    trainer: Trainer, masks: Mapping[str, Tensor], change_gradient: GradientFn | None
) -> GradientFn | None:
    """Return a gradient hook that leaves alone what an institution does not train."""
    if not masks:
        return change_gradient
    device = trainer.workload.compute.device
    placed = [masks[name].to(device) if name in masks else None for name in trainer.shapes]

    def change(step: Step) -> None:
        if change_gradient is not None:
            change_gradient(step)
        for param, mask in zip(step.params, placed, strict=True):
            if mask is not None and param.grad is not None:
                param.grad.mul_(mask)

    return change


def padded(update: Tensors, masks: Mapping[str, Tensor]) -> Tensors:
    """Return an update that is zero where the institution does not train, weight decay or not."""
    return {name: it * masks[name] if name in masks else it for name, it in update.items()}


__all__ = ["holding", "masks_of", "padded"]
