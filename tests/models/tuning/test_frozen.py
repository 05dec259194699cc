"""Frozen tensors that start at random: the same bits wherever they are drawn."""

import math

import pytest
import torch
from torch import nn

from confide.models.tuning.frozen import draw_uniform, freeze_at_random

SHAPE = torch.Size([4, 50])
PINNED = [0.9698473215103149, 0.24041739106178284, -0.046343088150024414]


def test_numbers_are_those_of_every_machine_and_release() -> None:
    """Written down once: another number is another model for whoever loads one."""
    drawn = draw_uniform(torch.Size([3]), bound=1.0, seed=7, name="a")
    assert drawn.dtype == torch.float32
    assert drawn.tolist() == PINNED


def test_streams_differ_by_seed_and_name() -> None:
    draws = [
        draw_uniform(SHAPE, bound=1.0, seed=seed, name=name)
        for seed, name in ((0, "a"), (1, "a"), (2**63 - 1, "a"), (0, "b"))
    ]
    assert len({draw.sum().item() for draw in draws}) == len(draws)


def test_entries_have_the_variance_that_peft_starts_with() -> None:
    parameter = nn.Parameter(torch.zeros(400, 50))
    freeze_at_random([("a", parameter)], seed=1)
    assert not parameter.requires_grad
    assert parameter.abs().max() <= 1 / math.sqrt(50)
    assert parameter.var().item() == pytest.approx(1 / (3 * 50), rel=0.03)
    assert parameter.mean().abs() < 0.003
