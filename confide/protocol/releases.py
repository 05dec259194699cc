"""What a plan that asks for quantiles is answered with: noisy counts of trees of cells."""

from confide.encodings.cells import CELLS
from confide.privacy.histogram_tree import num_nodes
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Shapes

COUNTS = "counts"
"""Name of the one tensor: a row a column, in the schema's order, level by level from the root."""


def release_shapes(plan: TrainingPlan) -> Shapes:
    """Return the shapes of the answer to a plan that asks for quantiles."""
    return {COUNTS: (len(plan.task.released_columns), num_nodes(CELLS))}


__all__ = ["COUNTS", "release_shapes"]
