"""Boosting on summed histograms: each round grows one level of a tree.

Chen and Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016, arXiv 1603.02754, sections
2.2 and 3.2 (approximate splits on global candidates) and algorithm 3 (default directions):

- client: gradient g and curvature h of the loss at the margins of the trees before; for each node
  of the level and each place of the layout (an input's cell, or its missing values) the sums of g
  and h and the number of its records;
- server: for each node the split of the largest gain
  ``G_L^2 / (H_L + l2) + G_R^2 / (H_R + l2) - G^2 / (H + l2)``, missing values on the side where it
  is larger; after the last level leaves of ``-learning_rate * G / (H + l2)``.

One level a round and not one tree: a level's nodes are those that the level above has chosen, so
that sums of a whole tree at once would need every split there could be.

**Exact.** g and h are rounded to multiples of 2^-24 record by record and added up as integers. A
sum over up to 2^24 records is at most 2^48 of these units; it travels in two float32 halves of 24
bits each, in multiples of 2^-24 that are at most 1. All that is rounded is a function of a record
and of the trees before, so that any partition of the same records gives the same trees, bit for
bit.

Not private: sums of a cell with few records are these records' labels
(docs/design/0034-trees.md). The public constants here hold whatever n is; an institution with more
than 2^24 training records is refused.
"""

import itertools
import math
from dataclasses import replace
from typing import cast

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from confide.encodings.encoding import each
from confide.errors import DeniedError, ProtocolError
from confide.models.trees import (
    Trees,
    depth_of,
    digest_of,
    margins_of,
    part_of,
    routed,
    starts_of,
)
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import Shapes, Tensors, shapes_of
from confide.strategies.aggregators import SUM_BITS
from confide.strategies.algorithm import (
    Algorithm,
    ClientResult,
    ClientRound,
    ServerResult,
    ServerRound,
    StepFn,
    TrainFn,
    zeros_of,
)
from confide.strategies.algorithms.tree_splits import SUMMED, UNIT, Integers, Rules, Sums, grow

MOST_RECORDS = 2**SUM_BITS
"""Training records of an institution whose sums are exact."""
_STEEPEST = 500.0
"""A margin beyond it has the same probabilities; exp of it is still a number."""


def boosting(
    *, learning_rate: float, l2: float, min_child_weight: float, min_records: int
) -> Algorithm:
    """Build boosting on summed histograms; arguments are those of :class:`Rules`."""
    rules = Rules(
        learning_rate=learning_rate,
        l2=l2,
        min_child_weight=min_child_weight,
        min_records=min_records,
    )

    def server(given: ServerRound, step: StepFn) -> ServerResult:
        trees = {name: value.clone() for name, value in given.params.items()}
        tree, level = _place(given.server_round, given.params)
        grow(trees, Sums.of(given.update), tree=tree, level=level, rules=rules)
        return replace(step(zeros_of(given.params)), params=trees)

    return Algorithm(client=_client, server=server, sum_shapes=_sum_shapes)


def _place(server_round: int, params: Tensors) -> tuple[int, int]:
    """Return which tree and which level of it a round grows, both from 0.

    Raises:
        ProtocolError: if all trees are grown.
    """
    depth = depth_of(shapes_of(params))
    tree, level = divmod(server_round - 1, depth)
    if tree >= len(params["leaf"]):
        raise ProtocolError(
            f"Round {server_round}: all {len(params['leaf'])} trees are grown.",
            code=Refusal.ROUNDS_SPENT,
        )
    return tree, level


def _sum_shapes(shapes: Shapes) -> Shapes:
    """Return the shapes of what an institution sends: nodes of the widest level, groups, places."""
    _, groups, leaves = shapes["leaf"]
    one = (leaves // 2, groups, *shapes["layout"])
    halves = [f"{name}_{half}" for name in SUMMED for half in ("high", "low")]
    return dict.fromkeys([*halves, "count"], one)


def _client(given: ClientRound, train: TrainFn) -> ClientResult:
    if given.records is None:
        raise ValueError("Expected records: boosting declares that it reads them.")
    records = given.records.examples
    if len(records) > MOST_RECORDS:
        raise DeniedError(
            f"{len(records)} training records are more than the {MOST_RECORDS} whose sums are"
            " exact; divide the institution.",
            code=Refusal.TOO_MANY_RECORDS,
            figures={"allowed": float(MOST_RECORDS)},
        )
    trees = given.params
    tree, level = _place(given.server_round, trees)
    # Finer cells than those of the plan would part records that the plan's leave together
    if not torch.equal(trees["layout"], cast(Trees, given.records.model).own_layout.cpu()):
        raise ProtocolError(
            "Tensor layout has other places than the plan's columns.", code=Refusal.TENSOR_VALUES
        )
    cells = records.columns["features"].cpu()
    margins = _margins(given, tree, cells)
    slopes = derivatives(margins.numpy(), records.labels.cpu().numpy())
    nodes = routed(part_of(trees, tree, tree + 1), cells, level)[:, 0].numpy()
    shape = _sum_shapes(shapes_of(trees))["count"]
    places, starts = cells.long().numpy(), starts_of(trees["layout"])
    return ClientResult(update=histograms(places, nodes, slopes, starts=starts, shape=shape))


def _margins(given: ClientRound, tree: int, cells: Tensor) -> Tensor:
    """Return the margins of all trees before one, [n, K], with what is known of the tree before."""
    before = part_of(given.params, 0, tree)
    digest = digest_of(before)
    if digest not in given.memory:
        start, first = None, 0
        if tree:
            known = given.memory.get(digest_of(part_of(given.params, 0, tree - 1)))
            start, first = known, tree - 1 if known is not None else 0
        margins = margins_of(part_of(given.params, first, tree), cells, start)
        given.memory.clear()
        given.memory[digest] = margins
    return given.memory[digest]


def derivatives(margins: NDArray[numpy.float32], labels: Integers) -> dict[str, Integers]:
    """Return gradient and curvature of cross entropy in units of 2^-24, each [n, K].

    As xgboost's ``binary:logistic`` and ``multi:softprob``, whose curvature is doubled.

    Args:
        margins: [n, K].
        labels: class indices, [n].
    """
    at = margins.astype(numpy.float64).clip(-_STEEPEST, _STEEPEST)
    if at.shape[1] == 1:
        chances = each(lambda margin: 1.0 / (1.0 + math.exp(-margin)), at[:, 0])[:, None]
        truth = (labels == 1)[:, None]
        steep = 1.0
    else:
        odds = at - at.max(axis=1, keepdims=True)
        odds = each(math.exp, odds.reshape(-1)).reshape(odds.shape)
        total = numpy.zeros(len(odds))
        # Group by group: a sum along a row may be taken in another order beside other rows
        for column in odds.T:
            total = total + column
        chances = odds / total[:, None]
        truth = labels[:, None] == numpy.arange(at.shape[1])
        steep = 2.0
    exact = {"gradient": chances - truth, "curvature": steep * chances * (1.0 - chances)}
    return {name: numpy.rint(value * UNIT).astype(numpy.int64) for name, value in exact.items()}


def histograms(
    places: Integers,
    nodes: Integers,
    slopes: dict[str, Integers],
    *,
    starts: list[int],
    shape: tuple[int, ...],
) -> Tensors:
    """Add up records by node, group and place.

    Args:
        places: which of its input's places each record is in, [n, F].
        nodes: which node of the level it is in, [n, K].
        slopes: gradient and curvature in units of 2^-24, each [n, K].
        starts: where each input's places begin, F + 1 numbers.
        shape: of one sum: nodes, K, D.
    """
    sums = {name: numpy.zeros(shape, numpy.int64) for name in (*SUMMED, "count")}
    for number, (start, end) in enumerate(itertools.pairwise(starts)):
        width = end - start
        for group in range(shape[1]):
            key = nodes[:, group] * width + places[:, number]
            for name, total in sums.items():
                # In float64, which holds whole numbers below 2^53 without loss
                weights = slopes[name][:, group] if name in slopes else None
                found = numpy.bincount(key, weights, minlength=shape[0] * width)
                total[:, group, start:end] = found.reshape(shape[0], width)
    halves = {
        f"{name}_{half}": value
        for name in SUMMED
        for half, value in (
            ("high", sums[name] >> SUM_BITS),
            ("low", sums[name] & (MOST_RECORDS - 1)),
        )
    }
    return {
        name: torch.from_numpy((value / UNIT).astype(numpy.float32))
        for name, value in {**halves, "count": sums["count"]}.items()
    }


__all__ = ["MOST_RECORDS", "boosting", "derivatives", "histograms"]
