"""Boosted trees."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.models.backbone import BackboneConfig
from confide.config.tunings.tuning import TuningConfig
from confide.encodings.tree_cells import CELLS


@dataclass
class TreesConfig(BackboneConfig):
    """Boosted trees on the cells of columns; grown level by level on summed histograms."""

    kind: str = setting("trees", "Kind of backbone.", choices=("trees",))
    num_trees: int = setting(
        60, "Trees grown one after the other; of several classes each has so many.", ge=1, le=5000
    )
    depth: int = setting(4, "Levels of a tree; each takes a round.", ge=1, le=10)
    cells: str = setting(
        "grid",
        "Where a number may be split. grid: at the edges of a public grid of its range, 162 cells;"
        " edges: at the edges of its column (numeric.edges, numeric.bins).",
        choices=CELLS,
    )

    @property
    def tree_encoding(self) -> str:
        """Cells of the public grid, or of columns' own edges."""
        return self.cells

    @property
    def needed_rounds(self) -> int:
        """One round a level."""
        return self.num_trees * self.depth

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model and its size."""
        return f"boosted trees, {self.num_trees} of depth {self.depth} one after the other"

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.row_norm is not None:
            yield f"row_norm={self.row_norm}: trees split columns one by one; leave it out."


__all__ = ["TreesConfig"]
