"""Independent Gaussian noise in each round, on clients that were drawn by Poisson sampling.

McMahan et al. 2018, "Learning Differentially Private Recurrent Language Models" (arXiv 1710.06963),
algorithm 1, with the fixed denominator of its estimator f_f. Each round is a Poisson-subsampled
Gaussian mechanism with rate q and noise z S on a sum of sensitivity S. Where clients share the
noise nobody draws, and what comes holds it.
"""

from dataclasses import dataclass

from confide.config.noise_share import NoiseShare
from confide.protocol.tensors import Tensors
from confide.strategies.mechanisms.clipping import Clipping
from confide.strategies.mechanisms.mechanism import (
    CLIP_NORM,
    Released,
    RoundSum,
    as_state,
    divided,
    drawn_noise,
    mean_of_shares,
)


@dataclass(frozen=True, kw_only=True)
class GaussianMechanism:
    """Noise of standard deviation z S on each round's sum.

    Attributes:
        noise_multiplier: z, >= 0; the bits of adaptive clipping are paid for with it too.
        clipping: how S is found.
        honest: h, clients of each sum that are trusted to add their shares of the noise; None: the
            coordinator adds it. S is then the same in all rounds.
    """

    noise_multiplier: float
    clipping: Clipping
    honest: int | None = None

    @property
    def adapts(self) -> bool:
        """Whether clients tell on which side of the clipping norm they were."""
        return self.clipping.adapts

    @property
    def share(self) -> NoiseShare | None:
        """What each client does to its update, where they share the noise."""
        if self.honest is None:
            return None
        return NoiseShare(
            clip_norm=self.clipping.clip_norm,
            noise_multiplier=self.noise_multiplier,
            honest=self.honest,
        )

    def first_state(self, params: Tensors) -> Tensors:
        """Return the first clipping norm."""
        return as_state(self.clipping.clip_norm)

    def release(self, given: RoundSum) -> Released:
        """Return the noised mean, and the next clipping norm."""
        if self.honest is not None:
            update = mean_of_shares(given.total, expected=given.expected)
            return Released(update=update, state=given.state)
        clip_norm = float(given.state[CLIP_NORM][0])
        std = clip_norm * (
            self.clipping.multiplier(self.noise_multiplier, given.expected)
            if self.noise_multiplier
            else 0.0
        )
        noise = drawn_noise(given)
        return Released(
            update=divided(given.total, noise, std=std, expected=given.expected),
            state=as_state(self.clipping.next_norm(clip_norm, given)),
        )


__all__ = ["GaussianMechanism"]
