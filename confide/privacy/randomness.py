"""Noise and sampling masks from a cryptographic generator.

AES-256 in counter mode, with a new key for every institution and round: from the operating system,
or, in a simulation that must repeat, from its seed. The guarantee is then nominal, and the summary
says so: whoever knows the seed computes the noise. Torch's own CPU generator is no substitute: it
uses 32 bits of its seed, so that 2^32 tries reveal the noise.

Gaussians are Box-Muller in float64 from 53-bit uniforms. The floating-point attack of Mironov
(2012) on naive samplers is mitigated by the float64 arithmetic and the rounding to float32 that
follows, not excluded: the residual gap is open in every floating-point implementation of DP-SGD.
"""

import functools
import hashlib
import math
import os
from collections.abc import Iterator, Sequence

import numpy
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray
from torch import Tensor

from confide.errors import PrivacyError
from confide.moved import moved

KEY_BYTES = 32
_CHUNK = 2**18
# The counter's start; each key is used for one stream.
_FROM_ZERO = CTR(bytes(16))


def derive_key(secret: bytes, *context: str | int) -> bytes:
    """Derive an independent 32-byte key for one purpose.

    Args:
        secret: key material, at most 64 bytes.
        context: purpose of the key; different contexts give unrelated keys.
    """
    text = b"".join(map(_worded, context))
    digest = hashlib.blake2b(text, key=secret, digest_size=KEY_BYTES, person=b"confide/key")
    return digest.digest()


# The same few in every round, of every institution. By type: True is no 1.
@functools.lru_cache(maxsize=4096, typed=True)
def _worded(part: str | int) -> bytes:
    word = str(part).encode()
    # With its length: otherwise ("ab", "c") and ("a", "bc") would give the same key
    return len(word).to_bytes(8, "little") + word


def seed_from(secret: bytes, *context: str | int) -> int:
    """Derive a 63-bit seed, for the order of batches and all else that privacy does not rest on."""
    return int.from_bytes(derive_key(secret, *context)[:8], "little") >> 1


class KeyedGenerator:
    """A stream of uniform and Gaussian numbers, determined by a key.

    Args:
        key: 32 bytes, never used for two different computations where anything is to be protected:
            equal noise on different inputs cancels.

    Raises:
        PrivacyError: on use after a fork, where parent and child would draw the same noise.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"Expected a key of {KEY_BYTES} bytes; got {len(key)}.")
        self._stream: CipherContext = Cipher(AES256(key), _FROM_ZERO).encryptor()
        self._pid = os.getpid()

    def uniform(self, count: int) -> Tensor:
        """Draw from (0, 1): float64, shape [count], multiples of 2^-53 plus 2^-54, never 0 or 1."""
        # Two words more: the cipher wants room for up to 15 bytes more than it fills
        words = numpy.zeros(count + 2, dtype=numpy.uint64)
        self.fill(words)
        return uniform_of(words[:count])

    def fill(self, words: NDArray[numpy.uint64]) -> None:
        """Fill all but the last two of some words of zeros with the stream's next bits."""
        if os.getpid() != self._pid:
            raise PrivacyError(
                "A random generator was carried over a fork; derive a new key in the child process."
            )
        stream = words.data.cast("B")
        self._stream.update_into(stream[:-16], stream)

    def normal(self, count: int, *, std: float = 1.0) -> Tensor:
        """Draw Gaussians: float64, shape [count], mean 0."""
        return torch.cat([torch.empty(0, dtype=torch.float64), *self._normal_chunks(count, std)])

    def add_normal(self, targets: Sequence[Tensor], *, std: float) -> None:
        """Add Gaussians in place: those that ``normal`` draws for all at once.

        Args:
            targets: tensors to add to, each of shape [d]; Gaussians are rounded to their dtype.
            std: standard deviation, >= 0.
        """
        chunks = self._normal_chunks(sum(len(target) for target in targets), std)
        left = torch.empty(0)
        for target in targets:
            done = 0
            while done < len(target):
                if not len(left):
                    left = moved(next(chunks), target.device).to(target.dtype)
                part = left[: len(target) - done]
                target[done : done + len(part)] += part
                done, left = done + len(part), left[len(part) :]

    def _normal_chunks(self, count: int, std: float) -> Iterator[Tensor]:
        """Yield ``count`` Gaussians in pieces that stay in a processor's cache."""
        for start in range(0, count, _CHUNK):
            size = min(_CHUNK, count - start)
            drawn = torch.empty((2, (size + 1) // 2), dtype=torch.float64)
            half = drawn.shape[1]
            box_muller(self.uniform(half), self.uniform(half), std, drawn[0], drawn[1])
            yield drawn.view(-1)[:size]

    def poisson_sample(self, count: int, rate: float) -> Tensor:
        """Draw a Poisson sample: each unit independently with probability ``rate``.

        Returns:
            Indices of the sampled units: int64, ascending.
        """
        return (self.uniform(count) < rate).nonzero().flatten()


def uniform_of(words: NDArray[numpy.uint64]) -> Tensor:
    """Turn random words, in place, into numbers of (0, 1), float64 of the same shape."""
    words >>= 11  # the top 53 bits, as many as a float64 holds exactly
    return torch.from_numpy(words.view(numpy.int64)).double().add_(0.5).mul_(2.0**-53)


def box_muller(
    radius: Tensor, angle: Tensor, std: float | Tensor, one: Tensor, other: Tensor
) -> None:
    """Write Gaussians of standard deviation ``std`` to two tensors, out of uniform numbers."""
    radius = radius.log_().mul_(-2).sqrt_().mul_(std)
    angle = angle.mul_(2 * math.pi)
    torch.mul(radius, angle.cos(), out=one)
    torch.mul(radius, angle.sin_(), out=other)


class KeyedGenerators:
    """Several streams side by side, each with the numbers that one of its key alone has.

    Args:
        keys: m of 32 bytes, each as a :class:`KeyedGenerator` wants it.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._streams = [KeyedGenerator(key) for key in keys]

    def uniform(self, counts: Sequence[int]) -> Tensor:
        """Draw so many numbers from each stream, one stream after the other: float64, [sum]."""
        words = numpy.zeros(sum(counts) + 2, dtype=numpy.uint64)
        start = 0
        for stream, count in zip(self._streams, counts, strict=True):
            # Room that the stream before wanted beyond its own words.
            words[start : start + 2] = 0
            stream.fill(words[start : start + count + 2])
            start += count
        return uniform_of(words[:start])

    def normal(self, count: int, *, std: Tensor) -> Tensor:
        """Draw Gaussians from each stream: float64, shape [m, count].

        Args:
            count: of each stream.
            std: of each stream, float64, shape [m].
        """
        streams = len(self._streams)
        drawn = torch.empty((streams, count), dtype=torch.float64)
        for start in range(0, count, _CHUNK):
            size = min(_CHUNK, count - start)
            half = (size + 1) // 2
            pairs = self.uniform([2 * half] * streams).view(streams, 2, half)
            drawn[:, start : start + size] = _gaussians(pairs, std)[:, :size]
        return drawn

    def normals(self, times: int, count: int, *, std: Tensor) -> Iterator[Tensor]:
        """Draw what :meth:`normal` draws, so many times; bits of several times come in one piece.

        Args:
            times: how often.
            count: of each stream, each time.
            std: of each stream, float64, shape [m].
        """
        streams, half = len(self._streams), (count + 1) // 2
        most = _CHUNK // max(1, 2 * half) if count <= _CHUNK else 0
        while times > 0 and most < 2:
            yield self.normal(count, std=std)
            times -= 1
        for first in range(0, times, max(1, most)):
            several = min(most, times - first)
            words = self.uniform([2 * half * several] * streams)
            for pairs in words.view(streams, several, 2, half).unbind(1):
                yield _gaussians(pairs, std)[:, :count]


def _gaussians(pairs: Tensor, std: Tensor) -> Tensor:
    """Turn uniform numbers, [m, 2, h], into Gaussians of standard deviations [m]: [m, 2 h]."""
    found = torch.empty(pairs.shape, dtype=torch.float64)
    box_muller(pairs[:, 0], pairs[:, 1], std[:, None], found[:, 0], found[:, 1])
    return found.flatten(1)


__all__ = ["KEY_BYTES", "KeyedGenerator", "KeyedGenerators", "derive_key", "seed_from"]
