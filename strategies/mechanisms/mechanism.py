"""What a mechanism of client-level privacy does with a round's sum, and what it costs.

Protected: one client with all its records, against whoever sees the models of all rounds.
Neighbouring relation: one client's updates are zeros in all rounds, or not; the population's size,
and so the denominator and whose turn it is, are public. Trusted: the coordinator, who sees updates,
draws clients and adds the noise, and keeps all three to itself. Public: the probability or the
schedule of taking part, the settings, every model. What voids it: draws or noise that others can
predict (a run's seed, if it is told), another release of the same updates (metrics of single
clients, saved updates), an update that was not clipped. Where clients add the noise, trust is in
others (:mod:`confide.privacy.noise_share`).

The coordinator divides by a number that is fixed beforehand, never by how many came: otherwise one
client would move more than its share. Rounds without a client have noise like any other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from confide.config.noise_share import NoiseShare
from confide.privacy.randomness import KeyedGenerator, derive_key
from confide.protocol.tensors import Tensors
from confide.storage.tensor_files import sha256

CLIP_NORM = "clip_norm"
"""Name of the clipping norm among what clients are sent, and in a mechanism's state; shape [1]."""
WITHIN = "within"
"""Name of what a client tells of its norm, where clipping adapts: 1/2 if it is at most the clipping
norm, -1/2 otherwise; shape [1]."""


@dataclass(frozen=True, kw_only=True)
class Released:
    """What a mechanism makes of a round.

    Attributes:
        update: the mean over the expected number of clients, with noise.
        state: what the next round starts from.
    """

    update: Tensors
    state: Tensors


@dataclass(frozen=True, kw_only=True)
class RoundSum:
    """A round's clipped updates.

    Attributes:
        total: their sum, float64; zeros where nobody was drawn.
        within: sum of what clients told of their norms, where clipping adapts.
        expected: m, the number that the sum is divided by, > 0.
        participations: most rounds of one client in the whole run.
        server_round: from 1.
        secret: of the run; the noise derives from it and the round.
        state: of the mechanism, after the round before.
    """

    total: Mapping[str, Tensor]
    within: float
    expected: float
    participations: int
    server_round: int
    secret: bytes
    state: Tensors


class Mechanism(Protocol):
    """Clips and noises what a round's clients come to."""

    @property
    def adapts(self) -> bool:
        """Whether clients tell on which side of the clipping norm they were."""

    @property
    def share(self) -> NoiseShare | None:
        """What each client does to its update by itself; None where the coordinator does it all."""

    def first_state(self, params: Tensors) -> Tensors:
        """Return the state before the first round, with the first clipping norm."""

    def release(self, given: RoundSum) -> Released:
        """Return the noised mean, and the state after it."""


def noise_key(given: RoundSum, what: str) -> bytes:
    """Return the key of a round's noise, of this sum and no other.

    A round that is done again from an earlier checkpoint may have another sum, when somebody is
    late: equal noise on both would cancel in their difference.

    Args:
        given: the round.
        what: what the noise is for; each has a stream of its own.
    """
    total = {name: value.contiguous() for name, value in given.total.items()}
    figures = given.within, given.expected, given.participations
    return derive_key(
        given.secret,
        "mechanism",
        what,
        given.server_round,
        *(repr(figure) for figure in figures),
        sha256(total),
        sha256(given.state),
    )


def drawn_noise(given: RoundSum) -> dict[str, Tensor]:
    """Draw standard Gaussians for a round's sum: float64, of its shapes."""
    total, generator = given.total, KeyedGenerator(noise_key(given, "update"))
    flat = generator.normal(sum(value.numel() for value in total.values()))
    parts = flat.split([value.numel() for value in total.values()])
    return {name: part.view(total[name].shape) for name, part in zip(total, parts, strict=True)}


def divided(
    total: Mapping[str, Tensor], noise: Mapping[str, Tensor], *, std: float, expected: float
) -> Tensors:
    """Return ``(total + std * noise) / expected``, float32."""
    # Rounded once, after the noise: what is released depends on the noised sum alone
    return {
        name: ((value.double() + std * noise[name]) / expected).float()
        for name, value in total.items()
    }


def mean_of_shares(total: Mapping[str, Tensor], *, expected: float) -> Tensors:
    """Return ``total / expected``, float32: the noise is in the sum."""
    return {name: (value.double() / expected).float() for name, value in total.items()}


def as_state(clip_norm: float) -> Tensors:
    """Return a clipping norm as a tensor of the state."""
    return {CLIP_NORM: torch.tensor([clip_norm], dtype=torch.float32)}


__all__ = [
    "CLIP_NORM",
    "WITHIN",
    "Mechanism",
    "Released",
    "RoundSum",
    "as_state",
    "divided",
    "drawn_noise",
    "mean_of_shares",
    "noise_key",
]
