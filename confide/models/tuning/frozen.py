"""Frozen tensors that start at random: every side draws the same, from a seed in the plan.

What is trained travels, and so starts as the coordinator says; what is frozen never does. A plan's
seed decides it instead, on institutions, in worker processes and wherever the model is loaded
again. Numbers are uniform, of AES in counter mode and by sums and products alone, which every
processor rounds alike; each tensor has a stream of its own, so that the order does not matter.

A seed protects nothing and endangers nothing: a coordinator may choose any tensors of any model,
and the guarantee holds for all of them.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from confide.privacy.randomness import KeyedGenerator, derive_key


def draw_uniform(shape: torch.Size, *, bound: float, seed: int, name: str) -> Tensor:
    """Draw float32 numbers between -bound and bound.

    Args:
        shape: of the tensor.
        bound: largest size, > 0.
        seed: 0 to 2^63 - 1.
        name: of the tensor; each name has its own numbers.
    """
    key = derive_key(seed.to_bytes(8, "little"), "frozen", name)
    drawn = KeyedGenerator(key).uniform(math.prod(shape)).mul_(2).sub_(1).mul_(bound)
    return drawn.float().view(shape)


def freeze_at_random(parameters: Iterable[tuple[str, nn.Parameter]], *, seed: int) -> None:
    """Start matrices [p, d] as peft starts them, by the seed, and freeze them.

    Entries are uniform with variance 1 / (3 d) (He et al., ICCV 2015, with a = sqrt(5)).
    """
    for name, parameter in parameters:
        parameter.requires_grad_(False)
        bound = 1 / math.sqrt(parameter.shape[1])
        drawn = draw_uniform(parameter.shape, bound=bound, seed=seed, name=name)
        parameter.data.copy_(drawn)


__all__ = ["draw_uniform", "freeze_at_random"]
