"""Gradients of single records that are never written out: their norms, and their weighed sum.

A record's gradient of a linear layer is the sum of g_t x_t^T over its tokens t, where x is the
layer's input and g the gradient of its output. Its norm follows from the Gram matrices of x and of
g, [t, t], wherever these are smaller (ghost norms: Li, Tramèr, Liang, Hashimoto, "Large Language
Models Can Be Strong Differentially Private Learners", ICLR 2022, arXiv 2110.05679, section 4). A
weighed sum over records is one product in which every token has its record's weight.

Norms and sums are float64. (sum_t |x_t| |g_t|)^2 times 2^-20 is added to the square of a linear
layer's norm, far more than float64 rounding of a Gram matrix over n numbers, n 2^-53, and of the
sums that follow could take away. A norm therefore errs upwards, and sum_t |x_t| |g_t| is at most
2^10 times a record's norm, which bounds what rounding does to the weighed sum (`rounding_margin`).
Of a record of one token it is the norm itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from confide.client.training.private.clipping import MARGIN, largest_divisor, zero_unless

_ROUNDING = 2.0**-20
# Elements of written-out gradients held at once, and tokens of a block of a Gram matrix.
_PRODUCT_BLOCK = 2**22
_ROWS = 16


class Gradient(Protocol):
    """The gradient of one parameter for each record, in the smallest form that holds it."""

    @property
    def param(self) -> Tensor:
        """Whose gradient it is."""

    def squared_norms(self, count: int) -> Tensor:
        """Return float64, shape [b = count]; not finite where a record's gradient is not."""

    def only(self, kept: Tensor) -> "Gradient":
        """Return it with the gradients of records that are not ``kept``, bool [b], set to zero."""

    def add_to(self, total: Tensor, factors: Tensor, *, fresh: bool) -> None:
        """Add the sum of gradients times ``factors`` [b] to ``total``, of the parameter's shape.

        All are float64. Overwrite the total if ``fresh``.
        """

    def of_record(self, index: int) -> list[Tensor]:
        """Return all that a record adds by, in copies."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs of linear layers, x [b, t, d]: query, key and value share them."""

    x: Tensor

    @cached_property
    def gram(self) -> list[Tensor]:
        """Products of tokens, by `_gram`, doubled below the diagonal blocks for those above."""
        blocks = _gram(self.x)
        for block in blocks:
            block[:, :, : -block.shape[1]] *= 2
        return blocks


@dataclass(frozen=True, eq=False)
class _Matrix:
    """The weight of a linear layer, [p, d].

    Attributes:
        param: the weight.
        inputs: x, shape [b, t, d].
        g: gradients of outputs, shape [b, t, p].
    """

    param: Tensor
    inputs: Inputs
    g: Tensor

    def squared_norms(self, count: int) -> Tensor:
        (tokens, d), p = self.inputs.x.shape[1:], self.g.shape[2]
        # Whichever is smaller: Gram matrices of tokens, or the gradient itself.
        if tokens == 1 or tokens * (d + p) >= d * p:
            return _squared_by_product(self.inputs.x, self.g)
        gram_x, gram_g = self.inputs.gram, _gram(self.g)
        products = torch.cat(
            [(a * b).flatten(1) for a, b in zip(gram_x, gram_g, strict=True)], dim=1
        )
        lengths = (_diagonal(gram_x) * _diagonal(gram_g)).sqrt()
        return products.sum(dim=1).clamp_min(0.0) + _ROUNDING * lengths.sum(dim=1).square()

    def only(self, kept: Tensor) -> "_Matrix":
        return replace(
            self, inputs=Inputs(zero_unless(kept, self.inputs.x)), g=zero_unless(kept, self.g)
        )

    def add_to(self, total: Tensor, factors: Tensor, *, fresh: bool) -> None:
        x, g, weights = self.inputs.x, self.g, factors[:, None, None]
        # Scales the smaller of the two factors.
        x, g = (x * weights, g.double()) if x.shape[2] <= g.shape[2] else (x.double(), g * weights)
        torch.addmm(
            total, g.flatten(0, 1).T, x.flatten(0, 1), beta=0.0 if fresh else 1.0, out=total
        )

    def of_record(self, index: int) -> list[Tensor]:
        return [self.inputs.x[index].clone(), self.g[index].clone()]


@dataclass(frozen=True, eq=False)
class _Vector:
    """A bias, or the weight of a LayerNorm, [n], by the gradients themselves, rows [b, n]."""

    param: Tensor
    rows: Tensor

    def squared_norms(self, count: int) -> Tensor:
        return _squared_lengths(self.rows)

    def only(self, kept: Tensor) -> "_Vector":
        return replace(self, rows=zero_unless(kept, self.rows))

    def add_to(self, total: Tensor, factors: Tensor, *, fresh: bool) -> None:
        flat = total.view(-1)
        torch.addmv(flat, self.rows.T.double(), factors, beta=0.0 if fresh else 1.0, out=flat)

    def of_record(self, index: int) -> list[Tensor]:
        return [self.rows[index].clone()]


@dataclass(frozen=True, eq=False)
class _Table:
    """An embedding, [v, d], by the rows that are not zero.

    One for each of a record's different tokens.

    Attributes:
        param: the table.
        rows: gradients, shape [u, d].
        records: whose each row is, shape [u], in [0, b).
        tokens: which row of the table each is, shape [u], in [0, v).
    """

    param: Tensor
    rows: Tensor
    records: Tensor
    tokens: Tensor

    @classmethod
    def of(cls, layer: nn.Embedding, ids: Tensor, g: Tensor) -> Self:
        """Add up the gradients of a unit's equal tokens: one row for each different one.

        Args:
            layer: the table's.
            ids: shape [b, t], t tokens a unit.
            g: gradients of outputs, shape [b, t, d], or any with these rows in this order.
        """
        size = layer.num_embeddings
        # Tokens numbered apart for each record, so that equal ones of two records stay two rows.
        keys = ids + size * torch.arange(len(ids), device=ids.device)[:, None]
        different, places = torch.unique(keys, return_inverse=True)
        rows = g.new_zeros(len(different), layer.embedding_dim)
        rows.index_add_(0, places.flatten(), g.reshape(-1, layer.embedding_dim))
        tokens = different % size
        # Torch gives the padding's row no gradient either.
        if layer.padding_idx is not None:
            rows[tokens == layer.padding_idx] = 0.0
        return cls(layer.weight, rows, different // size, tokens)

    def squared_norms(self, count: int) -> Tensor:
        squared = _squared_lengths(self.rows)
        return squared.new_zeros(count).index_add_(0, self.records, squared)

    def only(self, kept: Tensor) -> "_Table":
        return replace(self, rows=zero_unless(kept[self.records], self.rows))

    def add_to(self, total: Tensor, factors: Tensor, *, fresh: bool) -> None:
        if fresh:
            total.zero_()
        total.index_add_(0, self.tokens, self.rows * factors[self.records][:, None])

    def of_record(self, index: int) -> list[Tensor]:
        own = self.records == index
        return [self.tokens[own], self.rows[own]]


def _gram(values: Tensor) -> list[Tensor]:
    """Return products of tokens [b, t, n] within each record, in float64.

    A block i holds 16 tokens, each with those up to the block's end: [b, 16, 16 i]. What lies above
    the diagonal blocks follows by symmetry.
    """
    values = values.double()
    return [
        torch.bmm(part, values[:, : (i + 1) * _ROWS].mT)
        for i, part in enumerate(values.split(_ROWS, dim=1))
    ]


def _diagonal(gram: list[Tensor]) -> Tensor:
    """Return the squared length of each token, shape [b, t]."""
    return torch.cat(
        [block[:, :, -block.shape[1] :].diagonal(dim1=1, dim2=2) for block in gram], dim=1
    )


def _squared_lengths(values: Tensor) -> Tensor:
    """Sum squares over the last dimension, in float64."""
    lengths: Tensor = torch.linalg.vector_norm(values, dim=-1, dtype=torch.float64)
    return lengths.square()


def _squared_by_product(x: Tensor, g: Tensor) -> Tensor:
    """Return the squared norm of each record's sum of g_t x_t^T, erring upwards.

    Float64, shape [b].

    Args:
        x: shape [b, t, d].
        g: shape [b, t, p].
    """
    squared = _squared_lengths(x) * _squared_lengths(g)
    slack = _ROUNDING * squared.sqrt().sum(dim=1).square()
    if x.shape[1] == 1:
        return squared[:, 0] + slack
    rows = largest_divisor(len(x), _PRODUCT_BLOCK // (x.shape[2] * g.shape[2]))
    products = (
        torch.bmm(b.mT.double(), a.double())
        for a, b in zip(x.split(rows), g.split(rows), strict=True)
    )
    return torch.cat([_squared_lengths(p.flatten(1)) for p in products]) + slack


def rounding_margin(*, expected: float, tokens: int, products: int | None = None) -> float:
    """Bound what rounding adds to a step's sensitivity, in units of C, and how far below C to stay.

    A step adds up at most K tokens products to an element, K the number of sampled records, in
    float64: each sum errs by at most K tokens 2^-53 times the sum of sum_t |x_t| |g_t| over
    records, scaled by their factors, which is at most 2^10 K C, and K C for records of one token.
    Twice that, for the sum with a record and the sum without it.

    Args:
        expected: expected number of records in a step, q * n. Samples of K = 2 q n + 100 have a
            probability below e^-90 (Chernoff).
        tokens: largest number of tokens of a unit, all its records' together.
        products: largest number that one pass adds up to an element, K passes at most adding up
            theirs; None where only K and ``tokens`` are known.
    """
    most = 2 * expected + 100
    terms = most * tokens if products is None else most + products
    # 2 covers what the factors' own rounding adds to 1.
    lengths = 2**10 if tokens > 1 else 2
    return MARGIN + 2 * terms * 2.0**-53 * lengths * most


def gradients_of(
    layer: nn.Module,
    inputs: Tensor,
    g: Tensor,
    shared: dict[int, Inputs],
    weights: Tensor | None = None,
) -> Iterator[Gradient]:
    """Turn the gradient of a layer's output into those of its parameters.

    The mean gradient of a group of m records is the sum of g_t x_t^T / m over all their tokens:
    that of one record with m times as many, those of empty places being zeros.

    Args:
        layer: Linear, LayerNorm or Embedding.
        inputs: what it was called with, shape [b, ...].
        g: gradient of its output, shape [b, ...].
        shared: inputs of this pass by identity; this layer's are added.
        weights: what each row counts in its unit's mean, shape [u, places], b = u places; None for
            rows that are units.
    """
    g, key = g.float(), id(inputs)
    units = len(g) if weights is None else len(weights)
    if weights is not None:
        rows = weights.flatten()
        g = zero_unless(rows > 0, g * rows.view(-1, *[1] * (g.dim() - 1)))
        # Zeros and not only weights of 0: what fills a place up may be infinite, 0 times that NaN.
        inputs = zero_unless(rows > 0, inputs.detach()) if inputs.is_floating_point() else inputs
    if isinstance(layer, nn.Embedding):
        yield _Table.of(layer, inputs.reshape(units, -1), g)
        return
    if isinstance(layer, nn.Linear):
        if key not in shared:
            x = inputs.detach().float()
            shared[key] = Inputs(x.reshape(units, -1, layer.in_features))
        g = g.reshape(units, -1, layer.out_features)
        yield _Matrix(layer.weight, shared[key], g)
    elif isinstance(layer, nn.LayerNorm):
        # Normalised anew, without weight and bias: a pass leaves only what went in.
        shape = layer.normalized_shape
        normal = functional.layer_norm(inputs.detach().float(), shape, eps=layer.eps)
        g = g.reshape(units, -1, layer.weight.numel())
        yield _Vector(layer.weight, (g * normal.view_as(g)).sum(dim=1))
    if isinstance(layer, nn.Linear | nn.LayerNorm) and layer.bias is not None:
        yield _Vector(layer.bias, g.sum(dim=1))


__all__ = ["Gradient", "Inputs", "gradients_of", "rounding_margin"]
