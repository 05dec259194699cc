"""Predictions of a trained model on records that may or may not be labelled."""

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas
import torch
from datasets import Dataset
from torch import Tensor

from confide.config.client import TrainerConfig
from confide.errors import ConfigError, DataError
from confide.inference.inputs import Inputs, kept_of, made_to_predict, read_inputs
from confide.inference.language.past_answers import (
    ENCODER,
    Nearest,
    PastAnswers,
    answer_tokens,
    columns_of,
    past_answers,
    refuse_unshown,
)
from confide.inference.predictor import Predictor, load_predictor
from confide.models.compute import make_compute
from confide.models.language.writing import RECITES, Writer, WritingOptions
from confide.tasks.outcomes.answer import rouge_l
from confide.tasks.outcomes.classes import PREDICTION
from confide.tasks.task import CompletesPredictions, Examples, TalliedTask

log = logging.getLogger(__name__)

_PART = 1024
PROBLEM = "problem"
"""Column that says why a record has no prediction, where such records are skipped."""


class Part(NamedTuple):
    """Predictions for some records.

    Attributes:
        frame: the columns of predictions: of classes ``prediction``, and ``probability_CLASS`` of
            each class.
        scores: of the task, such as class probabilities, or its tallies, shape [n, ...].
        labels: shape [n, ...]; meaningless where ``labelled`` is false, or tallies hold them.
        labelled: bool, shape [n].
        agreement: ROUGE-L of answers that were written, shape [n]; None where none was.
        past_agreement: ROUGE-L of the past answers that they were written after; None without.
    """

    frame: pandas.DataFrame
    scores: Tensor
    labels: Tensor
    labelled: Tensor
    agreement: Tensor | None = None
    past_agreement: Tensor | None = None


def predict(
    run: Path | str,
    records: Dataset | pandas.DataFrame,
    *,
    custom_tasks: Sequence[str] = (),
    backbone: Path | str | None = None,
    writing: WritingOptions | None = None,
    skip_misfits: bool = False,
) -> pandas.DataFrame:
    """Predict.

    Args:
        run: RUN, ``RUN/model``, or a folder that ``confide export`` wrote.
        records: the task's input columns; others, the label among them, are not looked at. Rows
            that records are made of, such as interactions, give one record a user.
        custom_tasks: dotted paths of custom tasks that may be imported; none is on a file's
            word.
        backbone: folder of the run's pretrained backbone; None: where it was when it was trained.
        writing: how a language model writes its answers; None: the likeliest words.
        skip_misfits: whether to predict the others where records do not fit the task's schema.

    Returns:
        One row a record, in order and with the index of ``records``: of classes ``prediction``, the
        name of the likeliest class, and ``probability_CLASS`` for each class; of conversations
        ``prediction``, the answer. With ``skip_misfits`` a column ``problem`` says what does not
        fit, and nothing is predicted of that record; of the others it is missing.

    Raises:
        DataError: naming everything that does not fit the task's schema.
        ModelError: if there is no model, or it cannot be used.
    """
    # Nothing derived from records is kept: who predicts once has not asked for a cache.
    compute = make_compute(TrainerConfig(feature_cache=None))
    predictor = load_predictor(
        Path(run), compute=compute, custom_tasks=custom_tasks, backbone=backbone
    )
    rows = made_to_predict(records, predictor.plan.task)
    whole = records if rows is None else rows
    inputs = read_inputs(predictor, whole, with_labels=False, skip=skip_misfits)
    frames = [
        part.frame for part in predict_in_parts(predictor, inputs, writing or WritingOptions())
    ]
    made = pandas.concat(frames, ignore_index=True)
    if skip_misfits:
        # Each in its place, as it was given
        made = made.set_axis(inputs.given, axis=0).reindex(range(len(whole)))
        made[PROBLEM] = [inputs.misfits.get(place) for place in range(len(whole))]
    if rows is not None:
        return pandas.concat(
            [rows.select_columns(kept_of(rows, predictor)).to_pandas(), made], axis=1
        )
    if isinstance(records, pandas.DataFrame):
        made.index = records.index
    return made


def read_past(
    predictor: Predictor,
    records: Dataset | pandas.DataFrame,
    *,
    encoder: str = ENCODER,
    places: Sequence[str] = (),
) -> PastAnswers:
    """Read past conversations that a language model is to be shown.

    Args:
        predictor: the model.
        records: conversations as those that are predicted; those without an answer are left out.
        encoder: of their questions.
        places: where each is, for problems.

    Raises:
        ConfigError: if the model answers no conversations.
        DataError: naming everything that does not fit, or if nothing was answered.
    """
    refuse_unshown(predictor.task)
    try:
        inputs = read_inputs(predictor, records, places=places)
    except DataError as error:
        raise DataError([f"--past: {problem}" for problem in error.problems]) from None
    answered = inputs.labelled.nonzero()[:, 0].tolist()
    if not answered:
        raise DataError("--past: none of its conversations has an answer; expected at least one.")
    return past_answers(predictor.task, inputs.records.select(answered), encoder=encoder)


def predict_in_parts(
    predictor: Predictor,
    inputs: Inputs,
    writing: WritingOptions | None = None,
    past: PastAnswers | None = None,
) -> Iterator[Part]:
    """Predict a part of the records at a time, in order.

    Args:
        predictor: the model.
        inputs: records that fit.
        writing: how a model that writes does so; None: its predictions are the likeliest token at
            each place of the answer that a record brings.
        past: conversations of which a model that writes is shown the nearest; None: none.

    Raises:
        ModelError: if the model gives no finite numbers.
        ConfigError: if it writes the likeliest words alone, and others are asked for.
    """
    if writing is not None:
        check_writing(predictor, writing)
    for start in range(0, len(inputs.records), _PART):
        try:
            yield _part_from(start, predictor, inputs, writing, past)
        except DataError as error:  # numbered within its part
            raise DataError([_renumbered(one, start) for one in error.problems]) from None


def check_writing(predictor: Predictor, writing: WritingOptions) -> None:
    """Refuse options of writing that a model has no use for; warn of what it may recite.

    Raises:
        ConfigError: if it writes the likeliest words alone, and others are asked for.
    """
    if predictor.writer is None and predictor.plan.task.outcome.is_written:
        _refuse_drawing(writing)
        if not predictor.plan.private:
            log.warning(RECITES)


def _part_from(
    start: int,
    predictor: Predictor,
    inputs: Inputs,
    writing: WritingOptions | None,
    past: PastAnswers | None,
) -> Part:
    """Predict the part of the records that begins at ``start``."""
    records = inputs.records
    if len(records) > _PART:  # a selection takes its time, however small
        records = records.select(range(start, min(start + _PART, len(records))))
    examples = predictor.prepare(records)
    frame, scores, labels = (_tallied if isinstance(predictor.task, TalliedTask) else _scored)(
        predictor, examples
    )
    if isinstance(predictor.task, CompletesPredictions):
        columns = {str(name): list(frame[name]) for name in frame}
        frame = pandas.DataFrame(dict(predictor.task.completed(columns, records)))
    part = Part(frame, scores, labels, inputs.labelled[start : start + _PART])
    if writing is not None and predictor.writer is not None:
        found = [] if past is None else past.nearest(records)
        part = _written(predictor.writer, records, part, examples, writing, found)
    return part


def _renumbered(problem: str, before: int) -> str:
    """Say of a record of a part which of all it is."""
    return re.sub(r"^Record (\d+)", lambda found: f"Record {int(found[1]) + before}", problem)


def _refuse_drawing(writing: WritingOptions) -> None:
    """Refuse options for a model whose texts are part of its outputs."""
    if writing != WritingOptions():
        raise ConfigError(
            "This model writes the likeliest words, as many as task.outcome.max_tokens says; leave"
            " --temperature, --top-p, --seed and --max-new-tokens out."
        )


def _written(
    writer: Writer,
    records: Dataset,
    part: Part,
    examples: Examples,
    writing: WritingOptions,
    past: Sequence[Nearest],
) -> Part:
    """Return a part whose predictions were written, and how they agree with known answers."""
    answers = writer.write(records, writing, [one.shown for one in past])
    columns = {PREDICTION: [writer.task.written(ids) for ids in answers]}
    known = [answer_tokens(row, writer.task.end_ids) for row in examples.labels.tolist()]
    part = part._replace(
        frame=pandas.DataFrame({**columns, **(columns_of(past) if past else {})}),
        agreement=_agreement(answers, known),
    )
    if not past:
        return part
    return part._replace(past_agreement=_agreement([one.tokens for one in past], known))


def _agreement(found: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]) -> Tensor:
    """Return ROUGE-L of each, shape [n]."""
    return torch.tensor(list(map(rouge_l, found, wanted)), dtype=torch.float64)


def _scored(predictor: Predictor, examples: Examples) -> tuple[pandas.DataFrame, Tensor, Tensor]:
    """Return predictions, scores and labels, each of all records."""
    # Pass by pass: of more rows at once the last bits of a row's scores may differ
    parts = [
        (part.indices, predictor.task.scores(part.outputs)) for part in predictor.passes(examples)
    ]
    back = torch.cat([indices for indices, _ in parts]).argsort()
    scores = torch.cat([found for _, found in parts])[back]
    predictor.refuse_diverged(scores)
    frame = pandas.DataFrame(dict(predictor.outcome.predictions(scores.numpy())))
    return frame, scores, examples.labels


def _tallied(predictor: Predictor, examples: Examples) -> tuple[pandas.DataFrame, Tensor, Tensor]:
    """Return predictions and tallies of all records; targets are in the tallies."""
    task = predictor.task
    assert isinstance(task, TalliedTask)
    frames, tallies, order = [], [], []
    for part in predictor.passes(examples):
        predictor.refuse_diverged(part.outputs)
        frames.append(pandas.DataFrame(dict(task.predictions(part.outputs, part.batch))))
        tallies.append(task.tally(part.outputs, part.batch))
        order.append(part.indices)
    back = torch.cat(order).argsort()
    frame = pandas.concat(frames, ignore_index=True).iloc[back.numpy()].reset_index(drop=True)
    return frame, torch.cat(tallies)[back], torch.zeros(len(examples))


def score(predictor: Predictor, parts: Sequence[Part]) -> tuple[dict[str, float], int]:
    """Score predictions against labels.

    Returns:
        The task's metrics, and how many records have a label; no metrics where none has.
    """
    labelled = torch.cat([part.labelled for part in parts])
    if not bool(labelled.any()):
        return {}, 0
    scores = torch.cat([part.scores for part in parts])[labelled]
    labels = torch.cat([part.labels for part in parts])[labelled]
    metrics = predictor.task.metrics(scores, labels)
    for name, agreement in (
        ("rouge_l", [part.agreement for part in parts]),
        ("past_rouge_l", [part.past_agreement for part in parts]),
    ):
        told = [one for one in agreement if one is not None]
        if told:
            metrics[name] = float(torch.cat(told)[labelled].mean())
    return metrics, int(labelled.sum())


__all__ = [
    "PROBLEM",
    "Part",
    "check_writing",
    "predict",
    "predict_in_parts",
    "read_past",
    "score",
]
