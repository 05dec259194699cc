"""Trees of small tables, grown by hand as rounds grow them."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy
import torch
from builders import build_plan, workload_of
from small_strategies import took_part
from torch import nn

from confide.config.client import ClientConfig
from confide.config.models.trees import TreesConfig
from confide.config.strategies.strategy import BoostingConfig
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.tabular import TabularConfig
from confide.models.networks import trainable_tensors
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, decode, encode, shapes_of
from confide.strategies.aggregators import ExactSum
from confide.strategies.algorithm import (
    Algorithm,
    ClientRound,
    Memory,
    Records,
    ServerResult,
    ServerRound,
)
from confide.strategies.parts import build_algorithm
from confide.strategies.strategy import Bounds, ClientUpdate
from confide.tasks.task import LABELS, Examples

Partition = Sequence[Sequence[int]]


def table(*, cells: int = 4, columns: int = 2, classes: int = 2) -> TabularConfig:
    """A table of numbers from 0 to ``cells``, one cell a whole number."""
    return TabularConfig(
        labels=[f"class-{number}" for number in range(classes)],
        columns={
            f"column-{number}": ColumnConfig(
                minimum=0, maximum=cells, edges=[float(edge) for edge in range(1, cells)]
            )
            for number in range(columns)
        },
    )


def tree_plan(
    *, num_trees: int = 1, depth: int = 1, task: TabularConfig | None = None, **rules: Any
) -> TrainingPlan:
    """A plan of trees on the edges of columns, whose rules forbid no split."""
    given = {"learning_rate": 1.0, "l2": 1.0, "min_child_weight": 1e-3, "min_records": 1, **rules}
    return build_plan(
        task=task or table(),
        backbone=TreesConfig(num_trees=num_trees, depth=depth, cells="edges"),
        objective=BoostingConfig(**given),
        client=ClientConfig(local_steps=1, sampling_rate=1.0),
        num_rounds=num_trees * depth,
    )


def examples(rows: Sequence[Sequence[float]], labels: Sequence[int]) -> Examples:
    """Records in cells; 0 is a missing value."""
    return Examples(
        {"features": torch.tensor(rows, dtype=torch.float32), LABELS: torch.tensor(labels)}
    )


def drawn(plan: TrainingPlan, count: int, *, seed: int = 0) -> Examples:
    """Draw records whose label depends on two columns and on chance."""
    generator = torch.Generator().manual_seed(seed)
    made = workload_of(plan).synthetic(count, generator)
    cells = made.columns["features"]
    signal = (cells[:, 0] > 2).long() + (cells[:, 1] == 0).long()
    noise = torch.randint(0, 2, (count,), generator=generator)
    labels = (signal + noise) % len(plan.task.labels)
    return Examples({"features": cells, LABELS: labels})


def partition(count: int, institutions: int, *, seed: int = 0) -> Partition:
    """Deal records out unevenly."""
    dealt = numpy.random.default_rng(seed).integers(0, institutions, count)
    dealt[:institutions] = range(institutions)
    return [numpy.flatnonzero(dealt == one).tolist() for one in range(institutions)]


@functools.lru_cache(maxsize=4)
def _model(text: str) -> nn.Module:
    return workload_of(TrainingPlan.from_json(text)).model


def client_round(
    plan: TrainingPlan,
    params: Tensors,
    server_round: int,
    records: Examples,
    memory: Memory | None = None,
) -> ClientRound:
    """What an institution's client part knows in a round."""
    given = Records(
        examples=records,
        model=_model(plan.to_json()),
        outputs_fn=lambda batch: batch[LABELS],
        losses_fn=lambda outputs, batch: outputs,
        features_fn=lambda batch: batch[LABELS],
        load_fn=lambda tensors: None,
        at_once=len(records),
    )
    return ClientRound(
        params=params,
        extra={},
        kept={},
        steps=1,
        learning_rate=1.0,
        place_fn=lambda tensors: [],
        server_round=server_round,
        records=given,
        memory={} if memory is None else memory,
    )


def reply(plan: TrainingPlan, given: ClientRound) -> Tensors:
    """What an institution sends, after it has travelled."""
    algorithm = build_algorithm(plan.objective)
    sent = algorithm.client(given, lambda start, change_gradient=None: start).update
    shapes = algorithm.reply_shapes(shapes_of(given.params))
    return decode(encode(sent), shapes, max_value=1.0).tensors


def grow_trees(
    plan: TrainingPlan, records: Examples, parts: Partition, *, remembers: bool = True
) -> Tensors:
    """Grow a plan's trees on a partition of records, round by round."""
    algorithm = build_algorithm(plan.objective)
    params = trainable_tensors(workload_of(plan).model)
    held = [Examples(records.take(torch.tensor(part))) for part in parts]
    memories: list[Memory] = [{} for _ in held]
    for server_round in range(1, plan.num_rounds + 1):
        bounds = Bounds(max_value=1024.0, max_total_weight=len(held))
        total = ExactSum().start(algorithm.reply_shapes(shapes_of(params)), bounds)
        for number, part in enumerate(held):
            memory = memories[number] if remembers else {}
            tensors = reply(plan, client_round(plan, params, server_round, part, memory))
            total.add(ClientUpdate(client=str(number), tensors=tensors, num_examples=len(part)))
        params = one_step(algorithm, plan, params, total.mean(), server_round)
    return params


def one_step(
    algorithm: Algorithm, plan: TrainingPlan, params: Tensors, totals: Tensors, server_round: int
) -> Tensors:
    """What the server part makes of a round's totals."""
    given = ServerRound(
        params=params,
        update=totals,
        extra={},
        state={},
        participation=took_part(("a",), 1),
        server_round=server_round,
        plan=plan,
    )
    done = algorithm.server(given, lambda update: ServerResult(params=params, optimizer_state={}))
    return done.params
