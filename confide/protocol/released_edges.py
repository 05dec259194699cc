"""Edges that institutions released before a run, as its plan names them."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from confide.config.fields import STRICT
from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.task import TaskConfig


@dataclass(frozen=True, kw_only=True)
class ReleasedEdges:
    """Quantiles of numeric columns that institutions released before a run.

    Attributes:
        job: the job that each institution's ledger counts the release under.
        epsilon: what the release costs a unit, at the plan's delta; 0 where nothing is protected.
        columns: column -> inner edges, ascending, inside its range.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    job: str
    epsilon: float
    columns: dict[str, list[float]]

    @property
    def sha256(self) -> str:
        """Hash of the edges, by which reports name them."""
        return hashlib.sha256(json.dumps(self.columns, sort_keys=True).encode()).hexdigest()

    def problems(self, task: TaskConfig, *, budget: float | None) -> Iterator[str]:
        """Yield what does not fit a plan.

        Args:
            task: of the plan.
            budget: epsilon of the plan; None without privacy.
        """
        if set(self.columns) != set(task.released_columns):
            yield "edges: expected those of the columns that task.numeric.edges=released is for."
            return
        for name, edges in self.columns.items():
            # Each is an input of every record: a coordinator's list must not fill the memory
            if isinstance(task, TabularConfig) and len(edges) >= task.numeric.bins:
                yield (
                    f"edges.{name}: {len(edges)} edges, expected fewer than"
                    f" task.numeric.bins={task.numeric.bins}."
                )
            column = dataclasses.replace(task.table_columns[name], edges=edges)
            yield from (f"edges.{name}: {problem}" for problem in column.problems())
        if budget is not None and not 0 < self.epsilon < budget:
            yield (
                f"edges.epsilon={self.epsilon:g}: expected > 0 and less than"
                f" privacy.epsilon={budget:g}, of which it is a part."
            )


__all__ = ["ReleasedEdges"]
