"""Edges of numeric columns, released by institutions before a run; post-processing from then on.

The plan that asks for them goes to the institutions like any other. What they answer is added up,
made consistent and read off here, and kept in RUN/edges.json: a run that goes on reads it there. A
later run with the same question is answered by each institution from what it keeps, at no cost.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from confide.config.tasks.tabular import TabularConfig
from confide.encodings.cells import CELLS, grid
from confide.errors import UnreadableError, words_of
from confide.models.workload import Workload
from confide.privacy.histogram_tree import Floats, consistent, quantile_edges
from confide.protocol.plan import TrainingPlan
from confide.protocol.released_edges import ReleasedEdges
from confide.releases.quantiles import COUNTS
from confide.server.run.carrier import PrepareFn, Run
from confide.server.run.releases import ask_release
from confide.storage.files import write_json


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
            f"{path} cannot be read ({words_of(error)}), so that the run's encoding is not known;"
            " start the run anew. Institutions with a ledger answer the same question at no further"
            " cost."
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
    answers = ask_release(run, asked, workload, prepare_fn).answers
    counts = [answer.tensors[COUNTS].double() for answer in answers.values()]
    edges = ReleasedEdges(
        job=asked.job,
        epsilon=asked.privacy.epsilon if asked.private else 0.0,
        columns=_columns(asked, sum(counts, start=torch.zeros(()))),
    )
    # Kept before it is used: a run that goes on must not be given other edges.
    write_json(path, {**dataclasses.asdict(edges), "sha256": edges.sha256, "of": sorted(answers)})
    return edges


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
