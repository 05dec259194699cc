"""The Gram matrix of encoded rows: how inputs vary together, by which noisy gradients are scaled.

With z = (r x / |x|, 1) / R, a row x scaled to the norm r of the plan's model, the intercept's 1
and R^2 = r^2 + 1, a record adds z z^T, and a group the mean of its records' (as its gradient is the
mean of theirs). Labels have no part in it.

**Sensitivity.** |z| = 1, so that z z^T has the Frobenius norm |z|^2 = 1; a mean of such matrices is
no longer, by convexity. What travels is the upper triangle, each element beside the diagonal times
sqrt(2): the norm of that vector is the Frobenius norm of the matrix, since sum_i m_ii^2 + sum_{i<j}
(sqrt(2) m_ij)^2 = sum_ij m_ij^2. So zeroing one unit out moves the vector by at most 1, and one
Gaussian vector with the noise multiplier as its deviation protects it. Read back, an element beside
the diagonal has sqrt(1/2) of that noise: a symmetric Gaussian matrix, whose largest eigenvalue
stays near sqrt(2 D) deviations (D its width).

Rows are scaled here, whatever encoded them, and one that is not finite counts as zero. They are
1 - 2^-11 long, which covers that float64 sums round: a block of 2^13 rows by at most 2^-27, of
which one group's records lie in 10,000 at most, and the sum of the blocks of 2^25 units by 2^-16.
"""

import math
from collections.abc import Iterator, Mapping

from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.task import TaskConfig
from confide.releases.release import Asked, Floats, Records, ReleaseKind, Sums

GRAM = "gram"
"""Name of the one tensor: the scaled upper triangle, row by row, shape [D (D + 1) / 2]."""
MOST_INPUTS = 2047
"""Of an encoded row: with the intercept, a matrix of 2,048 rows, 8 MiB to send."""
_WITHIN = 1 - 2.0**-11
_SHORTEST = 1e-6  # as in confide.models.networks: a shorter row is scaled as if it had this norm
_BLOCK = 2**13


def _inputs(plan: Asked) -> int:
    task = plan.training_task
    return task.num_inputs if isinstance(task, TabularConfig) else 0


def _asks(plan: Asked) -> str:
    return f"the Gram matrix of {_inputs(plan)} inputs and an intercept, once"


def _problems(plan: Asked) -> Iterator[str]:
    if not plan.private or plan.backbone.row_norm is None or not plan.backbone.is_linear:
        yield "releases=gram: expected a protected unit and a linear model on rows of one norm."
    if getattr(plan.backbone, "pairs", ()):
        yield "releases=gram: expected inputs of columns alone; leave backbone.pairs out."
    if not 1 <= _inputs(plan) <= MOST_INPUTS:
        yield (
            f"releases=gram: {_inputs(plan)} inputs, expected a table of 1 to {MOST_INPUTS}; lower"
            " task.numeric.bins, or choose client=private_table."
        )


def _task(plan: Asked) -> TaskConfig:
    return plan.training_task


def _shapes(plan: Asked) -> Mapping[str, tuple[int, ...]]:
    width = _inputs(plan) + 1
    return {GRAM: (width * (width + 1) // 2,)}


def _scales(plan: Asked) -> Mapping[str, float]:
    return {GRAM: 1.0}


def _sums(plan: Asked, records: Records) -> Sums:
    import numpy

    norm = plan.backbone.row_norm
    assert norm is not None  # else it was refused
    rows = unit_rows(records.features, norm)
    weights = records.weights
    total = numpy.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        total += (block * weights[start : start + _BLOCK, None]).T @ block
    return {GRAM: packed(total)}


def unit_rows(features: Floats, norm: float) -> Floats:
    """Return rows of norm 1 at most, with the intercept: shape [n, d + 1].

    Args:
        features: encoded rows, shape [n, d].
        norm: r, what the model scales them to.
    """
    import numpy

    lengths = numpy.sqrt(numpy.square(features).sum(axis=1))
    known = numpy.isfinite(lengths)
    features = numpy.where(known[:, None], features, 0.0)
    scaled = features * (norm / numpy.maximum(numpy.where(known, lengths, 1.0), _SHORTEST))[:, None]
    rows: Floats = numpy.concatenate([scaled, known[:, None]], axis=1)
    return rows * (_WITHIN / math.hypot(norm, 1.0))


def packed(matrix: Floats) -> Floats:
    """Return the upper triangle of a symmetric matrix, as it travels."""
    import numpy

    rows, columns = numpy.triu_indices(len(matrix))
    triangle: Floats = matrix[rows, columns] * numpy.where(rows == columns, 1.0, math.sqrt(2.0))
    return triangle


def unpacked(triangle: Floats) -> Floats:
    """Undo :func:`packed`: shape [D, D]."""
    import numpy

    width = (math.isqrt(8 * len(triangle) + 1) - 1) // 2
    rows, columns = numpy.triu_indices(width)
    matrix: Floats = numpy.zeros((width, width))
    matrix[rows, columns] = triangle / numpy.where(rows == columns, 1.0, math.sqrt(2.0))
    matrix[columns, rows] = matrix[rows, columns]
    return matrix


GRAM_MATRIX = ReleaseKind(
    job="gram",
    title="Gram matrices",
    asks_fn=_asks,
    problems_fn=_problems,
    task_fn=_task,
    shapes_fn=_shapes,
    scales_fn=_scales,
    sums_fn=_sums,
    # float32 holds its multiples up to 2 million, more than any element of that many records
    resolution=0.125,
    keeps=("edges", "backbone"),
)

__all__ = ["GRAM", "GRAM_MATRIX", "MOST_INPUTS", "packed", "unit_rows", "unpacked"]
