"""Edges of numeric columns, released by institutions before a run; post-processing from then on.

The plan that asks for them goes to the institutions like any other. What they answer is added up,
made consistent and read off here, and kept in RUN/edges.json: a run that goes on reads it there. A
later run with the same question is answered by each institution from what it keeps, at no cost.
"""

import dataclasses
import json
import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from flwr.serverapp import Grid

from confide.config.server import ServerConfig
from confide.config.task import TabularConfig
from confide.encodings.cells import CELLS, grid
from confide.errors import ProtocolError, UnreadableError
from confide.models.networks import trainable_tensors
from confide.models.workload import Workload
from confide.privacy.histogram_tree import Floats, consistent, quantile_edges
from confide.protocol.messages import Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.released_edges import ReleasedEdges
from confide.protocol.releases import COUNTS, release_shapes
from confide.protocol.tensors import LARGEST_FLOAT32, encode
from confide.server.rounds.enrolment import enrol, too_few
from confide.server.rounds.exchange import Reach, exchange
from confide.server.rounds.participants import accept
from confide.server.run.carrier import PrepareFn, Run
from confide.storage.files import write_json

log = logging.getLogger(__name__)


def read_edges(path: Path, asked: TrainingPlan) -> ReleasedEdges | None:
    """Read the edges that an earlier process of the run was given; None if there are none yet.

    Raises:
        UnreadableError: if the file is damaged, or holds the answer to another question.
    """
    try:
        raw: dict[str, Any] = json.loads(path.read_text())
        edges = ReleasedEdges(**{key: raw[key] for key in ("job", "epsilon", "columns")})
        if (edges.job, edges.sha256) != (asked.job, raw["sha256"]):
            raise ValueError("it holds other edges than its hash or this run's question says")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableError(
            f"{path} cannot be read ({error}), so that the run's encoding is not known; start the"
            " run anew. Institutions with a ledger answer the same question at no further cost."
        ) from None
    return edges


def release_edges(
    run: Run, asked: TrainingPlan, workload: Workload, prepare_fn: PrepareFn, path: Path
) -> ReleasedEdges:
    """Ask all institutions for their counts, and read edges off the sum.

    Args:
        run: this process's part of the run.
        asked: the plan that asks.
        workload: that it names.
        prepare_fn: makes ready what carries messages.
        path: where the edges are kept.

    Raises:
        RunFailedError: if fewer institutions than ``server.min_clients`` answer.
        StorageError: if the edges cannot be kept.
    """
    with closing(prepare_fn(run, asked, workload)) as carrier:
        run.progress.phase("release quantiles", total=1)
        with carrier.connect() as (messages, reach):
            answers = _ask(run, asked, workload, messages, reach)
    edges = ReleasedEdges(
        job=asked.job,
        epsilon=asked.privacy.epsilon if asked.private else 0.0,
        columns=_columns(asked, sum(answers.values(), start=torch.zeros(()))),
    )
    # Kept before it is used: a run that goes on must not be given other edges.
    write_json(path, {**dataclasses.asdict(edges), "sha256": edges.sha256, "of": sorted(answers)})
    log.info("%d institutions released quantiles as job %s.", len(answers), edges.job)
    return edges


def _ask(
    run: Run, asked: TrainingPlan, workload: Workload, grid_: Grid, reach: Reach
) -> dict[str, torch.Tensor]:
    """Return the counts of each institution that answers, float64 of shape [columns, nodes]."""
    settings: ServerConfig = run.config.server
    text, without = asked.to_json(), frozenset(run.withdrawn)
    least, timeout = settings.min_clients, settings.enrol_timeout_s
    clients = enrol(grid_, text, least=least, timeout=timeout, reach=reach, without=without)
    names = list(clients.num_examples)
    initial = encode(trainable_tensors(workload.model))
    request = Request(plan=text, server_round=1, arrays=initial)
    questions = clients.messages("train", names, request, reach.countersign_fn)
    replies = exchange(grid_, questions, settings.round_timeout_s, reach.again)
    found, missing = {}, {}
    for name, answer in clients.answers(replies, names):
        try:
            if not isinstance(answer, Reply) or answer.refusal:
                missing[name] = str(answer.refusal if isinstance(answer, Reply) else answer)
                continue
            update = accept(
                answer,
                name,
                declared=clients.num_examples[name],
                shapes=release_shapes(asked),
                max_value=LARGEST_FLOAT32,
            )
            found[name] = update.tensors[COUNTS].double()
        except ProtocolError as error:
            missing[name] = error.code
    for name, code in missing.items():
        log.warning("%s releases no quantiles: %s.", name, code)
    if len(found) < least:
        too_few("quantiles", got=len(found), least=least, missing=missing)
    # In the order of names: the order of arrival would change the last bits.
    return dict(sorted(found.items()))


def _columns(asked: TrainingPlan, counts: torch.Tensor) -> dict[str, list[float]]:
    """Return the inner edges of each column that was asked for."""
    task = asked.task
    assert isinstance(task, TabularConfig)
    columns = {}
    for name, noisy in zip(task.released_columns, counts.numpy(), strict=True):
        scale = task.columns[name].scale(task.numeric)
        leaves: Floats = consistent(noisy, CELLS)
        places = grid(scale.minimum, scale.maximum)
        columns[name] = quantile_edges(leaves, places, task.numeric.bins)
    return columns


__all__ = ["read_edges", "release_edges"]
