"""Quantiles of an institution's records, released before a run: noisy counts, charged like a round.

Protected, neighbours and sensitivity: :mod:`confide.privacy.histogram_tree`, in the plan's unit.
Trusted: the institution's own machine. Public: columns, ranges and grid, which follow from the
schema, and n. A plan that asks for them is one Gaussian mechanism without sampling, at the plan's
epsilon: a run of one step in the ledger, reserved before noise is drawn and kept once it was. Asked
again, by this run or a later one, an institution gives the same answer at no cost; another question
is another run, and is refused when the budget does not cover it. What voids it: what voids the
rest, and a task of one's own that encodes a record by others.
"""

import numpy
import torch

from confide.client.records.encoded import InstitutionData
from confide.client.schedule import LocalSchedule
from confide.config.task import TabularConfig
from confide.encodings.cells import CELLS
from confide.errors import PrivacyError
from confide.privacy.histogram_tree import Integers, sensitivity, tree_sums
from confide.privacy.randomness import KeyedGenerator, derive_key
from confide.protocol.plan import TrainingPlan
from confide.protocol.releases import COUNTS
from confide.protocol.tensors import Tensors

_EXACT = 2.0**24
"""Up to here float32, which tensors travel in, holds every integer."""


def released_sums(
    plan: TrainingPlan,
    data: InstitutionData,
    schedule: LocalSchedule,
    *,
    cells: Integers,
    secret: bytes,
) -> Tensors:
    """Count training records by cell, add noise, and round to integers.

    Args:
        plan: asks for quantiles.
        data: records, encoded by the plan.
        schedule: with the noise that the plan's epsilon takes; none without privacy.
        cells: of the records, from :func:`cells_of`.
        secret: what the noise derives from.

    Returns:
        ``counts``: float32 integers, shape [columns, nodes].
    """
    groups = None
    if plan.privacy.unit == "group" and data.groups is not None:
        groups = data.groups.cpu().numpy()
    sums = tree_sums(cells, CELLS, groups)
    std = schedule.noise_multiplier * sensitivity(cells.shape[1], CELLS)
    noise = KeyedGenerator(derive_key(secret, "quantiles")).normal(sums.size, std=std)
    noisy = numpy.rint(sums + noise.numpy().reshape(sums.shape)).clip(-_EXACT, _EXACT)
    return {COUNTS: torch.from_numpy(noisy.astype("float32"))}


def cells_of(plan: TrainingPlan, data: InstitutionData, schedule: LocalSchedule) -> Integers:
    """Return the cell of each training record and column, from 0; -1 where it is missing.

    All that can be refused is refused here, before a release is reserved, which spends it.

    Args:
        plan: asks for quantiles.
        data: records, encoded by the plan.
        schedule: that the noise was calibrated for.

    Raises:
        PrivacyError: if a task of one's own encoded the columns otherwise, or noise was calibrated
            for anything but one look at every record.
    """
    if schedule.sampling_rate != 1 or schedule.steps != 1:
        raise PrivacyError(
            "Every record is counted, and once: noise for samples or several steps is another."
        )
    task = plan.encoded_task
    assert isinstance(task, TabularConfig)
    features = data.train.columns.get("features")
    if features is None or features.dim() != 2 or features.shape[1] != task.num_inputs:
        raise PrivacyError(
            "The task encodes rows otherwise than its schema says, so that there are no cells to"
            " count; use task.numeric.edges=public."
        )
    columns = features[:, task.places(plan.task.released_columns)].cpu().double().numpy()
    cells: Integers = numpy.rint(columns).astype("int64") - 1
    return cells


__all__ = ["cells_of", "released_sums"]
