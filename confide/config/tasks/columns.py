"""Columns of a table: what is public of each, and how it becomes inputs of a model."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from confide.config.fields import STRICT, setting
from confide.config.spelling import repeats
from confide.encodings.cells import AS_FIGURES, IN_CELLS
from confide.encodings.encoding import Encoding, Scale, between, public_edges
from confide.encodings.table import ENCODINGS
from confide.encodings.tree_cells import TREE_ENCODINGS, YES

RELEASE, FIGURES = "cells", "figures"
"""What a plan that asks for a release has columns encoded by; no schema may choose them."""
_RELEASED = {RELEASE: IN_CELLS, FIGURES: AS_FIGURES}
_TREES = "trees/"
"""Prefix of what a plan of trees has columns encoded by; no schema may choose these either."""
_MOST_EDGES = 1024


@dataclass
class NumericConfig:
    """How the numeric columns of a table are encoded, where a column does not say otherwise."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    encoding: str = setting(
        "piecewise",
        "Encoding of numeric columns. piecewise: one input a cell, which says how far the number"
        " fills it; one_hot: one input a cell, 1 where the number lies; periodic: sines and cosines"
        " of its logarithm; standardised: by a public mean and deviation; log, asinh: bent; linear:"
        " the number in its range.",
        choices=ENCODINGS,
    )
    bins: int = setting(
        16, "Cells of a column without edges of its own (periodic: waves).", ge=2, le=256
    )
    edges: str = setting(
        "public",
        "Edges of columns that give none. public: from the range alone, half of the cells in"
        " octaves towards the minimum; released: quantiles, released by each institution with noise"
        " before the run and charged to its budget (privacy.edges_epsilon).",
        choices=("public", "released"),
    )
    scaling: str = setting(
        "auto",
        "Length of an encoded row. none: as encoded; column: each column's inputs have a norm of at"
        " most 1; row: the whole row too; auto: under privacy row for"
        " a linear model and column for others, whose clipped gradients long rows would fill; none"
        " without, and where encoding=linear.",
        choices=("auto", "none", "column", "row"),
    )


@dataclass
class ColumnConfig:
    """One column of a table, with a public range.

    No statistic of the records is needed to encode it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = setting("numeric", "numeric or categorical.", choices=("numeric", "categorical"))
    minimum: float | None = setting(
        None, "Numeric: lowest value of the public range; lower ones are clipped."
    )
    maximum: float | None = setting(
        None, "Numeric: highest value of the public range; higher ones are clipped."
    )
    categories: list[str] = setting(list, "Categorical: the values, one input each.")
    missing_values: list[str] = setting(list, "Values that mean 'missing', beside an empty cell.")
    indicator: bool = setting(False, "Add an input that is 1 where the value is missing.")
    encoding: str | None = setting(
        None, "Numeric: its encoding; null: the task's numeric.encoding.", choices=ENCODINGS
    )
    edges: list[float] = setting(
        list,
        "Numeric: public edges of its cells inside the range, ascending, such as a reference"
        " interval; empty: as the task's numeric.edges says.",
    )
    mean: float | None = setting(None, "Numeric, standardised: a public mean.")
    deviation: float | None = setting(
        None, "Numeric, standardised: a public standard deviation.", gt=0
    )
    unseen: str = setting(
        "error",
        "Categorical: what a value that is not among categories is. error: refused; missing: a"
        " missing value; other: a category of its own, for all that are rare or new.",
        choices=("error", "missing", "other"),
    )

    def encoding_of(self, numeric: NumericConfig) -> Encoding:
        """Return how its numbers are encoded."""
        if self.tree_encoding is not None:
            return TREE_ENCODINGS[self.tree_encoding]
        name = self.encoding or numeric.encoding
        return _RELEASED[name] if name in _RELEASED else ENCODINGS[name]

    def for_trees(self, encoding: str) -> "ColumnConfig":
        """Return the column as trees read it, to whom missing is a value of its own.

        Args:
            encoding: one of :data:`~confide.encodings.tree_cells.TREE_ENCODINGS`.
        """
        return replace(self, encoding=_TREES + encoding, indicator=False)

    def tree_cells(self, numeric: NumericConfig) -> list[int]:
        """Return the number of cells of each of its inputs, as trees read it."""
        if self.kind == "numeric":
            return [int(self.encoding_of(numeric).bound_fn(self.scale(numeric)))]
        return [int(YES)] * self.width(numeric)

    @property
    def tree_encoding(self) -> str | None:
        """How trees read it; None where they do not."""
        name = self.encoding or ""
        return name.removeprefix(_TREES) if name.startswith(_TREES) else None

    def scale(self, numeric: NumericConfig) -> Scale:
        """Return what its encoding takes: all that is public of a numeric column."""
        assert self.minimum is not None
        assert self.maximum is not None
        if self.edges:
            edges = between(self.minimum, self.maximum, self.edges)
        else:
            edges = public_edges(self.minimum, self.maximum, numeric.bins)
        return Scale(
            minimum=self.minimum,
            maximum=self.maximum,
            edges=edges,
            bins=numeric.bins,
            mean=self.mean,
            deviation=self.deviation,
        )

    def lacks_edges(self, numeric: NumericConfig) -> bool:
        """Say whether it needs edges that its schema does not give."""
        return self.kind == "numeric" and not self.edges and self.encoding_of(numeric).has_edges

    def width(self, numeric: NumericConfig) -> int:
        """Return the number of inputs that it becomes."""
        # A missing category is all zeros; a missing number needs no input of its own either.
        if self.kind == "numeric":
            inputs = self.encoding_of(numeric).width_fn(self.scale(numeric))
        else:
            inputs = len(self.categories) + int(self.unseen == "other")
        return inputs + int(self.indicator)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        low, high = self.minimum, self.maximum
        # The difference of two finite numbers may be infinite.
        if self.kind == "numeric" and (
            low is None or high is None or not 0 < high - low < math.inf
        ):
            yield (
                f"minimum={self.minimum}, maximum={self.maximum}: expected two numbers, minimum <"
                " maximum."
            )
        # TRUE and true are one category, and so are 1 and 1.0
        if self.kind == "categorical" and (not self.categories or repeats(self.categories)):
            yield f"categories={self.categories}: expected distinct values, at least one."
        yield from self._edge_problems()

    def _edge_problems(self) -> Iterator[str]:
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        ascending = all(one < other for one, other in zip(self.edges, self.edges[1:], strict=False))
        inside = all(low < edge < high for edge in self.edges)
        if not ascending or not inside or len(self.edges) > _MOST_EDGES:
            yield (
                f"edges={self.edges[:_MOST_EDGES]}: expected at most {_MOST_EDGES} numbers between"
                f" minimum={self.minimum} and maximum={self.maximum}, ascending, without these two."
            )

    def encoding_problems(self, name: str, numeric: NumericConfig) -> Iterator[str]:
        """Yield what its encoding lacks, or does not use.

        Args:
            name: its key, for messages.
            numeric: what the task says of numeric columns.
        """
        only = {"numeric": ("encoding", "edges", "mean", "deviation"), "categorical": ("unseen",)}
        for kind, keys in only.items():
            idle = ColumnConfig()
            given = [key for key in keys if getattr(self, key) != getattr(idle, key)]
            if self.kind in only and self.kind != kind and given:
                yield (
                    f"{name}.{given[0]}={getattr(self, given[0])} is a setting of {kind} columns,"
                    f" and this one is {self.kind}; leave it out."
                )
        chosen = self.encoding or numeric.encoding
        if self.kind != "numeric" or chosen not in ENCODINGS:
            return
        encoding = ENCODINGS[chosen]
        for key in encoding.needs:
            if getattr(self, key) is None:
                yield f"{name}.{key}: encoding={chosen} needs it; give a public figure."
        for key in ("mean", "deviation"):
            if key not in encoding.needs and getattr(self, key) is not None:
                yield f"{name}.{key}: encoding={chosen} does not use it; leave it out."
        if self.edges and not encoding.has_edges:
            yield (
                f"{name}.edges: encoding={chosen} has no cells; leave them out, or choose"
                " encoding=piecewise."
            )


__all__ = ["FIGURES", "RELEASE", "ColumnConfig", "NumericConfig"]
