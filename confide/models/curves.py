"""The curves of a linear model of a table: what each column adds to an output, by its value.

An output of such a model is a sum over columns, f(x) = intercept + sum of f_j(x_j), with
f_j(x) = w_j . encoding(x). All that is read is the model and what is public of columns: whatever a
model protects, its curves protect (post-processing).
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy

from confide.config.models.perceptrons import AdditiveConfig
from confide.config.outcomes.outcome import DEFAULT_OUTCOME
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.tabular import TabularConfig
from confide.encodings.encoding import Floats, public_edges
from confide.models.perceptron import pair_spans
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors

_POINTS = 32  # cells of a column whose encoding has none
_LOG_ODDS = "log-odds of "
_WEIGHT, _BIAS = "layers.0.weight", "layers.0.bias"


def curves_of(plan: TrainingPlan, tensors: Tensors) -> dict[str, Any] | None:
    """Return the curves of a model, as JSON; None if it is no linear model of a table.

    Each curve has mean 0 over its points, and what that takes is in the intercept. Curves add up to
    the output where rows are as encoded (``"exact": true``). Where rows have one norm, all terms of
    a record are divided by the length of its row: here by the longest that it can be.

    Args:
        plan: task, edges and backbone.
        tensors: trainable tensors.
    """
    task, backbone = plan.encoded_task, plan.backbone
    if not (isinstance(task, TabularConfig) and backbone.is_linear) or task._target_ is not None:
        return None
    weight, bias = (tensors[name].double().numpy() for name in (_WEIGHT, _BIAS))
    outputs = list(task.outcome.output_names(task.labelling))
    if task.outcome.kind == DEFAULT_OUTCOME and len(outputs) == 2:
        # Of two classes only the difference matters
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
        outputs = [f"{_LOG_ODDS}{outputs[1]}"]
    factor = _factor(plan, task)
    intercept, columns, start = bias.copy(), {}, 0
    for name, column in task.columns.items():
        width = column.width(task.numeric)
        curve, constant = _curve(column, task, factor * weight[:, start : start + width])
        intercept, columns[name], start = intercept + constant, curve, start + width
    return {
        "outputs": outputs,
        "exact": backbone.row_norm is None and task.numeric.scaling != "row",
        "intercept": intercept.tolist(),
        "columns": columns,
        "pairs": list(_surfaces(plan, task, factor * weight)),
    }


def turned(curves: Mapping[str, Any], label: str | None) -> Mapping[str, Any]:
    """Return curves of one of two classes as those of a label, which may be the other class.

    Args:
        curves: as :func:`curves_of` has them.
        label: the class that is asked for; None for the one that they are of.
    """
    outputs = list(curves["outputs"])
    if label is None or len(outputs) != 1 or not outputs[0].startswith(_LOG_ODDS):
        return curves
    if outputs[0] == f"{_LOG_ODDS}{label}":
        return curves

    def negative(values: Any) -> Any:
        return [negative(one) for one in values] if isinstance(values, list) else -values

    return {
        **curves,
        "outputs": [f"{_LOG_ODDS}{label}"],
        "intercept": negative(curves["intercept"]),
        "columns": {
            name: {**one, "y": negative(one["y"]), "missing": negative(one["missing"])}
            for name, one in curves["columns"].items()
        },
        "pairs": [{**one, "z": negative(one["z"])} for one in curves["pairs"]],
    }


def _factor(plan: TrainingPlan, task: TabularConfig) -> float:
    """Return what a row's entries are multiplied by, at least, before they meet the weights."""
    norm = plan.backbone.row_norm or (1.0 if task.numeric.scaling == "row" else None)
    if norm is None:
        return 1.0
    lengths = {name: _longest(column, task) for name, column in task.columns.items()}
    squares = sum(length**2 for length in lengths.values())
    if isinstance(plan.backbone, AdditiveConfig):
        squares += sum(lengths[one] * lengths[two] for one, two in plan.backbone.pairs)
    return norm / math.sqrt(squares)


def _longest(column: ColumnConfig, task: TabularConfig) -> float:
    if column.kind != "numeric" or task.numeric.scaling != "none":
        return 1.0
    return column.encoding_of(task.numeric).bound_fn(column.scale(task.numeric))


def _encoded(column: ColumnConfig, task: TabularConfig) -> tuple[list[float], Floats]:
    """Return points of a numeric column, and their inputs [n, d] before rows are scaled."""
    encoding, scale = column.encoding_of(task.numeric), column.scale(task.numeric)
    edges = scale.edges
    if not encoding.has_edges:
        edges = public_edges(scale.minimum, scale.maximum, _POINTS)
    points = numpy.array(edges)
    if (column.encoding or task.numeric.encoding) == "one_hot":
        # A step at each edge: both of its sides
        inner = points[1:-1]
        points = numpy.sort(numpy.concatenate([points, numpy.nextafter(inner, -math.inf)]))
    inputs = encoding.encode_fn(points, scale)
    if task.numeric.scaling != "none":
        inputs = inputs / encoding.bound_fn(scale)
    return points.tolist(), inputs


def _block(column: ColumnConfig, task: TabularConfig) -> tuple[list[Any], Floats]:
    """Return values of a column and their whole inputs, the indicator's place included."""
    if column.kind == "numeric":
        values, inputs = _encoded(column, task)
        points: list[Any] = list(values)
    else:
        points = [*column.categories, *(["(other)"] if column.unseen == "other" else [])]
        inputs = numpy.eye(len(points))
    if column.indicator:
        inputs = numpy.concatenate([inputs, numpy.zeros((len(inputs), 1))], axis=1)
    return points, inputs


def _curve(
    column: ColumnConfig, task: TabularConfig, weight: Floats
) -> tuple[Mapping[str, Any], Floats]:
    """Return a column's curve for each output, and what was taken off it.

    Args:
        column: the column.
        task: its task, as encoded.
        weight: weights of its inputs, shape [c, d].
    """
    points, inputs = _block(column, task)
    heights = weight @ inputs.T
    mean = heights.mean(axis=1)
    missing = weight[:, -1] if column.indicator else numpy.zeros(len(weight))
    curve = {
        "kind": column.kind,
        "x": points,
        "y": (heights - mean[:, None]).tolist(),
        "missing": (missing - mean).tolist(),
    }
    return curve, mean


def _surfaces(
    plan: TrainingPlan, task: TabularConfig, weight: Floats
) -> Iterator[Mapping[str, Any]]:
    """Yield what each pair adds, for each output: a matrix [points, points]."""
    if not isinstance(plan.backbone, AdditiveConfig):
        return
    start = task.num_inputs
    for names, span in zip(plan.backbone.pairs, pair_spans(plan.backbone, task), strict=True):
        widths = (span[1] - span[0], span[3] - span[2])
        (x, one), (y, two) = (_block(task.columns[name], task) for name in names)
        weights = weight[:, start : start + widths[0] * widths[1]].reshape(-1, *widths)
        lengths = [numpy.sqrt(numpy.square(block).sum(axis=1)) for block in (one, two)]
        root = numpy.sqrt(numpy.maximum(lengths[0][:, None] * lengths[1][None, :], 1e-12))
        heights = numpy.einsum("cij,ni,mj->cnm", weights, one, two) / root
        yield {"columns": list(names), "x": x, "y": y, "z": heights.tolist()}
        start += widths[0] * widths[1]


__all__ = ["curves_of", "turned"]
