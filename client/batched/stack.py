"""Linear layers with ReLU between, of many institutions at once.

One institution's tensors are a row of memory, in which every layer's weight and bias are filled up
with zeros to multiples of 16 numbers: a matrix product then begins every row at the same alignment,
and what it gives for a record does not depend on the record's place
(`confide.client.training.aligned`). What is filled up stays zero: its gradients are, and optimizers
work number by number.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from confide.models.networks import Stacked, trainable
from confide.protocol.tensors import Tensors

_NUMBERS = 16


@dataclass(frozen=True)
class _Place:
    """Where a layer's tensors are in a row: weight, then bias.

    Attributes:
        start: of the weight.
        outputs: p.
        inputs: d.
    """

    start: int
    outputs: int
    inputs: int

    @functools.cached_property
    def wide(self) -> tuple[int, int]:
        """Shape of the weight, filled up."""
        return _aligned(self.outputs), _aligned(self.inputs)

    @functools.cached_property
    def bias(self) -> int:
        """Where the bias begins."""
        return self.start + math.prod(self.wide)

    @functools.cached_property
    def end(self) -> int:
        """Where the layer ends."""
        return self.bias + self.wide[0]


@dataclass(frozen=True, eq=False)
class Pass:
    """What a forward and a backward pass leave of each layer, for m institutions.

    Attributes:
        inputs: of each layer, shape [m, r, d].
        gradients: of the loss with respect to each layer's outputs, shape [m, r, p].
    """

    inputs: Sequence[Tensor]
    gradients: Sequence[Tensor]

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """All of them: inputs of each layer, then gradients."""
        return (*self.inputs, *self.gradients)

    @classmethod
    def of(cls, parts: Sequence[Tensor]) -> Self:
        """Put a pass together from its parts."""
        layers = len(parts) // 2
        return cls(parts[:layers], parts[layers:])

    def only(self, kept: Tensor) -> "Pass":
        """Return it with zeros for the records that are not ``kept``, bool of shape [m, r]."""
        inputs, gradients = (
            [torch.where(kept[:, :, None], it, 0.0) for it in many]
            for many in (self.inputs, self.gradients)
        )
        return Pass(inputs, gradients)


class LinearStack:
    """The layers of a model, laid out for many institutions.

    Args:
        model: its trained tensors are those of its layers.
    """

    def __init__(self, model: Stacked) -> None:
        named = {id(p): name for name, p in trainable(model).items()}
        self.names: list[str] = []
        places, start = [], 0
        for layer in model.linears:
            places.append(_Place(start, layer.out_features, layer.in_features))
            start = places[-1].end
            self.names += [named[id(layer.weight)], named[id(layer.bias)]]
        self._places = places
        self.size = start

    @functools.cached_property
    def widths(self) -> list[int]:
        """Numbers of a record between layers, filled up: inputs first."""
        return [self._places[0].wide[1], *(place.wide[0] for place in self._places)]

    def parts(self, rows: Tensor) -> list[Tensor]:
        """Return the tensors that rows [m, size] hold, as views [m, ...], in the order of names."""
        found = []
        for it in self._places:
            weight = rows[:, it.start : it.bias].unflatten(1, it.wide)
            found.append(weight[:, : it.outputs, : it.inputs])
            found.append(rows[:, it.bias : it.bias + it.outputs])
        return found

    def rows(self, tensors: Tensors) -> Tensor:
        """Lay tensors [m, ...] out in rows, shape [m, size]; equal ones share one row's memory."""
        count = next(iter(tensors.values())).shape[0]
        is_one = all(tensors[name].stride(0) == 0 for name in self.names)
        rows = torch.zeros(1 if is_one else count, self.size)
        for part, name in zip(self.parts(rows), self.names, strict=True):
            part.copy_(tensors[name][: len(rows)])
        return rows.expand(count, -1)

    def pass_through(
        self, rows: Tensor, x: Tensor, gradient_fn: Callable[[Tensor], Tensor]
    ) -> Pass:
        """Run records forward and back.

        Args:
            rows: tensors of m institutions, [m, size].
            x: records of each, [m, r, d], filled up.
            gradient_fn: outputs, [m, r, p], not filled up -> the loss's gradient of them.
        """
        weights = [rows[:, it.start : it.bias].unflatten(1, it.wide) for it in self._places]
        inputs: list[Tensor] = []
        for place, weight in zip(self._places, weights, strict=True):
            inputs.append(x)
            bias = rows[:, None, place.bias : place.end]
            x = torch.baddbmm(bias, x, weight.mT)
            if place is not self._places[-1]:
                x = x.relu_()
        outputs = self._places[-1].outputs
        g = functional.pad(gradient_fn(x[..., :outputs]), (0, -outputs % _NUMBERS))
        gradients = [g]
        for weight, entered in zip(weights[:0:-1], inputs[:0:-1], strict=True):
            # The gradient of ReLU is 0 where nothing came out.
            g = torch.bmm(g, weight).mul_(entered > 0)
            gradients.append(g)
        return Pass(inputs, gradients[::-1])

    def write_sums(
        self, sums: Tensor, found: Pass, factors: Tensor | None = None, *, fresh: bool
    ) -> None:
        """Add each institution's sum of gradients times ``factors`` to its row of ``sums``.

        Args:
            sums: shape [m, size], of the precision in which is added up.
            found: of a pass.
            factors: of each record, [m, r]; None for 1.
            fresh: whether it is written over what is there.
        """
        for (weight, bias), (product, total) in self._products(sums, found, factors):
            if fresh:
                weight.copy_(product)
                bias.copy_(total)
            else:
                weight += product
                bias += total

    def descend(self, rows: Tensor, found: Pass, learning_rate: float) -> None:
        """Take a step of plain gradient descent, for each institution by its sum of gradients.

        Args:
            rows: tensors of m institutions, [m, size].
            found: of a pass on them, its gradients weighted.
            learning_rate: of the step.
        """
        for parts, sums in self._products(rows, found):
            for part, total in zip(parts, sums, strict=True):
                part.add_(total, alpha=-learning_rate)

    def _products(
        self, rows: Tensor, found: Pass, factors: Tensor | None = None
    ) -> Iterator[tuple[Sequence[Tensor], Sequence[Tensor]]]:
        """Yield each layer's weight and bias in rows, flat, and their sums of gradients."""
        dtype = rows.dtype
        for place, x, g in zip(self._places, found.inputs, found.gradients, strict=True):
            scaled = g.to(dtype)
            if factors is not None:
                scaled = scaled * factors[:, :, None]
            # Into memory of its own: into a part of a row torch multiplies one by one.
            product = torch.bmm(scaled.mT, x.to(dtype)).flatten(1)
            parts = rows[:, place.start : place.bias], rows[:, place.bias : place.end]
            yield parts, (product, scaled.sum(dim=1))


def stack_of(model: nn.Module) -> LinearStack | None:
    """Return the layers of a model; None if it is no stack that is trained whole."""
    if not isinstance(model, Stacked):
        return None
    owned = [p for layer in model.linears for p in layer.parameters()]
    is_whole = all(layer.bias is not None for layer in model.linears)
    if not is_whole or {id(p) for p in trainable(model).values()} != {id(p) for p in owned}:
        return None
    return LinearStack(model)


def _aligned(count: int) -> int:
    return count + -count % _NUMBERS


__all__ = ["LinearStack", "Pass", "stack_of"]
