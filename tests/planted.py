"""Bugs of private training that tests plant, where institutions train alone and in company."""

from dataclasses import replace

import pytest

from confide.client.batched import gradients
from confide.privacy.randomness import KeyedGenerator, KeyedGenerators


def scale_noise(patch: pytest.MonkeyPatch, factor: float) -> None:
    """Draw noise of so many times the standard deviation that was asked for."""
    add, normals = KeyedGenerator.add_normal, KeyedGenerators.normals
    patch.setattr(
        KeyedGenerator,
        "add_normal",
        lambda self, targets, *, std: add(self, targets, std=factor * std),
    )
    patch.setattr(
        KeyedGenerators,
        "normals",
        lambda self, *given, std: normals(self, *given, std=factor * std),
    )


def scale_rate(patch: pytest.MonkeyPatch, factor: float) -> None:
    """Sample at so many times the rate that was asked for, at 1 at most."""
    sample, samples = KeyedGenerator.poisson_sample, gradients.samples
    patch.setattr(
        KeyedGenerator,
        "poisson_sample",
        lambda self, count, rate: sample(self, count, min(1.0, factor * rate)),
    )
    patch.setattr(
        gradients,
        "samples",
        lambda schedules, *given, rows: samples(
            [replace(it, sampling_rate=min(1.0, factor * it.sampling_rate)) for it in schedules],
            *given,
            rows=rows,
        ),
    )
