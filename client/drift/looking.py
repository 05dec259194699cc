"""From records and a model to their profile: columns, predictions, labels, how well it does."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy
import pandas
import torch
from datasets import Dataset
from torch import Tensor

from confide.client.drift.kept import (
    UNSEEN,
    Categories,
    Floats,
    Kept,
    cells_kept,
    column_kept,
)
from confide.client.drift.profile import Profile
from confide.config.tasks.task import TaskConfig
from confide.inference.inputs import Inputs
from confide.inference.predictor import Predictor
from confide.inference.seen import concatenated, watched
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.outcomes.outcome import StatesProbabilities
from confide.tasks.schema import Column, read_column, whole_columns
from confide.tasks.task import LABELS, Examples, TalliedTask

NOTHING: Floats = numpy.zeros((0, 0))
MOST_FEATURES = 1000
"""Most records whose features are kept."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a model made of some records.

    Attributes:
        frame: columns of predictions.
        features: shape [n, d].
        losses: of those with a label, shape [s].
        stated: as of :class:`~confide.client.drift.profile.Profile`.
        came_true: the same.
        metrics: of those with a label.
    """

    frame: pandas.DataFrame
    features: Floats
    losses: Floats
    stated: Floats
    came_true: Floats
    metrics: Mapping[str, float]


def table_columns(records: Dataset, config: TaskConfig) -> dict[str, Column]:
    """Read the columns of a table, those that there are, whatever does not fit."""
    names = [name for name in config.table_columns if name in records.column_names]
    table = whole_columns(records, names)
    return {
        name: read_column(name, config.table_columns[name], table[name].to_pylist())
        for name in names
    }


def columns_kept(
    records: Dataset, config: TaskConfig, rng: numpy.random.Generator, like: Mapping[str, Kept]
) -> dict[str, Kept]:
    """Keep the columns that records are made of, what is to be predicted left out.

    Args:
        records: as text, whatever does not fit the schema among them.
        config: the schema.
        rng: draws samples.
        like: the reference's, whose forms are taken; {} to decide by these records.
    """
    table = table_columns(records, config)
    made = {name: column_kept(config.table_columns[name], it, rng) for name, it in table.items()}
    for name in config.content_columns:
        if name in made or name not in records.column_names:
            continue
        kept = cells_kept(records[name][:], rng, like=like.get(name))
        if kept is not None:
            made[name] = kept
    return made


def labels_kept(
    records: Dataset, config: TaskConfig, rng: numpy.random.Generator, like: Mapping[str, Kept]
) -> dict[str, Kept]:
    """Keep what was to be predicted, of those records that have a label.

    A label that the schema does not know is an unseen category, or no number.
    """
    names = [name for name in config.target_columns if name not in config.content_columns]
    if not names or not set(config.target_columns) <= set(records.column_names):
        return {}
    outcome = outcome_of(config)
    columns = {name: records[name][:] for name in config.target_columns}
    targets = outcome.read(columns)
    labelled = numpy.array(outcome.labelled(columns), dtype=bool)
    if not labelled.any():
        return {}
    if targets.values.ndim == 1 and numpy.issubdtype(targets.values.dtype, numpy.integer):
        # Classes by their names, and not by the words that records have for them
        counts = Counter(outcome.strata(targets.values[targets.known & labelled]))
        counts[UNSEEN] = int((labelled & ~targets.known).sum())
        return {names[0]: Categories({name: it for name, it in counts.items() if it})}
    made = {}
    for name in names:
        cells = numpy.array([*columns[name], None], dtype=object)[:-1]
        # Labels that the schema knows decide the form; the others are what they are in it
        form = like.get(name) or cells_kept(cells[targets.known & labelled].tolist(), rng)
        kept = cells_kept(cells[labelled].tolist(), rng, like=form)
        if kept is not None:
            made[name] = kept
    return made


def answers(predictor: Predictor, examples: Examples, labelled: Tensor) -> Answers:
    """Ask a model about encoded records.

    Args:
        predictor: the model.
        examples: n encoded records, at least one.
        labelled: bool, shape [n]; of the others nothing is scored.

    Raises:
        ModelError: if it gives no finite numbers.
    """
    task = predictor.task
    tallied = isinstance(task, TalliedTask)
    order, scores, losses, frames, features = [], [], [], [], []
    with watched(predictor.module) as seen:
        for part in predictor.passes(examples):
            predictor.refuse_diverged(part.outputs)
            order.append(part.indices)
            features.append(seen.vectors(part.batch))
            losses.append(_losses(predictor, part.outputs, part.batch))
            if isinstance(task, TalliedTask):
                frames.append(pandas.DataFrame(dict(task.predictions(part.outputs, part.batch))))
                scores.append(task.tally(part.outputs, part.batch))
            else:
                found = task.scores(part.outputs)
                frames.append(pandas.DataFrame(dict(predictor.outcome.predictions(found.numpy()))))
                scores.append(found)
    back = torch.cat(order).argsort()
    whole, known = torch.cat(scores)[back], labelled.nonzero()[:, 0]
    targets = torch.zeros(len(examples)) if tallied else examples.labels.cpu()
    stated, came_true = _stated(predictor, whole[known], targets[known])
    return Answers(
        frame=pandas.concat(frames, ignore_index=True).iloc[back.numpy()],
        features=concatenated(features, back).numpy(),
        losses=torch.cat(losses)[back][known].double().numpy(),
        stated=stated,
        came_true=came_true,
        metrics=task.metrics(whole[known], targets[known]) if len(known) else {},
    )


def _losses(predictor: Predictor, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    on_cpu = {name: column.cpu() for name, column in batch.items()}
    # Of a record without a label any stands in, and is left out afterwards
    on_cpu[LABELS] = on_cpu[LABELS].clamp(min=0) if _is_class(on_cpu[LABELS]) else on_cpu[LABELS]
    with torch.inference_mode():
        return predictor.task.loss(outputs, on_cpu).float().cpu()


def _is_class(labels: Tensor) -> bool:
    return labels.dim() == 1 and not labels.is_floating_point()


def _stated(predictor: Predictor, scores: Tensor, targets: Tensor) -> tuple[Floats, Floats]:
    outcome = predictor.outcome
    if isinstance(predictor.task, TalliedTask) or not isinstance(outcome, StatesProbabilities):
        return NOTHING, NOTHING
    if not len(scores):
        return NOTHING, NOTHING
    stated, came_true = outcome.stated(scores.double().numpy(), targets.numpy())
    return stated.astype(numpy.float64), came_true.astype(numpy.float64)


def kept_predictions(
    frame: pandas.DataFrame, rng: numpy.random.Generator, like: Mapping[str, Kept]
) -> dict[str, Kept]:
    """Keep the columns of predictions."""
    found = {
        str(name): cells_kept(frame[name].tolist(), rng, like=like.get(str(name))) for name in frame
    }
    return {name: kept for name, kept in found.items() if kept is not None}


@dataclass(frozen=True, kw_only=True)
class Looked:
    """How records are looked at.

    Attributes:
        source: what they are, in few words.
        scored_records: most records that the model is asked about.
        seed: of samples.
        like: the reference, whose forms variables take; None: the records decide.
    """

    source: str
    scored_records: int
    seed: int = 0
    like: Profile | None = None

    def forms(self, part: str) -> Mapping[str, Kept]:
        """Return the forms of one of the profile's parts."""
        return {} if self.like is None else self.like.kept(part)


def profile_of(config: TaskConfig, records: Dataset, looked: Looked) -> Profile:
    """Make the profile of records that no model was asked about yet.

    Args:
        config: schema of the records.
        records: all of them, as text.
        looked: how.
    """
    rng = numpy.random.default_rng(looked.seed)
    return Profile(
        model_sha256="",
        source=looked.source,
        made=time.time(),
        records=len(records),
        columns=columns_kept(records, config, rng, looked.forms("columns")),
        predictions={},
        labels=labels_kept(records, config, rng, looked.forms("labels")),
        features=NOTHING,
        losses=numpy.zeros(0),
        stated=NOTHING,
        came_true=NOTHING,
        primary_metric=config.primary_metric,
    )


def profile_with(
    predictor: Predictor, records: Dataset, inputs: Inputs | None, looked: Looked
) -> Profile:
    """Make the profile of records, and of what a model makes of them.

    Args:
        predictor: the model.
        records: all of them, as text.
        inputs: those that the model can be asked about; None where there is none.
        looked: how.

    Raises:
        ModelError: if the model gives no finite numbers.
    """
    profile = replace(
        profile_of(predictor.plan.task, records, looked),
        model_sha256=predictor.description.model_sha256,
    )
    if inputs is None:
        return profile
    rng = numpy.random.default_rng(looked.seed)
    rows = chosen(len(inputs.records), looked.scored_records, rng)
    examples = predictor.prepare(inputs.records.select(rows))
    found = answers(predictor, examples, inputs.labelled[rows])
    return with_answers(profile, found, rng, looked.forms("predictions"))


def with_answers(
    profile: Profile, found: Answers, rng: numpy.random.Generator, like: Mapping[str, Kept]
) -> Profile:
    """Add what a model made of records to their profile."""
    return replace(
        profile,
        predictions=kept_predictions(found.frame, rng, like),
        features=found.features[chosen(len(found.features), MOST_FEATURES, rng)],
        losses=found.losses,
        stated=found.stated,
        came_true=found.came_true,
        metrics=dict(found.metrics),
    )


def chosen(records: int, most: int, rng: numpy.random.Generator) -> list[int]:
    """Draw positions of at most so many records, in order."""
    if records <= most:
        return list(range(records))
    return sorted(rng.choice(records, most, replace=False).tolist())


__all__ = [
    "MOST_FEATURES",
    "NOTHING",
    "Answers",
    "Looked",
    "answers",
    "chosen",
    "columns_kept",
    "kept_predictions",
    "labels_kept",
    "profile_of",
    "profile_with",
    "table_columns",
    "with_answers",
]
