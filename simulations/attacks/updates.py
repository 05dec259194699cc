"""Hostile updates, made by somebody who knows every honest one of the round.

All hostile institutions work together. ``honest`` is float32 of shape [h, d], ``own``, what they
would have sent, of shape [m, d]; each function returns what they send, shape [m, d].
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

_FLIPPED, _NOISE, _TURNED = 4.0, 10.0, 0.5
_TINY = 1e-12


class Known(NamedTuple):
    """What hostile institutions know in a round.

    Attributes:
        honest: shape [h, d], h >= 1.
        own: shape [m, d].
        scale: setting; None for the attack's own.
        generator: for random draws.
    """

    honest: Tensor
    own: Tensor
    scale: float | None
    generator: torch.Generator


def sign_flip(known: Known) -> Tensor:
    """Send the opposite of one's own update, ``scale`` times."""
    return -(known.scale or _FLIPPED) * known.own


def gaussian(known: Known) -> Tensor:
    """Send noise (Blanchard et al. 2017, arXiv 1703.02757, section 6)."""
    size = float(known.honest.double().square().mean().sqrt())
    deviation = (known.scale or _NOISE) * size
    return deviation * torch.randn(known.own.shape, generator=known.generator)


def a_little_is_enough(known: Known) -> Tensor:
    """Send the honest mean minus z standard deviations (Baruch et al. 2019, arXiv 1902.06156).

    Algorithm 3: z is the largest for which enough honest updates lie farther out to outvote the
    rest.
    """
    m = len(known.own)
    n = len(known.honest) + m
    z = known.scale
    if z is None:
        needed = math.floor(n / 2 + 1) - m
        # Of few institutions none is needed, and then a deviation is as far as it says
        share = (n - m - needed) / (n - m)
        z = NormalDist().inv_cdf(min(max(share, 0.5), 0.9999))
    sent = known.honest.mean(dim=0) - z * _deviation(known.honest)
    return sent.expand_as(known.own)


def inner_product(known: Known) -> Tensor:
    """Send the opposite of the honest mean, ``scale`` times (Xie et al. 2020, arXiv 1903.03936).

    Section 4: small enough to pass for an honest update, it turns the rule's inner product with the
    honest mean.
    """
    sent = -(known.scale or _TURNED) * known.honest.mean(dim=0)
    return sent.expand_as(known.own)


def min_max(known: Known) -> Tensor:
    """Go as far from the honest mean as no farther from any honest update than two of them are.

    Shejwalkar and Houmansadr, NDSS 2021, section IV-C, along the inverse of the standard deviation.
    The paper searches; here the farthest point follows from a quadratic for each honest update.
    """
    honest = known.honest.double()
    mean, direction = honest.mean(dim=0), -_deviation(known.honest).double()
    apart = mean - honest
    largest = torch.cdist(honest, honest).max().square()
    # |apart_i + gamma direction|^2 <= largest
    a = direction.square().sum().clamp(min=_TINY)
    b = apart @ direction
    c = apart.square().sum(dim=1) - largest
    gamma = ((-b + (b.square() - a * c).clamp(min=0).sqrt()) / a).min().clamp(min=0)
    return (mean + gamma * direction).float().expand_as(known.own)


def scaled(known: Known) -> Tensor:
    """Send one's own update, ``scale`` times, so that a mean becomes it.

    Model replacement (Bagdasaryan et al. 2020, arXiv 1807.00459, section IV-B).
    """
    m = len(known.own)
    return (known.scale or (len(known.honest) + m) / m) * known.own


def _deviation(honest: Tensor) -> Tensor:
    """Return each number's standard deviation over the honest updates, 0 of a single one."""
    return honest.std(dim=0, correction=0)


__all__ = [
    "Known",
    "a_little_is_enough",
    "gaussian",
    "inner_product",
    "min_max",
    "scaled",
    "sign_flip",
]
