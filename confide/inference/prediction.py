"""Predictions of a trained model on records that may or may not be labelled."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pandas
import pyarrow
import torch
from datasets import Dataset
from torch import Tensor

from confide.config.client import TrainerConfig
from confide.config.tasks.table import TASKS
from confide.config.tasks.task import TaskConfig
from confide.errors import ConfigError, DataError
from confide.held import file_cells
from confide.inference.predictor import Predictor, load_predictor
from confide.models.compute import make_compute
from confide.models.language.writing import RECITES, Writer, WritingOptions
from confide.tasks.made.making import to_predict
from confide.tasks.outcomes.answer import NOTHING, rouge_l
from confide.tasks.outcomes.classes import PREDICTION
from confide.tasks.outcomes.outcome import FilledOutcome
from confide.tasks.task import CompletesPredictions, Examples, TalliedTask, Task
from confide.tasks.values import text_column

log = logging.getLogger(__name__)

_PART = 1024
_LACKING = "The records lack column"
"""How a task's check begins that finds columns missing: here it sees those alone that there are."""


class Inputs(NamedTuple):
    """Records that fit, ready to predict on.

    Attributes:
        records: the columns the task needs, as text; where a label is missing, any label stands.
        labelled: bool, shape [n]; whether the label is the record's own.
    """

    records: Dataset
    labelled: Tensor


class Part(NamedTuple):
    """Predictions for some records.

    Attributes:
        frame: the columns of predictions: of classes ``prediction``, and ``probability_CLASS`` of
            each class.
        scores: of the task, such as class probabilities, or its tallies, shape [n, ...].
        labels: shape [n, ...]; meaningless where ``labelled`` is false, or tallies hold them.
        labelled: bool, shape [n].
        agreement: ROUGE-L of answers that were written, shape [n]; None where none was.
    """

    frame: pandas.DataFrame
    scores: Tensor
    labels: Tensor
    labelled: Tensor
    agreement: Tensor | None = None


def predict(
    run: Path | str,
    records: Dataset | pandas.DataFrame,
    *,
    device: str = "auto",
    custom_tasks: Sequence[str] = (),
    backbone: Path | str | None = None,
    writing: WritingOptions | None = None,
) -> pandas.DataFrame:
    """Predict.

    Args:
        run: RUN, ``RUN/model``, or a folder that ``confide export`` wrote.
        records: the task's input columns; others, the label among them, are not looked at. Rows
            that records are made of, such as interactions, give one record a user.
        device: auto, cpu, cuda or mps.
        custom_tasks: dotted paths of custom tasks that may be imported; none is on a file's
            word.
        backbone: folder of the run's pretrained backbone; None: where it was when it was trained.
        writing: how a language model writes its answers; None: the likeliest words.

    Returns:
        One row a record, in order and with the index of ``records``: of classes ``prediction``, the
        name of the likeliest class, and ``probability_CLASS`` for each class; of conversations
        ``prediction``, the answer.

    Raises:
        DataError: naming everything that does not fit the task's schema.
        ModelError: if there is no model, or it cannot be used.
    """
    # Nothing derived from records is kept: who predicts once has not asked for a cache.
    compute = make_compute(TrainerConfig(device=device, feature_cache=None))
    predictor = load_predictor(
        Path(run), compute=compute, custom_tasks=custom_tasks, backbone=backbone
    )
    rows = made_to_predict(records, predictor.plan.task)
    inputs = read_inputs(predictor, records if rows is None else rows, with_labels=False)
    frames = [
        part.frame for part in predict_in_parts(predictor, inputs, writing or WritingOptions())
    ]
    made = pandas.concat(frames, ignore_index=True)
    if rows is not None:
        return pandas.concat(
            [rows.select_columns(kept_of(rows, predictor)).to_pandas(), made], axis=1
        )
    if isinstance(records, pandas.DataFrame):
        made.index = records.index
    return made


def made_to_predict(records: Dataset | pandas.DataFrame, task: TaskConfig) -> Dataset | None:
    """Make records of rows, such as a user's interactions; None where records are there already.

    Raises:
        DataError: naming what is wrong with the rows.
    """
    names = set(_names(records))
    is_made = TASKS[task.kind].maker is None or set(task.content_columns) <= names
    if is_made or not set(task.source_columns) <= names or not len(records):
        return None
    table = pyarrow.table({name: _as_text(records, name) for name in task.source_columns})
    made = to_predict(Dataset(table, fingerprint=uuid4().hex), task)
    if made.problems:
        raise DataError([problem.text for problem in made.problems])
    return made.records


def kept_of(made: Dataset, predictor: Predictor) -> list[str]:
    """Name the columns of made records that say whose they are."""
    content = predictor.task.content_columns()
    return [name for name in made.column_names if name not in content]


def read_inputs(
    predictor: Predictor,
    records: Dataset | pandas.DataFrame,
    *,
    with_labels: bool = True,
    places: Sequence[str] = (),
) -> Inputs:
    """Take the columns that the task needs, and check them.

    Args:
        predictor: whose task.
        records: with a label column or without; a label may be missing.
        with_labels: whether to read labels where there are some.
        places: where each record is, for problems; empty: they are known by their numbers.

    Raises:
        DataError: naming everything that does not fit: each problem with the first record it is
            found in.
    """
    task, config = predictor.task, predictor.plan.task
    _refuse_odd(records, [*task.content_columns(), *config.target_columns])
    names = [name for name in input_columns(task, config) if name in _names(records)]
    columns = {name: _as_cells(records, name, config) for name in names}
    labels = {
        name: _as_cells(records, name, config).to_pylist()
        for name in config.target_columns
        if with_labels and name in _names(records)
    }
    labelled = predictor.outcome.labelled(labels) or [False] * len(records)
    # A schema wants a label in each record; where there is none any will do, and is not looked at.
    for name, any_label in predictor.outcome.placeholder().items():
        known = labels.get(name, labelled)
        columns[name] = pyarrow.array(
            [
                label if is_known else any_label
                for label, is_known in zip(known, labelled, strict=True)
            ],
            pyarrow.string(),
        )
    if isinstance(predictor.outcome, FilledOutcome):
        whole = {name: column.to_pylist() for name, column in columns.items()}
        for name, values in predictor.outcome.completed(whole).items():
            columns[name] = pyarrow.array(values, pyarrow.string())
    # Without a fingerprint `datasets` would pickle every record to make one.
    taken = Dataset(pyarrow.table(columns), fingerprint=uuid4().hex)
    needed = input_columns(task, config)
    missing = _lacking(needed, _names(records))
    problems = [*missing, *_problems(task, taken, places)]
    if problems:
        raise DataError(problems)
    return Inputs(taken, torch.tensor(labelled, dtype=torch.bool))


def input_columns(task: Task, config: TaskConfig) -> list[str]:
    """Name the columns that a prediction takes.

    An answer belongs to what a conversation is, and is what is to be predicted of it; where it is
    in one column with what was asked, that is taken.
    """
    content = list(task.content_columns())
    return [name for name in content if name not in config.target_columns] or content


def _refuse_odd(records: Dataset | pandas.DataFrame, needed: Sequence[str]) -> None:
    """Refuse what has no records, or a column twice: a frame can."""
    if not len(records):
        raise DataError(
            "Expected at least one record; got 0, with columns"
            f" {', '.join(map(str, _names(records))) or 'none'}."
        )
    names = _names(records)
    twice = [name for name in needed if names.count(name) > 1]
    if twice:
        raise DataError(
            f"The records have column {', '.join(twice)} more than once; leave one of each."
        )


def _names(records: Dataset | pandas.DataFrame) -> list[str]:
    return (
        list(records.columns)
        if isinstance(records, pandas.DataFrame)
        else list(records.column_names)
    )


def _as_cells(records: Dataset | pandas.DataFrame, name: str, config: TaskConfig) -> pyarrow.Array:
    """Look at files: paths from the current folder on, bytes of files, or cells."""
    files = None if config.files is None else config.files.of(name)
    if files is None:
        return _as_text(records, name)
    values = (
        records.select_columns([name]).with_format("arrow")[:][name]
        if isinstance(records, Dataset)
        else pyarrow.array(records[name], from_pandas=True)
    )
    return file_cells(values, files, Path(), looked=True)


def _as_text(records: Dataset | pandas.DataFrame, name: str) -> pyarrow.Array:
    if isinstance(records, Dataset):
        return text_column(name, records.select_columns([name]).with_format("arrow")[:][name])
    try:
        return text_column(name, pyarrow.array(records[name], from_pandas=True))
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        raise DataError(
            f"Column {name} holds values of several types ({error}); write them all as text."
        ) from None


def _lacking(needed: Sequence[str], present: Sequence[str]) -> list[str]:
    missing = [name for name in needed if name not in present]
    if not missing:
        return []
    return [
        f"{_LACKING} {', '.join(missing)}; they have {', '.join(map(str, present))}. "
        "Rename a column of the records: the model was trained on these."
    ]


def _problems(task: Task, records: Dataset, places: Sequence[str]) -> list[str]:
    """List what does not fit, each problem with the first record that it is found in."""

    def found(column: str, start: int, end: int) -> bool:
        part = records.select(range(start, end))
        return any(one.partition(":")[0] == column for one in task.check(part))

    problems = []
    for problem in task.check(records):
        if problem.startswith(_LACKING):
            continue
        column = problem.partition(":")[0]
        # By halving, since a task's check counts and keeps no numbers: the problem is not in the
        # first `low` records, but in the first `high`.
        low, high = 0, len(records)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if found(column, low, middle) else (middle, high)
        # A custom check may find what no single record shows.
        single = found(column, low, high)
        place = places[high - 1] if places else f"record {high}"
        problems.append(f"{problem} First in {place}." if single else problem)
    return problems


def predict_in_parts(
    predictor: Predictor, inputs: Inputs, writing: WritingOptions | None = None
) -> Iterator[Part]:
    """Predict a part of the records at a time, in order.

    Args:
        predictor: the model.
        inputs: records that fit.
        writing: how a model that writes does so; None: its predictions are the likeliest token at
            each place of the answer that a record brings.

    Raises:
        ModelError: if the model gives no finite numbers.
        ConfigError: if it writes the likeliest words alone, and others are asked for.
    """
    if writing is not None and predictor.writer is None and predictor.plan.task.outcome.is_written:
        _refuse_drawing(writing)
        if not predictor.plan.private:
            log.warning(RECITES)
    for start in range(0, len(inputs.records), _PART):
        records = inputs.records.select(range(start, min(start + _PART, len(inputs.records))))
        examples = predictor.prepare(records)
        frame, scores, labels = (_tallied if isinstance(predictor.task, TalliedTask) else _scored)(
            predictor, examples
        )
        if isinstance(predictor.task, CompletesPredictions):
            columns = {str(name): list(frame[name]) for name in frame}
            frame = pandas.DataFrame(dict(predictor.task.completed(columns, records)))
        part = Part(frame, scores, labels, inputs.labelled[start : start + _PART])
        if writing is not None and predictor.writer is not None:
            part = _written(predictor.writer, records, part, examples, writing)
        yield part


def _refuse_drawing(writing: WritingOptions) -> None:
    """Refuse options for a model whose texts are part of its outputs."""
    if writing != WritingOptions():
        raise ConfigError(
            "This model writes the likeliest words, as many as task.outcome.max_tokens says; leave"
            " --temperature, --top-p, --seed and --max-new-tokens out."
        )


def _written(
    writer: Writer, records: Dataset, part: Part, examples: Examples, writing: WritingOptions
) -> Part:
    """Return a part whose predictions were written, and how they agree with known answers."""
    answers = writer.write(records, writing)
    frame = pandas.DataFrame({PREDICTION: [writer.task.written(ids) for ids in answers]})
    known = [
        [token for token in row if token != NOTHING and token not in writer.task.end_ids]
        for row in examples.labels.tolist()
    ]
    agreement = torch.tensor(list(map(rouge_l, answers, known)), dtype=torch.float64)
    return part._replace(frame=frame, agreement=agreement)


def _scored(predictor: Predictor, examples: Examples) -> tuple[pandas.DataFrame, Tensor, Tensor]:
    """Return predictions, scores and labels, each of all records."""
    logits = torch.empty((len(examples), predictor.plan.task.num_outputs))
    for part in predictor.passes(examples):
        logits[part.indices] = part.outputs
    scores = predictor.task.scores(logits)
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
    agreement = [part.agreement for part in parts if part.agreement is not None]
    if agreement:
        metrics["rouge_l"] = float(torch.cat(agreement)[labelled].mean())
    return metrics, int(labelled.sum())


__all__ = [
    "Inputs",
    "Part",
    "input_columns",
    "kept_of",
    "made_to_predict",
    "predict",
    "predict_in_parts",
    "read_inputs",
    "score",
]
