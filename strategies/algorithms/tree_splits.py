"""The coordinator's part of boosting: from exact sums to the splits of a level, and to leaves.

Chen and Guestrin 2016, arXiv 1603.02754, equations 5 and 7 and algorithm 3. Legend: m nodes of the
level, K groups, D places of a sum, c cells of an input.

Sums are integers, and only sums, products and quotients of float64 are taken of them, each of which
is rounded alike everywhere: equal sums give equal trees on any machine.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray

from confide.models.trees import NO_SPLIT, starts_of
from confide.protocol.tensors import Tensors
from confide.strategies.aggregators import SUM_BITS

Integers = NDArray[numpy.int64]
Floats = NDArray[numpy.float64]

UNIT = 2.0**SUM_BITS
"""Units of a sum of gradients or curvatures in 1."""
SUMMED = ("gradient", "curvature")
_LEAST_GAIN = 1e-6
"""A split that gains no more is none, as in xgboost."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What makes a split and a leaf.

    Attributes:
        learning_rate: share of each leaf's step that is taken, in (0, 1].
        l2: penalty on the values of leaves, >= 0.
        min_child_weight: smallest sum of curvatures on either side of a split, > 0.
        min_records: smallest number of records on either side of a split, >= 1.
    """

    learning_rate: float
    l2: float
    min_child_weight: float
    min_records: int


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Sums over records, of one shape.

    Attributes:
        gradient: in units of 2^-24.
        curvature: in units of 2^-24.
        count: numbers of records.
    """

    gradient: Integers
    curvature: Integers
    count: Integers

    @staticmethod
    def of(totals: Tensors) -> "Sums":
        """Put the halves that institutions sent together again, each [nodes, K, D]."""
        whole = {
            name: numpy.rint(value.double().numpy() * UNIT).astype(numpy.int64)
            for name, value in totals.items()
        }
        joined = {
            name: (whole[f"{name}_high"] << SUM_BITS) + whole[f"{name}_low"] for name in SUMMED
        }
        return Sums(**joined, count=whole["count"])

    def part(self, start: int, end: int) -> "Sums":
        """Return some places: the last dimension from ``start`` to before ``end``."""
        return self.through(lambda one: one[..., start:end])

    def through(self, fn: Callable[[Integers], Integers]) -> "Sums":
        """Apply a function to each of the three."""
        return Sums(gradient=fn(self.gradient), curvature=fn(self.curvature), count=fn(self.count))

    def with_(self, other: "Sums", fn: Callable[[Integers, Integers], Integers]) -> "Sums":
        """Join each of the three with another's."""
        return Sums(
            gradient=fn(self.gradient, other.gradient),
            curvature=fn(self.curvature, other.curvature),
            count=fn(self.count, other.count),
        )


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The best split of each node, all of shape [m, K].

    Attributes:
        gain: of the loss; :data:`_LEAST_GAIN` where there is no split.
        input: number of the input; NO_SPLIT where there is none.
        cell: the last cell that goes left.
        missing_left: whether missing values do, 0 or 1.
        left: sums on the left.
    """

    gain: Floats
    input: Floats
    cell: Floats
    missing_left: Floats
    left: Sums


def grow(trees: Tensors, sums: Sums, *, tree: int, level: int, rules: Rules) -> None:
    """Grow one level of one tree, of every group; ``trees`` are changed in place.

    Args:
        trees: the model's tensors.
        sums: [nodes, K, D], of which the first 2^level nodes are the level's.
        tree: number of the tree, from 0.
        level: of its nodes, from 0.
        rules: what makes a split and a leaf.
    """
    starts = starts_of(trees["layout"])
    nodes, leaves = 2**level, trees["leaf"].shape[2]
    sums = sums.through(lambda one: one[:nodes])
    # Every record is in one place of each input: any input's places add up to the node
    whole = sums.through(lambda one: one[..., : starts[1]].sum(axis=-1))
    records = max(1, int(whole.count[:, 0].sum()))
    found = best_splits(sums, whole, starts=starts, rules=rules)

    def write(name: str, first: int, values: Floats) -> None:
        # One row a group in the model, one column in sums
        trees[name][tree, :, first : first + len(values)] = torch.from_numpy(values.T).float()

    write("split_input", nodes - 1, found.input)
    write("split_cell", nodes - 1, found.cell)
    write("missing_left", nodes - 1, found.missing_left)
    write("gain", nodes - 1, numpy.where(found.input == NO_SPLIT, 0.0, found.gain) / records)
    write("cover", nodes - 1, whole.curvature / UNIT / records)
    if 2 * nodes < leaves:
        return
    # Of a node without a split everything goes left
    right = whole.with_(found.left, numpy.subtract)
    both = found.left.with_(right, lambda one, other: numpy.stack((one, other), axis=1))
    both = both.through(lambda one: one.reshape(leaves, -1))
    write("leaf", 0, _values(both, rules))
    write("cover", leaves - 1, both.curvature / UNIT / records)


def _values(parts: Sums, rules: Rules) -> Floats:
    """Return leaves' values."""
    weight = parts.curvature / UNIT + rules.l2
    step = parts.gradient / UNIT / numpy.where(weight > 0, weight, 1.0)
    return numpy.where(weight > 0, -rules.learning_rate * step, 0.0)


def best_splits(sums: Sums, whole: Sums, *, starts: list[int], rules: Rules) -> Splits:
    """Return each node's split of the largest gain, of equal ones the first.

    Args:
        sums: of a level, [m, K, D].
        whole: the nodes' own sums, [m, K].
        starts: where each input's places begin, F + 1 numbers.
        rules: what a split has to keep.
    """
    empty = numpy.zeros(whole.count.shape)
    best = Splits(
        gain=empty + _LEAST_GAIN,
        input=empty + NO_SPLIT,
        cell=empty,
        missing_left=empty,
        left=whole,
    )
    for number, (start, end) in enumerate(itertools.pairwise(starts)):
        here = sums.part(start, end)
        missing = here.part(0, 1)
        present = here.part(1, end - start).through(lambda one: one.cumsum(axis=-1))
        for is_left, left in ((False, present), (True, present.with_(missing, numpy.add))):
            side = _Side(number=number, is_left=is_left, left=left, missing=missing.count[..., 0])
            best = _better(best, side, whole, rules)
    return best


@dataclass(frozen=True, kw_only=True)
class _Side:
    """All splits of one input, with its missing values on one side.

    Attributes:
        number: of the input.
        is_left: whether missing values go left.
        left: sums on the left of each split, [m, K, c].
        missing: numbers of records without a value, [m, K].
    """

    number: int
    is_left: bool
    left: Sums
    missing: Integers


def _better(best: Splits, side: _Side, whole: Sums, rules: Rules) -> Splits:
    """Return the best splits so far, those of one side included."""
    gains = _gains(side.left, whole.through(lambda one: one[..., None]), rules)
    at = gains.argmax(axis=-1)[..., None]
    gain = numpy.take_along_axis(gains, at, axis=-1)[..., 0]
    chosen = side.left.through(lambda one: numpy.take_along_axis(one, at, axis=-1)[..., 0])
    # Without a missing value there is no side to learn: theirs will be the larger one
    larger = 2 * chosen.count >= whole.count
    missing_left = numpy.where(side.missing > 0, side.is_left, larger)
    is_better = gain > best.gain
    return Splits(
        gain=numpy.where(is_better, gain, best.gain),
        input=numpy.where(is_better, side.number, best.input),
        cell=numpy.where(is_better, at[..., 0] + 1.0, best.cell),
        missing_left=numpy.where(is_better, missing_left, best.missing_left),
        left=chosen.with_(best.left, lambda one, other: numpy.where(is_better, one, other)),
    )


def _gains(left: Sums, whole: Sums, rules: Rules) -> Floats:
    """Return what each split gains, [m, K, c]; -1 for one that breaks a rule."""
    right = whole.with_(left, numpy.subtract)

    def score(part: Sums) -> Floats:
        slope, weight = part.gradient / UNIT, part.curvature / UNIT + rules.l2
        return slope * slope / numpy.where(weight > 0, weight, 1.0)

    allowed = numpy.ones(left.count.shape, bool)
    for part in (left, right):
        allowed &= part.curvature / UNIT >= rules.min_child_weight
        allowed &= part.count >= rules.min_records
    return numpy.where(allowed, score(left) + score(right) - score(whole), -1.0)


__all__ = ["SUMMED", "UNIT", "Integers", "Rules", "Splits", "Sums", "best_splits", "grow"]
