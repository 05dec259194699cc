"""Matrices of an update as products of two thin ones; what they miss goes with the next update.

PowerSGD (Vogels et al., NeurIPS 2019, arXiv 1905.13727, algorithms 1 and 2): one step of power
iteration from the last message's Q, M = update + error, P = orthonormal(M Q), Q = M^T P, and P Q^T
travels as P and Q. There all workers share P and Q by all-reduce; here each institution sends its
own, since the coordinator hears each once a round. A tensor of more dimensions is a matrix of its
first one by all others. Vectors, and matrices that would not get smaller, travel as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from confide.privacy.randomness import KeyedGenerator, derive_key
from confide.protocol.codecs.codec import Bytes
from confide.protocol.tensors import Shapes, Tensors, num_values

_ERROR, _BASIS = "error", "basis/"


class _Part(NamedTuple):
    """One tensor: its numbers are ``rows`` by ``columns`` from ``start`` on."""

    name: str
    start: int
    rows: int
    columns: int
    is_thin: bool


@dataclass(frozen=True)
class LowRank:
    """Thin matrices; a :class:`~confide.protocol.codecs.codec.Codec`.

    Attributes:
        rank: columns of P and Q, >= 1.
    """

    rank: int

    def num_bytes(self, shapes: Shapes) -> int:
        """Return four bytes for each number of P, Q and what travels as it is."""
        return 4 * sum(self._size(part) for part in self._parts(shapes))

    def first_state(self, shapes: Shapes) -> Tensors:
        """Return an error of zero and a Gaussian Q, which is public and always the same."""
        state = {_ERROR: torch.zeros(num_values(shapes))}
        for part in self._parts(shapes):
            if part.is_thin:
                key = derive_key(b"", "low_rank", part.name, part.columns, self.rank)
                drawn = KeyedGenerator(key).normal(part.columns * self.rank).float()
                state[_BASIS + part.name] = drawn.view(part.columns, self.rank)
        return state

    def write(
        self, values: Tensor, shapes: Shapes, state: Tensors, draw: KeyedGenerator
    ) -> tuple[Bytes, Tensors]:
        """Write P and Q of each matrix."""
        wanted = values + state[_ERROR]
        written, kept = [], {}
        for part in self._parts(shapes):
            own = wanted[part.start : part.start + part.rows * part.columns]
            if not part.is_thin:
                written.append(own)
                continue
            matrix = own.view(part.rows, part.columns).double()
            left = torch.linalg.qr(matrix @ state[_BASIS + part.name].double()).Q
            right = (matrix.T @ left).float()
            written += [left.float().flatten(), right.flatten()]
            kept[_BASIS + part.name] = right
        data = torch.cat(written).numpy().astype("<f4").view(np.uint8)
        return data, {_ERROR: wanted - self.read(data, shapes), **kept}

    def read(self, data: Bytes, shapes: Shapes) -> Tensor:
        """Multiply thin matrices; numbers that are not finite stay so."""
        numbers = torch.from_numpy(data.view("<f4").astype(np.float32))
        values, place = torch.empty(num_values(shapes)), 0
        for part in self._parts(shapes):
            told = numbers[place : place + self._size(part)]
            place += len(told)
            if part.is_thin:
                left, right = told.double().split([part.rows * self.rank, part.columns * self.rank])
                told = (left.view(-1, self.rank) @ right.view(-1, self.rank).T).flatten()
            values[part.start : part.start + part.rows * part.columns] = told
        return values

    def _parts(self, shapes: Shapes) -> Iterator[_Part]:
        start = 0
        for name, shape in shapes.items():
            size = num_values({name: shape})
            rows = shape[0] if len(shape) > 1 else size
            columns = size // rows if rows else 0
            is_thin = self.rank * (rows + columns) < size
            yield _Part(name, start, rows, columns, is_thin)
            start += size

    def _size(self, part: _Part) -> int:
        if part.is_thin:
            return self.rank * (part.rows + part.columns)
        return part.rows * part.columns


__all__ = ["LowRank"]
