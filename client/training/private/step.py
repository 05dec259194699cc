"""What every private step of a round has in common. Needs no Opacus, which is slow to load."""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DpSgdStep:
    """What every step of a round has in common.

    Attributes:
        clipping_norm: C > 0.
        noise_multiplier: sigma >= 0.
        sampling_rate: q in (0, 1].
        expected_batch_size: q * n, which the noisy sum is divided by.
    """

    clipping_norm: float
    noise_multiplier: float
    sampling_rate: float
    expected_batch_size: float


@contextlib.contextmanager
def expect_hook_warning() -> Iterator[None]:
    """Silence what torch says of Opacus's hooks that changes nothing.

    Of a layer whose inputs need no gradient Opacus uses that of its outputs. Of one that reads ids,
    and that it knows no rule for, it takes the ids' type for a precision, which torch then leaves.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Full backward hook is firing", category=UserWarning
        )
        warnings.filterwarnings(
            "ignore", message=r"In \w+ autocast, but the target dtype", category=UserWarning
        )
        yield


__all__ = ["DpSgdStep", "expect_hook_warning"]
