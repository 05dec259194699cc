"""One record as methods of attribution take it: an input, a baseline, and the units between them.

Legend: u units, such as columns, tokens or patches of a picture; b copies of the record.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import torch
from datasets import Dataset
from torch import Tensor, nn

from confide.tasks.task import Batch

Layout = Literal["bars", "words", "map", "table"]
"""How attributions are shown: a bar a column or item, words in a text, a map over two axes, a table
of what was written by what was given."""
ScoreFn = Callable[[Tensor], Tensor]
"""Outputs [b, ...] -> the number that is explained, [b]; of what is written, which is explained
piece by piece, [b, k]."""
FIXED = -1
"""Group of entries that belong to no unit: they are the same in record and baseline."""


class Unit(NamedTuple):
    """What gets one attribution.

    Attributes:
        name: such as a column, a token or a patch.
        value: what the record has there, as text; "" where the name says it.
    """

    name: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.name} = {self.value}" if self.value else self.name


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """What a map of attributions lies over.

    Attributes:
        picture: values of the record, 0 to 1, shape [h, w] or [h, w, 3].
        rows: what the vertical axis is, and its ends, as a sentence.
        columns: the same of the horizontal axis.
        map_fn: entries of one input -> what lies over the picture, [h, w].
    """

    picture: Tensor
    rows: str
    columns: str
    map_fn: Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One record, ready to be explained.

    Attributes:
        units: u of them.
        inputs: what the record is to the model, shape [1, ...]: numbers, or ids.
        baseline: what it would be without any unit, of the same shape.
        groups: unit that each entry belongs to, int64 of the shape of one input; FIXED of none.
            None where units are not told apart in it.
        outputs_fn: inputs [b, ...] -> outputs [b, ...].
        mixed_fn: which units are as in the record, bool [b, u], the others as in the baseline ->
            outputs [b, ...].
        layer: turns ids into vectors, where inputs are ids; None where they are numbers.
        has_gradient: whether outputs have a gradient in the inputs, or in the layer's vectors.
        batch: the record as its task encodes it.
        canvas: what a map lies over; None for other layouts.
        joined: of words, whether each goes on the word before it; () for other layouts.
    """

    units: Sequence[Unit]
    inputs: Tensor
    baseline: Tensor
    groups: Tensor | None
    outputs_fn: Callable[[Tensor], Tensor]
    mixed_fn: Callable[[Tensor], Tensor]
    layer: nn.Module | None = None
    has_gradient: bool = False
    batch: Batch = field(default_factory=dict)
    canvas: Canvas | None = None
    joined: Sequence[bool] = ()

    def of_units(self, entries: Tensor) -> Tensor:
        """Sum attributions of entries to those of units.

        Args:
            entries: of the shape of one input, or of several pieces [k, ...].

        Returns:
            Shape [u], or [k, u].
        """
        assert self.groups is not None
        groups = self.groups.reshape(-1)
        flat = entries.reshape(*entries.shape[: entries.dim() - self.groups.dim()], -1).double()
        kept = groups != FIXED
        sums = torch.zeros((*flat.shape[:-1], len(self.units)), dtype=torch.float64)
        return sums.index_add_(-1, groups[kept], flat[..., kept])


class Explainer(Protocol):
    """The seam for kinds of records: what one is made of; one implementation, one file.

    Made of a predictor, its network and the name of a baseline.
    """

    layout: Layout
    what: str
    """What a unit is, in words."""
    baselines: Mapping[str, str]
    """Name -> what the record is compared with, the default first."""

    def case(self, record: Dataset) -> Case:
        """Take one record apart."""


def by_groups(
    case_inputs: Tensor,
    baseline: Tensor,
    groups: Tensor,
    outputs_fn: Callable[[Tensor], Tensor],
) -> Callable[[Tensor], Tensor]:
    """Return what maps units that are on [b, u] to outputs, where entries stand for units."""

    def mixed(on: Tensor) -> Tensor:
        # One more, always on: for entries that belong to no unit
        kept = torch.cat([on.bool(), torch.ones((len(on), 1), dtype=torch.bool)], dim=1)
        return outputs_fn(torch.where(kept[:, groups], case_inputs, baseline))

    return mixed


def expanded(batch: Batch, name: str, inputs: Tensor) -> Batch:
    """Return a batch of one record as often as there are inputs, with these in one column."""
    others = {key: value.expand(len(inputs), *value.shape[1:]) for key, value in batch.items()}
    return {**others, name: inputs}


__all__ = [
    "FIXED",
    "Canvas",
    "Case",
    "Explainer",
    "Layout",
    "ScoreFn",
    "Unit",
    "by_groups",
    "expanded",
]
