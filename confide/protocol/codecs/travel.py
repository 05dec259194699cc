"""How tensors travel one way: as they are, or as the words of a codec.

A record knows one kind of array, float32, and so do all who carry one: Flower, the trainer service,
a simulation's shared memory, an institution's durable replies. The bytes of a coded message are
carried as words of four bytes under one name; nobody on the way reads them as numbers.
"""

import functools
from dataclasses import dataclass, field

import numpy as np
import torch
from flwr.app import ArrayRecord

from confide.config.strategies.codecs import CODECS, CodecConfig
from confide.privacy.randomness import KeyedGenerator, derive_key
from confide.protocol.codecs.codec import Codec, unwritten
from confide.protocol.masked_sums import MaskedSums
from confide.protocol.tensors import (
    BYTES_PER_VALUE,
    LARGEST_FLOAT32,
    DecodedTensors,
    Shapes,
    Tensors,
    check_values,
    decode,
    encode,
    flatten,
    num_values,
    read_values,
    shapes_of,
    unflatten,
)

CODED = "coded/words"
"""Name of the only array of a coded record; no parameter of a torch module has a slash in its."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A message, and what its reader and its writer make of it.

    Attributes:
        arrays: what travels, by name.
        told: the tensors that it tells of, as its reader reads them.
        state: what the writer keeps for its next message.
    """

    arrays: Tensors
    told: Tensors
    state: Tensors = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Travel:
    """How tensors travel one way.

    Attributes:
        codec: writes and reads them; None: as they are.
    """

    codec: Codec | None = None

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the shapes of what travels for tensors of such shapes."""
        if self.codec is None:
            return shapes
        return {CODED: (-(-self.codec.num_bytes(_sorted(shapes)) // BYTES_PER_VALUE),)}

    def num_bytes(self, shapes: Shapes) -> int:
        """Return the size of what travels: every message about such tensors has it."""
        return BYTES_PER_VALUE * num_values(self.shapes(shapes))

    def first_state(self, shapes: Shapes) -> Tensors:
        """Return what a writer keeps before its first message."""
        return {} if self.codec is None else self.codec.first_state(_sorted(shapes))

    def write(self, tensors: Tensors, *, state: Tensors, key: bytes) -> Sent:
        """Write a message.

        Args:
            tensors: float32 on the CPU, finite.
            state: what the writer kept after its last one.
            key: 32 bytes that random choices derive from, used for no other message.
        """
        if self.codec is None:
            return Sent(arrays=tensors, told=tensors)
        shapes = _sorted(shapes_of(tensors))
        draw = KeyedGenerator(derive_key(key, "codec"))
        data, after = self.codec.write(flatten(tensors, shapes), shapes, state, draw)
        words = np.zeros(num_values(self.shapes(shapes)) * BYTES_PER_VALUE, dtype=np.uint8)
        words[: len(data)] = data
        told = unflatten(self.codec.read(data, shapes), shapes)
        return Sent(
            arrays={CODED: torch.from_numpy(words.view(np.float32))},
            told={name: told[name] for name in tensors},
            state=after,
        )

    def encode(self, tensors: Tensors, *, key: bytes) -> ArrayRecord:
        """Write a record, by a writer that keeps nothing."""
        state = self.first_state(shapes_of(tensors))
        return encode(self.write(tensors, state=state, key=key).arrays)

    def decode(self, record: ArrayRecord, expected: Shapes, *, max_value: float) -> DecodedTensors:
        """Unpack a record after checking it, whoever sent it.

        Args:
            record: what came over the wire.
            expected: every tensor that it must tell of, with its shape, and no other.
            max_value: largest absolute value allowed; NaN and infinity never are.

        Raises:
            ProtocolError: naming what does not fit.
        """
        if self.codec is None:
            return decode(record, expected, max_value=max_value)
        shapes = _sorted(expected)
        words = read_values(record, self.shapes(expected)).numpy().view(np.uint8)
        size = self.codec.num_bytes(shapes)
        if words[size:].any():
            raise unwritten("something behind its end")
        told = unflatten(self.codec.read(words[:size], shapes), shapes)
        check_values(told, max_value=min(max_value, LARGEST_FLOAT32))
        return DecodedTensors({name: told[name] for name in expected})


PLAIN = Travel()
"""Tensors as they are."""


def nothing() -> None:
    """Build the codec of a direction that has none."""


def travel_of(config: CodecConfig) -> Travel:
    """Return how tensors travel by a codec: one for all who name it alike."""
    return _travel(config.kind, tuple(vars(config).items()))


@functools.lru_cache(maxsize=64)
def _travel(kind: str, settings: tuple[tuple[str, float | str], ...]) -> Travel:
    chosen = CODECS[kind]
    return Travel(codec=chosen.build(chosen.schema(**dict(settings))))


def update_bytes(shapes: Shapes, sums: MaskedSums | None) -> int:
    """Return the size of an update that no codec wrote: float32, or the words of a masked sum."""
    return num_values(shapes) * (BYTES_PER_VALUE if sums is None else sums.bits // 8)


def _sorted(shapes: Shapes) -> Shapes:
    # Both sides know the names; their order may come from a model here and a file there
    return {name: shapes[name] for name in sorted(shapes)}


__all__ = ["CODED", "PLAIN", "Sent", "Travel", "travel_of", "update_bytes"]
