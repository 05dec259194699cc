"""The model and the records that a command is given: options, and what they name."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from confide.client.records.sources.reading_options import add_reading_options, reading_of
from confide.config.custom import BACKBONE_HELP, CUSTOM_TASK_HELP, look_in_current_folder
from confide.errors import DataError
from confide.terminal import plain

if TYPE_CHECKING:
    from confide.client.records.whole import Whole
    from confide.inference.inputs import Inputs
    from confide.inference.predictor import Predictor

_INPUT_HELP = (
    "a file (.csv, .tsv, .jsonl, .ndjson, .json, .parquet, .arrow, .conll, .npz), a folder of"
    " pictures or sounds, pkg://PACKAGE/FILE, or a database's URL"
)
_PERSONAL_HELP = (
    "use an institution's own model, where the strategy has some stay there: its name, of a"
    " simulation, or the folder of its kit"
)
_DEVICES = ("auto", "cpu", "cuda", "mps")
_SKIP = "skip"


def model_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of a command whose first argument is a model: a run's or an exported one.

    Args:
        prog: words that call the command.
        description: what ``--help`` says of it, as it is laid out.
    """
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        type=Path,
        help="RUN, RUN/model, or a folder that confide export wrote",
    )
    return parser


def model_around(path: Path) -> Path | None:
    """Return the run or the model that a file would lie in, which may travel; None for none."""
    return next((it for it in path.resolve().parents if _holds_model(it)), None)


def _holds_model(folder: Path) -> bool:
    return any((folder / place / "confide.json").is_file() for place in (".", "model"))


def add_records(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Add the records, and how they are read; optional ones may be left out, and are None."""
    parser.add_argument(
        "records", metavar="INPUT", help=_INPUT_HELP, nargs="?" if optional else None
    )
    parser.add_argument("--query", help="SQL query (SELECT ...), if INPUT is a database's URL")
    add_reading_options(parser)


def add_misfits(parser: argparse.ArgumentParser) -> None:
    """Add what becomes of records that do not fit the model's schema."""
    parser.add_argument(
        "--misfits",
        choices=("refuse", _SKIP),
        default="refuse",
        help="records that do not fit what the model was trained on, such as a category that it"
        " does not know: refuse all, or skip these (default: refuse)",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add whose model it is, and what it takes to load it."""
    add = parser.add_argument
    add("--personal", metavar="WHERE", help=_PERSONAL_HELP)
    add("--custom-task", metavar="PATH", action="append", default=[], help=CUSTOM_TASK_HELP)
    add("--backbone", metavar="FOLDER", help=BACKBONE_HELP)
    add("--device", choices=_DEVICES, default="auto", help="device to compute on")


@contextmanager
def given_model(arguments: argparse.Namespace) -> Iterator["Predictor"]:
    """Load the model that is named; its folder may be there for the moment only.

    Raises:
        ConfigError: if the options are wrong.
        ModelError: if there is no model, or it cannot be used.
    """
    # Tokenizers warn, and fall back, when a process forks after they used threads
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    look_in_current_folder(arguments.custom_task)
    from confide.client.personal.model import model_of
    from confide.config.client import TrainerConfig
    from confide.inference.predictor import load_predictor
    from confide.models.compute import make_compute

    # Without a cache of features: nothing of the records is kept on disk
    compute = make_compute(TrainerConfig(device=arguments.device, feature_cache=None))
    loading = {"custom_tasks": arguments.custom_task, "backbone": arguments.backbone}
    with model_of(arguments.run, arguments.personal, **loading) as folder:
        yield load_predictor(folder, compute=compute, **loading)


def needed_columns(predictor: "Predictor") -> list[str]:
    """Name the columns that a model's task reads, those of the outcome too."""
    schema = predictor.plan.task
    columns = [*predictor.task.content_columns(), *schema.target_columns, *schema.source_columns]
    return list(dict.fromkeys(columns))


def given_whole(
    arguments: argparse.Namespace,
    predictor: "Predictor",
    *,
    path: str | None = None,
    keep: Sequence[str] | None = (),
) -> "Whole":
    """Read records as they come, for a model whose task makes records of rows too.

    Args:
        arguments: of a command that :func:`add_records` gave its options.
        predictor: the model.
        path: where they are; None: where INPUT says.
        keep: names of columns to keep beside those that are needed; None: all.

    Raises:
        ConfigError: if a column to keep does not exist.
        DataError: if they cannot be read, or have none of the columns.
    """
    from confide.client.records.whole import Whole, read_whole
    from confide.inference.inputs import kept_of, made_to_predict

    schema = predictor.plan.task
    whole = read_whole(
        arguments.records if path is None else path,
        query=arguments.query if path is None else None,
        needed=needed_columns(predictor),
        keep=keep,
        reading=replace(reading_of(arguments), files=schema.files),
    )
    rows = made_to_predict(whole.records, schema)
    if rows is None:
        return whole
    # A line a user, and not a line a row
    told = rows.select_columns(kept_of(rows, predictor)).data.table
    return Whole(records=rows, kept=told)


def given_inputs(
    predictor: "Predictor", whole: "Whole", *, skip: bool = False, source: str = ""
) -> "Inputs":
    """Check records against the model's task; say on standard error what is outside its ranges.

    Args:
        predictor: whose task.
        whole: the records.
        skip: whether to leave out those that do not fit.
        source: what they are, where a command reads others too.

    Raises:
        DataError: naming everything that does not fit.
    """
    from confide.inference.inputs import read_inputs
    from confide.tasks.ranges import outside_notes

    inputs = read_inputs(predictor, whole.records, places=whole.places, skip=skip)
    schema, records = predictor.plan.task, inputs.records
    cells = {it: records[it][:] for it in schema.table_columns if it in records.column_names}
    for note in outside_notes(cells, schema):
        print(plain(f"note: {source and f'{source}: '}{note}"), file=sys.stderr)
    return inputs


def fitting_inputs(
    arguments: argparse.Namespace, predictor: "Predictor", whole: "Whole", *, verb: str
) -> "Inputs":
    """Check records with :func:`given_inputs`, and do with those that do not fit as was asked.

    Args:
        arguments: of a command that :func:`add_misfits` gave its option.
        predictor: whose task.
        whole: the records.
        verb: what the command does with records, such as ``predict``.

    Raises:
        DataError: naming everything that does not fit, and what could be done about it.
    """
    from confide.tasks.schema import LACKING

    skip = arguments.misfits == _SKIP
    try:
        return given_inputs(predictor, whole, skip=skip)
    except DataError as error:
        # Records without a column that is needed fit none of them
        if skip or any(problem.startswith(LACKING) for problem in error.problems):
            raise
        advice = (
            f"Nothing was {verb}ed. Correct these records, or {verb} the others with"
            f" --misfits {_SKIP}; what fits was settled when the model was trained."
        )
        raise DataError(error.problems, advice) from None


__all__ = [
    "add_misfits",
    "add_model_options",
    "add_records",
    "fitting_inputs",
    "given_inputs",
    "given_model",
    "given_whole",
    "model_around",
    "model_parser",
    "needed_columns",
]
