"""Noise and sampling masks from a cryptographic generator.

AES-256 in counter mode, keyed afresh for every institution and round: from the operating system, or, in a simulation that
must repeat, from its seed (the guarantee is then nominal, and the summary says so). Torch's own CPU generator is no
substitute: it uses 32 bits of its seed, so 2^32 tries reveal the noise.

Gaussians are Box-Muller in float64 from 53-bit uniforms. The floating-point attack of Mironov (2012) on naive samplers is
mitigated by the float64 arithmetic and the rounding to float32 that follows, not excluded: the residual gap is open in
every floating-point implementation of DP-SGD.
"""

import hashlib
import math
import os

import torch
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from torch import Tensor

from confide.errors import PrivacyError

KEY_BYTES = 32
_CHUNK = 2**18


def derive_key(secret: bytes, *context: str | int) -> bytes:
    """Derive an independent 32-byte key for one purpose.

    Args:
        secret: key material, at most 64 bytes.
        context: what the key is for; different contexts give unrelated keys.
    """
    digest = hashlib.blake2b(key=secret, digest_size=KEY_BYTES, person=b"confide/key")
    for part in context:
        word = str(part).encode()
        digest.update(len(word).to_bytes(8, "little") + word)
    return digest.digest()


def seed_from(secret: bytes, *context: str | int) -> int:
    """Derive a 63-bit seed, for orders of batches and other things that privacy does not rest on."""
    return int.from_bytes(derive_key(secret, *context)[:8], "little") >> 1


class KeyedGenerator:
    """A stream of uniform and Gaussian numbers fixed by a key.

    Args:
        key: 32 bytes. Never use one key for two different computations: equal noise on different inputs cancels.

    Raises:
        PrivacyError: on use after a fork, where parent and child would draw the same noise.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"Expected a key of {KEY_BYTES} bytes; got {len(key)}.")
        self._stream: CipherContext = Cipher(AES256(key), CTR(bytes(16))).encryptor()
        self._pid = os.getpid()

    def uniform(self, count: int) -> Tensor:
        """Draw from (0, 1): float64, shape [count], multiples of 2^-53 moved by 2^-54, so never 0 or 1."""
        if os.getpid() != self._pid:
            raise PrivacyError("A random generator was carried over a fork; derive a new key in the child process.")
        words = (
            torch.frombuffer(bytearray(self._stream.update(bytes(8 * count))), dtype=torch.int64) if count else torch.empty(0)
        )
        # The top 53 bits, without the sign.
        return ((words.to(torch.int64) >> 11) & (2**53 - 1)).double().add_(0.5).mul_(2.0**-53)

    def normal(self, count: int, *, std: float = 1.0) -> Tensor:
        """Draw Gaussians: float64, shape [count], mean 0."""
        drawn = torch.empty(count, dtype=torch.float64)
        for start in range(0, count, _CHUNK):
            part = drawn[start : start + _CHUNK]
            half = (len(part) + 1) // 2
            radius = self.uniform(half).log_().mul_(-2).sqrt_().mul_(std)
            angle = self.uniform(half).mul_(2 * math.pi)
            part[:half] = radius * angle.cos()
            part[half:] = (radius * angle.sin_())[: len(part) - half]
        return drawn

    def poisson_sample(self, count: int, rate: float) -> Tensor:
        """Include each of ``count`` units independently with probability ``rate``; int64 indices, ascending."""
        return (self.uniform(count) < rate).nonzero().flatten()


__all__ = ["KEY_BYTES", "KeyedGenerator", "derive_key", "seed_from"]
