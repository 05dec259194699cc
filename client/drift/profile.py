"""What is kept of records, to compare others with: the reference statistics of a model.

It holds values of records, sorted column by column, and what the model made of some: it is for the
institution alone, readable by its owner, and has no place in a RUN that travels. No plan can ask
for it; what leaves of columns leaves by ``confide statistics``, charged.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from confide.client.drift.kept import Categories, Floats, Kept, Numbers
from confide.errors import UnreadableError
from confide.storage.tensor_files import read_checked, write_checked

_FORMAT = 1
SUFFIX = ".drift"
"""Ends the name of a file that holds one."""
PARTS = ("columns", "predictions", "labels")
"""Groups of variables."""
_ARRAYS = ("features", "losses", "stated", "came_true")


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile:
    """Statistics of records, and of what one model makes of them.

    Attributes:
        model_sha256: of the model.
        source: what the records are, in few words.
        job: that the model was scored for; "" where its institution's people named it.
        made: when it was made, in seconds since 1970.
        records: number of records.
        columns: name -> values of a column.
        predictions: name -> values of a column of predictions.
        labels: name -> values of what was to be predicted, of records with a label.
        features: what the model sees of some records, float32 of shape [f, d]; of width 0 where it
            shows nothing.
        losses: of records with a label that the model was asked about, shape [s].
        stated: probabilities that it stated of these, shape [s, k]; of width 0 where it states
            none.
        came_true: whether what they stand for was so, 0 or 1, shape [s, k].
        metrics: the task's metrics on these; {} without labels.
        primary_metric: name of the one that decides.
        absent: columns that the model needs and no record has; of a reference none.
        told: sentences about records that the model was not asked about, or not scored on; not
            kept in a file.
    """

    model_sha256: str
    source: str
    made: float
    records: int
    columns: Mapping[str, Kept]
    predictions: Mapping[str, Kept]
    labels: Mapping[str, Kept]
    features: Floats
    losses: Floats
    stated: Floats
    came_true: Floats
    metrics: Mapping[str, float] = field(default_factory=dict)
    primary_metric: str = ""
    job: str = ""
    absent: tuple[str, ...] = ()
    told: tuple[str, ...] = ()

    def kept(self, part: str) -> Mapping[str, Kept]:
        """Return the variables of one of PARTS."""
        variables: Mapping[str, Kept] = getattr(self, part)
        return variables


def write_profile(path: Path, profile: Profile) -> None:
    """Write a profile, whole or not at all, readable by its owner alone.

    Raises:
        StorageError: if it cannot be written.
    """
    tensors: dict[str, Tensor] = {
        name: torch.from_numpy(numpy.ascontiguousarray(getattr(profile, name))) for name in _ARRAYS
    }
    described: dict[str, Any] = {"format": _FORMAT}
    for name in ("model_sha256", "source", "made", "records", "primary_metric", "job"):
        described[name] = getattr(profile, name)
    described["metrics"] = {
        name: value for name, value in profile.metrics.items() if math.isfinite(value)
    }
    for part in PARTS:
        described[part] = []
        for at, (name, kept) in enumerate(profile.kept(part).items()):
            if isinstance(kept, Categories):
                told: dict[str, Any] = {"counts": dict(kept.counts)}
            else:
                told = {
                    key: getattr(kept, key)
                    for key in ("records", "missing", "odd", "measures_length")
                }
                tensors[f"{part}/{at}"] = torch.from_numpy(kept.values.copy())
            described[part].append({"name": name, **told})
    write_checked(path, tensors, metadata={"drift": json.dumps(described)})


def read_profile(path: Path) -> Profile:
    """Read what :func:`write_profile` wrote.

    Raises:
        UnreadableError: if it cannot be read, or is not what was written.
    """
    read = read_checked(path)
    try:
        told = json.loads(read.metadata["drift"])
        if told.pop("format") != _FORMAT:
            raise ValueError("it is of another release")
        arrays = {name: tensor.numpy() for name, tensor in read.tensors.items()}
        parts: dict[str, Any] = {
            part: {
                one.pop("name"): _kept(one, arrays.get(f"{part}/{at}"))
                for at, one in enumerate(told.pop(part))
            }
            for part in PARTS
        }
        whole: dict[str, Any] = {
            name: arrays[name] for name in ("features", "losses", "stated", "came_true")
        }
        return Profile(**told, **parts, **whole)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableError(
            f"{path} holds no reference of confide drift ({error}); make it anew with"
            " --keep-reference."
        ) from None


def _kept(told: dict[str, Any], values: Floats | None) -> Kept:
    return Categories(told["counts"]) if values is None else Numbers(values, **told)


__all__ = ["PARTS", "SUFFIX", "Profile", "read_profile", "write_profile"]
