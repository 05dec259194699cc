"""Rows of a table with one outcome each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from confide.config.fields import setting
from confide.config.outcomes.table import OUTCOMES
from confide.config.tasks.columns import FIGURES, RELEASE, ColumnConfig, NumericConfig
from confide.config.tasks.task import TaskConfig


@dataclass
class TabularConfig(TaskConfig):
    """One outcome for one row of a table."""

    kind: str = setting("tabular", "Kind of task.", choices=("tabular",))
    columns: dict[str, ColumnConfig] = setting(
        dict, "Input columns, in order, each with its public range or categories."
    )
    numeric: NumericConfig = field(default_factory=NumericConfig)

    @property
    def content_columns(self) -> tuple[str, ...]:
        """The input columns, in their order."""
        return tuple(self.columns)

    @property
    def table_columns(self) -> Mapping[str, ColumnConfig]:
        """The input columns."""
        return self.columns

    @property
    def num_inputs(self) -> int:
        """Width of an encoded row."""
        return sum(column.width(self.numeric) for column in self.columns.values())

    @property
    def released_columns(self) -> tuple[str, ...]:
        """Columns whose edges are to be released before the run; () where none is."""
        if self.numeric.edges != "released":
            return ()
        return tuple(name for name, one in self.columns.items() if one.lacks_edges(self.numeric))

    def encoded(self, *, scaling: str, edges: Mapping[str, Sequence[float]]) -> "TabularConfig":
        """Return the schema with everything that encoding takes written into it."""
        numeric = self.numeric
        if numeric.scaling == "auto":
            # One input a column fills no norm, and models of releases before had them as they are.
            one_each = numeric.encoding == "linear"
            numeric = replace(numeric, scaling="none" if one_each else scaling)
        columns = {
            name: replace(column, edges=list(edges[name])) if name in edges else column
            for name, column in self.columns.items()
        }
        return replace(self, columns=columns, numeric=numeric)

    def in_cells(self) -> "TabularConfig":
        """Return the schema with the columns that are to be released as cells of a public grid."""
        return self._read_as(RELEASE, self.released_columns)

    def as_figures(self) -> "TabularConfig":
        """Return the schema with each numeric column as its cell and its place in the range."""
        return self._read_as(FIGURES, [n for n, it in self.columns.items() if it.kind == "numeric"])

    def _read_as(self, encoding: str, names: Sequence[str]) -> "TabularConfig":
        chosen = set(names)
        columns = {
            name: replace(column, encoding=encoding) if name in chosen else column
            for name, column in self.columns.items()
        }
        return replace(self, columns=columns, numeric=replace(self.numeric, scaling="none"))

    def for_trees(self, encoding: str) -> "TabularConfig":
        """Return the schema with columns as trees read them."""
        columns = {name: column.for_trees(encoding) for name, column in self.columns.items()}
        return replace(self, columns=columns, numeric=replace(self.numeric, scaling="none"))

    @property
    def tree_cells(self) -> list[int]:
        """Number of cells of each input, as trees read a record (:meth:`for_trees`)."""
        columns = self.columns.values()
        return [count for column in columns for count in column.tree_cells(self.numeric)]

    def places(self, names: Sequence[str]) -> list[int]:
        """Return where in an encoded row the first input of each of some columns is."""
        starts, start = {}, 0
        for name, column in self.columns.items():
            starts[name] = start
            start += column.width(self.numeric)
        return [starts[name] for name in names]

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from TaskConfig.problems(self)
        if not self.columns:
            yield "columns={}: expected at least one input column."
        # A model that sees the label learns nothing else.
        for name in self.target_columns if self.outcome.kind in OUTCOMES else ():
            if name in self.columns:
                yield f"columns.{name} is the label; remove it from the inputs."
        for name, column in self.columns.items():
            yield from column.encoding_problems(f"columns.{name}", self.numeric)


__all__ = ["TabularConfig"]
