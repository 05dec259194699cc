"""Epsilon by Renyi divergences of large orders, which small budgets need.

Opacus's accountant stops at order 63: at delta = 1e-5 no schedule, however little it costs, has an
epsilon below 0.1 there. For an integer order alpha the divergence of one step of the subsampled
Gaussian mechanism is a sum (Mironov, Talwar and Zhang 2019, arXiv 1908.10530, Section 3.3),

    e^((alpha - 1) rho) = sum over k of C(alpha, k) q^k (1 - q)^(alpha - k) e^(k (k-1) / 2 sigma^2),

whose terms are taken in logarithms here, so that none overflows. Less 1, all terms are positive and
small costs keep their digits. It bounds both directions of zero-out neighbours (ibid., Theorem 5).
"""

import math

import numpy as np
from scipy.special import gammaln, logsumexp

_ORDERS = tuple(round(64 * 2 ** (step / 4)) for step in range(33))
"""64 to 16,384, where a conversion at delta = 1e-9 takes 6e-4 of epsilon."""
_LOGARITHM = 1e-14
"""Relative error of a logarithm of a term: of its parts, each within a few units of rounding."""


def epsilon_at_large_orders(
    *, noise_multiplier: float, sampling_rate: float, steps: int, delta: float
) -> float:
    """Return the least epsilon that a large order gives, an upper bound.

    Args:
        noise_multiplier: sigma > 0.
        sampling_rate: Poisson rate q of one step, in (0, 1].
        steps: number of steps, >= 1.
        delta: in (0, 1).
    """
    return min(
        max(0.0, steps * _divergence(noise_multiplier, sampling_rate, order) + _left(order, delta))
        for order in _ORDERS
    )


def _left(order: int, delta: float) -> float:
    """Return what conversion adds (Balle et al. 2020, arXiv 1905.09982, Theorem 21)."""
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


def _divergence(sigma: float, rate: float, order: int) -> float:
    if rate == 1:
        return order / (2 * sigma**2)
    k = np.arange(2, order + 1)
    exponent = k * (k - 1) / (2 * sigma**2)
    parts = np.stack(
        [
            np.full(len(k), gammaln(order + 1)),
            -gammaln(k + 1),
            -gammaln(order - k + 1),
            k * math.log(rate),
            (order - k) * math.log1p(-rate),
            # log(e^x - 1), x > 0
            exponent + np.log(-np.expm1(-exponent)),
        ]
    )
    # The largest parts nearly cancel: each is wrong by its own size.
    terms = parts.sum(axis=0) + _LOGARITHM * np.abs(parts).sum(axis=0)
    total = float(logsumexp(terms)) + _LOGARITHM
    # log(1 + e^total)
    cost = total + math.log1p(math.exp(-total)) if total > 0 else math.log1p(math.exp(total))
    return cost / (order - 1)


__all__ = ["epsilon_at_large_orders"]
