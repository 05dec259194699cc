"""Statistics of a table: counts, moments and products of pairs, in one Gaussian vector.

A unit's record adds to every partition (:mod:`confide.releases.figures`) one count: a vector of
norm sqrt(partitions). With v in [-1, 1] the place of a number in its public range, and p whether it
is there, it adds (p, v, v^2) for each numeric column, and for a number that is predicted, of norm
at most sqrt(3 columns), and
(v v', v p', p v', p p', v^2 p', p v'^2) for each pair of them, of norm at most sqrt(6 pairs), from
which the correlation of those that have both is read. A group adds the mean of its records'
vectors, no longer than the longest. The parts share the noise: a part with the share s of it has
the scale norm / sqrt(s), so that the whole vector moves by at most 1.

Without a protected unit no noise hides anybody, and figures leave above the policy's floor alone:
:mod:`confide.releases.floors`. They travel in two float32, the second what the first cannot hold.
"""

from collections.abc import Iterator, Mapping

from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.task import TaskConfig
from confide.releases.figures import Partition, Read, numbers, pairs, partitions, read
from confide.releases.release import Asked, Floats, Records, ReleaseKind, Sums

FIGURE_COUNTS, MOMENTS, PRODUCTS = "counts", "moments", "products"
"""Names of the tensors: counts of all partitions' cells, [m]; count, sum and sum of squares of
numeric columns and of a number that is predicted, [c, 3]; sums of pairs of columns, [pairs, 6]; the
last two with another axis of 2 without a protected unit."""
_PRODUCTS, BOTH = 6, 3
"""Sums of a pair, and the place of their count among them."""
_SHARES = {FIGURE_COUNTS: 0.4, MOMENTS: 0.35, PRODUCTS: 0.25}


def counted(plan: Asked) -> list[Partition]:
    """Return the partitions that a plan's release counts.

    Quantiles of columns whose edges runs need are a release of their own, which is not paid twice:
    it holds their histograms too.
    """
    return partitions(plan.task, without=plan.task.released_columns if plan.private else ())


def _asks(plan: Asked) -> str:
    columns = ", ".join(plan.task.table_columns)
    told = ", ".join(plan.task.target_columns)
    return f"statistics of {f'columns {columns} and ' if columns else ''}the outcome {told}, once"


def _problems(plan: Asked) -> Iterator[str]:
    if plan.edges is not None:
        yield "releases=statistics: expected no edges."
    if not partitions(plan.task):
        yield (
            "releases=statistics: expected a task with columns of a table, or with an outcome that"
            " is counted."
        )


def _task(plan: Asked) -> TaskConfig:
    return plan.task.as_figures() if isinstance(plan.task, TabularConfig) else plan.task


def _shapes(plan: Asked) -> Mapping[str, tuple[int, ...]]:
    parts, columns = counted(plan), numbers(plan.task)
    halves = () if plan.private else (2,)
    shapes = {
        FIGURE_COUNTS: (sum(part.cells for part in parts),),
        MOMENTS: (columns, 3, *halves),
        PRODUCTS: (len(pairs(plan.task)), _PRODUCTS, *halves),
    }
    return {name: shape for name, shape in shapes.items() if shape[0]}


def _scales(plan: Asked) -> Mapping[str, float]:
    columns = numbers(plan.task)
    squares = {
        FIGURE_COUNTS: len(counted(plan)),
        MOMENTS: 3 * columns,
        PRODUCTS: _PRODUCTS * len(pairs(plan.task)),
    }
    # What is not there needs no noise, and leaves its share to the others
    together = sum(_SHARES[name] for name, square in squares.items() if square)
    return {
        name: (square * together / _SHARES[name]) ** 0.5
        for name, square in squares.items()
        if square
    }


def _sums(plan: Asked, records: Records) -> Sums:
    import numpy

    parts = counted(plan)
    seen, weights = read(_task(plan), records, parts), records.weights
    counts = [
        numpy.bincount(seen.cells[:, i], weights=weights, minlength=part.cells)
        for i, part in enumerate(parts)
    ]
    return _there(
        plan, numpy.concatenate([numpy.zeros(0), *counts]), *_moments(plan, seen, weights)
    )


def _moments(plan: Asked, seen: Read, weights: Floats) -> tuple[Floats, Floats]:
    """Return [c, 3] and [pairs, 6]: sums of columns and of their pairs."""
    import numpy

    values, present = seen.values, seen.present
    moments = numpy.stack([weights @ part for part in (present, values, values**2)], axis=1)
    products = [
        [
            weights @ (values[:, i] * values[:, j]),
            weights @ (values[:, i] * present[:, j]),
            weights @ (present[:, i] * values[:, j]),
            weights @ (present[:, i] * present[:, j]),
            weights @ (values[:, i] ** 2 * present[:, j]),
            weights @ (present[:, i] * values[:, j] ** 2),
        ]
        for i, j in pairs(plan.task)
    ]
    return moments, numpy.array(products).reshape(len(products), _PRODUCTS)


def _there(plan: Asked, counts: Floats, moments: Floats, products: Floats) -> Sums:
    found = {FIGURE_COUNTS: counts, MOMENTS: moments, PRODUCTS: products}
    return {name: found[name] for name in _shapes(plan)}


def _exact(plan: Asked, records: Records, min_cell: int) -> Sums:
    """Return what leaves without noise: figures of at least ``min_cell`` units each."""
    import numpy

    from confide.releases.floors import Support, floored_counts, floored_moments

    parts = counted(plan)
    seen = read(_task(plan), records, parts)
    support = Support(owners=records.groups, least=min_cell)
    told = [floored_counts(part, seen.cells[:, i], support) for i, part in enumerate(parts)]
    moments, products = _moments(plan, seen, numpy.ones(len(records.labels)))
    floored_moments(moments, products, BOTH, pairs(plan.task), seen, support)
    return _there(
        plan, numpy.concatenate([numpy.zeros(0), *told]), _halves(moments), _halves(products)
    )


def _halves(values: Floats) -> Floats:
    """Split float64 [...] into two float32 that add up to it: [..., 2]."""
    import numpy

    first = values.astype("float32").astype(float)
    return numpy.stack([first, values - first], axis=-1)


STATISTICS = ReleaseKind(
    job="statistics",
    title="statistics",
    asks_fn=_asks,
    problems_fn=_problems,
    task_fn=_task,
    shapes_fn=_shapes,
    scales_fn=_scales,
    sums_fn=_sums,
    exact_fn=_exact,
    resolution=0.25,
    is_shown=True,
)

__all__ = ["BOTH", "FIGURE_COUNTS", "MOMENTS", "PRODUCTS", "STATISTICS", "counted"]
