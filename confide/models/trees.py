"""Boosted trees as fixed-shape tensors: what travels, what predicts, and the way to it from rows.

A row is one cell number an input (:mod:`confide.encodings.tree_cells`): 0 where the value is
missing, otherwise 1 to the input's number of cells. Legend: T trees one after the other, each of K
groups (1 for two classes, else one a class), depth d, N = 2^d - 1 nodes and L = 2^d leaves in the
order of a complete binary tree, F inputs, D places of a sum: an input's missing place and its
cells, input after input.
"""

import hashlib
import itertools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from confide.config.models.table import BACKBONES
from confide.config.models.trees import TreesConfig
from confide.config.tasks.tabular import TabularConfig
from confide.errors import ConfigError
from confide.models.workload import Order, Workload
from confide.protocol.tensors import Shapes, Tensors
from confide.tasks.task import TableTask

NO_SPLIT = -1.0
"""Input of a node that has no split: everything goes on to the left."""


class Trees(nn.Module):
    """Boosted trees; each tensor is a parameter, so that it travels, though no gradient is taken.

    Args:
        config: number and depth of trees.
        cells: number of cells of each input, F of them.
        num_classes: two or more.
    """

    def __init__(self, config: TreesConfig, cells: Sequence[int], num_classes: int) -> None:
        super().__init__()
        trees = (config.num_trees, groups_of(num_classes))
        nodes, leaves = 2**config.depth - 1, 2**config.depth
        # Which input a place of a sum is of: the layout of what institutions send
        places = [float(i) for i, count in enumerate(cells) for _ in range(count + 1)]
        self.layout = nn.Parameter(torch.tensor(places))
        # As the plan says it, whatever tensors are loaded
        self.own_layout: Tensor
        self.register_buffer("own_layout", torch.tensor(places), persistent=False)
        self.split_input = nn.Parameter(torch.full((*trees, nodes), NO_SPLIT))
        self.split_cell = nn.Parameter(torch.zeros(*trees, nodes))
        self.missing_left = nn.Parameter(torch.zeros(*trees, nodes))
        self.gain = nn.Parameter(torch.zeros(*trees, nodes))
        self.cover = nn.Parameter(torch.zeros(*trees, nodes + leaves))
        self.leaf = nn.Parameter(torch.zeros(*trees, leaves))

    def forward(self, features: Tensor) -> Tensor:
        """Map cell numbers [b, F] to logits [b, c]."""
        tensors = {name: value.detach() for name, value in self.named_parameters()}
        return logits_of(margins_of(tensors, features))


def groups_of(num_classes: int) -> int:
    """Return K: one margin tells two classes apart."""
    return 1 if num_classes == 2 else num_classes


def logits_of(margins: Tensor) -> Tensor:
    """Map margins [b, K] to logits [b, c]: of two classes the first one's is 0."""
    if margins.shape[1] > 1:
        return margins
    return torch.cat((torch.zeros_like(margins), margins), dim=1)


def depth_of(shapes: Shapes) -> int:
    """Return d of a model with these shapes."""
    return shapes["leaf"][-1].bit_length() - 1


def routed(trees: Tensors, cells: Tensor, levels: int) -> Tensor:
    """Send rows down the trees.

    Args:
        trees: of a model, all or some of its T trees.
        cells: cell numbers, [b, F].
        levels: how far, at most d.

    Returns:
        Positions among the 2^levels nodes of that level, int64, shape [b, T, K].
    """
    shape, (rows, inputs) = trees["split_input"].shape, cells.shape
    first = torch.arange(shape[0] * shape[1], device=cells.device) * shape[2]
    tables = {
        name: trees[name].reshape(-1) for name in ("split_input", "split_cell", "missing_left")
    }
    node: Tensor = torch.zeros((rows, len(first)), dtype=torch.int64, device=cells.device)
    for _ in range(levels):
        at = first + node
        asked = tables["split_input"][at]
        # Within the row, whatever a stranger's tensors say
        found = cells.gather(1, asked.long().clamp(0, inputs - 1))
        is_missing = found == 0
        # In these words and not by `where`, which ONNX's runtime has for no truth values
        left = (is_missing & (tables["missing_left"][at] > 0)) | (
            ~is_missing & (found <= tables["split_cell"][at])
        )
        node = 2 * node + 2 - (left | (asked < 0)).long()
    at_level: Tensor = node - (2**levels - 1)
    return at_level.reshape(rows, shape[0], shape[1])


def margins_of(trees: Tensors, cells: Tensor, start: Tensor | None = None) -> Tensor:
    """Add up the trees' values, one after the other in float32, as xgboost does.

    A row's margins depend on no other row, to the last bit.

    Args:
        trees: of a model, all or some of its T trees.
        cells: cell numbers, [b, F].
        start: margins of the trees before these, [b, K]; None for zeros.

    Returns:
        float32, shape [b, K].
    """
    leaf = trees["leaf"]
    count, groups, leaves = leaf.shape
    place = routed(trees, cells, depth_of({"leaf": tuple(leaf.shape)}))
    first = torch.arange(count * groups, device=cells.device).reshape(count, groups) * leaves
    values = leaf.reshape(-1)[first + place]
    total = values.new_zeros((len(cells), groups)) if start is None else start
    for number in range(count):
        total = total + values[:, number]
    return total


def part_of(trees: Tensors, first: int, last: int) -> Tensors:
    """Return trees ``first`` to ``last - 1``, with the layout."""
    return {name: value if name == "layout" else value[first:last] for name, value in trees.items()}


def digest_of(trees: Tensors) -> str:
    """Hash all that decides the margins of some trees."""
    digest = hashlib.sha256()
    for name in ("split_input", "split_cell", "missing_left", "leaf"):
        digest.update(f"{name}{tuple(trees[name].shape)}".encode())
        digest.update(trees[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def starts_of(layout: Tensor) -> list[int]:
    """Return where in a sum each input's places begin, and the end: F + 1 numbers."""
    counts = torch.bincount(layout.long())
    return [0, *itertools.accumulate(counts.tolist())]


def gains_by_column(trees: Tensors, task: TabularConfig) -> dict[str, float]:
    """Return column -> its share of all gain, the largest first; {} of trees without a split."""
    owners = [
        name for name, column in task.columns.items() for _ in column.tree_cells(task.numeric)
    ]
    split, gain = trees["split_input"].reshape(-1).long(), trees["gain"].reshape(-1).double()
    totals = dict.fromkeys(task.columns, 0.0)
    for owner, value in zip(split.tolist(), gain.tolist(), strict=True):
        if owner >= 0:
            totals[owners[owner]] += value
    whole = sum(totals.values())
    if not whole:
        return {}
    ordered = sorted(totals, key=totals.__getitem__, reverse=True)
    return {name: totals[name] / whole for name in ordered}


def build_trees(config: TreesConfig, order: Order) -> Workload:
    """Build trees that are still to grow.

    Args:
        config: number and depth of trees.
        order: whose task encodes rows of cells.

    Raises:
        ConfigError: if the task encodes its records by itself, or has an outcome of another kind.
    """
    schema, kind = order.task, BACKBONES[config.kind]
    if not isinstance(schema, TabularConfig) or schema._target_ is not None:
        raise ConfigError(
            f"backbone.kind=trees reads columns by the schema, and task.kind={schema.kind},"
            f" task._target_={schema._target_} does not; choose another backbone."
        )
    if kind.outcomes is not None and schema.outcome.kind not in kind.outcomes:
        raise ConfigError(
            f"backbone.kind=trees does not predict task.outcome.kind={schema.outcome.kind}; choose"
            " another backbone."
        )
    task = cast(TableTask, order.task_fn({}))
    model = Trees(config, schema.tree_cells, order.task.num_outputs).to(order.compute.device)

    def insight(trees: Tensors) -> dict[str, dict[str, float]]:
        return {"gain_by_column": gains_by_column(trees, schema)}

    return Workload(task, model, task.encode, task.synthetic, order.compute, insight_fn=insight)


__all__ = [
    "NO_SPLIT",
    "Trees",
    "build_trees",
    "depth_of",
    "digest_of",
    "gains_by_column",
    "groups_of",
    "logits_of",
    "margins_of",
    "part_of",
    "routed",
    "starts_of",
]
