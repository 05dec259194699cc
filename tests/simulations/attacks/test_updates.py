"""Hostile updates against numbers worked out by hand and their papers' laws."""

import pytest
import torch
from torch import Tensor

from confide.simulations.attacks.updates import (
    Known,
    a_little_is_enough,
    gaussian,
    inner_product,
    min_max,
    scaled,
    sign_flip,
)


def known(honest: Tensor, own: Tensor, scale: float | None = None) -> Known:
    generator = torch.Generator().manual_seed(0)
    return Known(honest=honest, own=own, scale=scale, generator=generator)


HONEST = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 3.0], [2.0, -3.0]])
OWN = torch.tensor([[2.0, 1.0]])


def test_updates_are_turned_and_scaled() -> None:
    assert sign_flip(known(HONEST, OWN)).tolist() == [[-8.0, -4.0]]
    assert sign_flip(known(HONEST, OWN, 1.0)).tolist() == [[-2.0, -1.0]]
    assert inner_product(known(HONEST, OWN, 2.0)).tolist() == [[-4.0, 0.0]]
    # Five institutions, one hostile: a mean of the five is the hostile model
    assert scaled(known(HONEST, OWN)).tolist() == [[10.0, 5.0]]


def test_a_little_is_enough_stays_within_deviations() -> None:
    # n = 50, m = 24: s = floor(26) - 24 = 2, z = ppf((26 - 2) / 26), as in the paper
    honest = torch.randn(26, 3, generator=torch.Generator().manual_seed(1))
    sent = a_little_is_enough(known(honest, torch.zeros(24, 3)))
    z = (honest.mean(dim=0) - sent[0]) / honest.std(dim=0, correction=0)
    assert z.tolist() == pytest.approx([1.426] * 3, abs=1e-3)
    assert torch.equal(sent, sent[0].expand(24, 3))
    moved = a_little_is_enough(known(HONEST, OWN, 1.0))
    assert moved[0].tolist() == pytest.approx([2 - 0.5**0.5, -(4.5**0.5)])


def test_min_max_goes_as_far_as_honest_updates_are_apart() -> None:
    honest = torch.randn(8, 20, generator=torch.Generator().manual_seed(2))
    sent = min_max(known(honest, torch.zeros(2, 20)))[0]
    largest = torch.cdist(honest, honest).max().item()
    assert (honest - sent).norm(dim=1).max().item() == pytest.approx(largest, rel=1e-4)


def test_min_max_of_equal_updates_is_their_mean() -> None:
    sent = min_max(known(torch.ones(4, 3), torch.zeros(2, 3)))
    assert sent.tolist() == [[1.0] * 3] * 2


def test_noise_is_as_large_as_it_says_and_repeats() -> None:
    own = torch.zeros(2, 50_000)
    sent = gaussian(known(HONEST.repeat(1, 25_000), own))
    size = HONEST.square().mean().sqrt().item()
    assert sent.std().item() == pytest.approx(10 * size, rel=0.01)
    assert torch.equal(sent, gaussian(known(HONEST.repeat(1, 25_000), own)))


@pytest.mark.parametrize("forge", [sign_flip, gaussian, a_little_is_enough, inner_product, min_max])
def test_one_honest_institution_is_enough(forge: object) -> None:
    sent = forge(known(HONEST[:1], OWN))  # type: ignore[operator]
    assert sent.shape == OWN.shape
    assert bool(sent.isfinite().all())
