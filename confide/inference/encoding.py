"""What a model takes of records: for whoever runs an exported model by another library."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas
import torch
from datasets import Dataset
from numpy.typing import NDArray

from confide.inference.inputs import read_inputs
from confide.inference.predictor import load_predictor
from confide.models.compute import Compute
from confide.tasks.task import LABELS


def encode(
    folder: Path | str, records: Dataset | pandas.DataFrame, *, custom_tasks: Sequence[str] = ()
) -> dict[str, NDArray[Any]]:
    """Encode records as the model of a folder takes them.

    Args:
        folder: RUN, ``RUN/model``, or a folder that ``confide export`` wrote.
        records: the task's input columns; others are not looked at.
        custom_tasks: dotted paths of custom tasks that may be imported.

    Returns:
        Name of an input -> array whose first dimension is the records', in their order.

    Raises:
        DataError: naming everything that does not fit the task's schema.
        ModelError: if there is no model, or it cannot be used.
    """
    predictor = load_predictor(Path(folder), compute=Compute(), custom_tasks=custom_tasks)
    examples = predictor.prepare(read_inputs(predictor, records, with_labels=False).records)
    batch = examples.take(torch.arange(len(examples)))
    return {name: column.numpy() for name, column in batch.items() if name != LABELS}


__all__ = ["encode"]
