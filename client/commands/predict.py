"""``confide predict``: a model's predictions on a file of records."""

import argparse
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from confide.client.commands.given import (
    add_misfits,
    add_model_options,
    add_records,
    fitting_inputs,
    given_model,
    given_whole,
    model_around,
    model_parser,
    needed_columns,
)
from confide.client.commands.writing_options import add_writing_options, writing_of
from confide.config.spelling import counted
from confide.errors import ConfigError
from confide.terminal import PlainStream, is_reader_gone, make_console

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from confide.inference.language.past_answers import PastAnswers
    from confide.inference.prediction import Part
    from confide.inference.predictor import Predictor

_DESCRIPTION = """Predict on a file of records, with the model of a run or an exported one.

Nothing leaves this machine.

  confide predict runs/2026-11-22/00-26-38 new.csv > predicted.csv
  confide predict RUN patients.parquet --output predicted.parquet --keep id
  confide predict RUN/export/onnx new.csv --output predicted.jsonl
  confide predict RUN questions.csv --past answered.csv
  confide predict RUN 'postgresql+psycopg://ann@db/ward' --query 'SELECT * FROM heart'

The output has the columns of the input and those of the prediction: of classes a column prediction
with the most likely one, and a column probability_CLASS for each; of conversations a column
prediction with the answer, and after --past the past conversation that was shown. Without --output
it is CSV on the standard output. The label column may be missing, or empty for some records; the
task's metrics on labelled ones are printed. If records do not fit, all mistakes are listed at once,
and nothing is written; with --misfits skip these records have no prediction, and a column problem
that says why."""

_KEEP_HELP = "columns of INPUT to keep, such as id,text (default: all)"


def main(argv: Sequence[str]) -> int:
    """Run ``confide predict``.

    Args:
        argv: arguments after ``predict``.

    Returns:
        The exit status: 0 done.

    Raises:
        ConfigError: if the command is wrong.
        DataError: naming everything that does not fit the task's schema.
        ModelError: if there is no model, or it cannot be used.
    """
    try:
        arguments = _parser().parse_args(list(argv) or ["--help"])
    except SystemExit as stop:
        return int(stop.code or 0)
    if arguments.output is not None:
        _check_output(arguments)
    with given_model(arguments) as predictor:
        _predict(arguments, predictor)
    return 0


def _check_output(arguments: argparse.Namespace) -> None:
    """Refuse a file that cannot be written, or must not be, before anything is computed."""
    from confide.client.commands.predictions_file import writer_for
    from confide.client.records.sources.sources import source_file

    output = arguments.output
    writer_for(output)
    source = source_file(arguments.records)
    # samefile: the same file may be named by two paths, or by a link
    if source is not None and source.exists() and output.exists() and output.samefile(source):
        raise ConfigError(
            f"--output {output} is INPUT itself, {arguments.records}, and would replace it; name"
            " another file."
        )
    model = model_around(output)
    if model is not None:
        raise ConfigError(
            f"--output {output}: {model} may travel, and predictions hold your records; name a"
            " file elsewhere."
        )


def _parser() -> argparse.ArgumentParser:
    parser = model_parser("confide predict", _DESCRIPTION)
    add_records(parser)
    add = parser.add_argument
    add(
        "--output",
        type=Path,
        help="file to write: .csv, .tsv, .jsonl or .parquet (default: CSV to stdout)",
    )
    add("--keep", metavar="COLUMNS", help=_KEEP_HELP)
    add_misfits(parser)
    add_model_options(parser)
    group = add_writing_options(parser)
    group.add_argument(
        "--past",
        metavar="INPUT",
        help="past conversations of your own, of which a model that answers conversations is shown"
        " the nearest; what it writes may repeat it",
    )
    group.add_argument(
        "--past-encoder",
        metavar="FOLDER",
        help="frozen encoder of texts that finds it (default: all-MiniLM-L6-v2)",
    )
    return parser


def _predict(arguments: argparse.Namespace, predictor: "Predictor") -> None:
    from confide.client.commands.predictions_file import write_predictions
    from confide.inference.prediction import predict_in_parts

    keep = None if arguments.keep is None else [name for name in arguments.keep.split(",") if name]
    whole = given_whole(arguments, predictor, keep=keep)
    past = _read_past(arguments, predictor)
    skip = arguments.misfits == "skip"
    _refuse_taken(predictor, whole.kept.column_names, has_past=past is not None, skip=skip)
    inputs = fitting_inputs(arguments, predictor, whole, verb="predict")
    parts: list[Part] = []
    # On one terminal a bar and the predictions would write into each other
    hidden = arguments.output is None and sys.stdout.isatty()
    made = predict_in_parts(predictor, inputs, writing_of(arguments), past)
    in_parquet = arguments.output is not None and arguments.output.suffix.lower() == ".parquet"
    kept = whole.typed() if in_parquet else whole.kept
    misfits = inputs.misfits if skip else None
    tables = _tables(kept, made, parts, inputs.given, misfits, hidden=hidden)
    if arguments.output is not None:
        write_predictions(arguments.output, tables)
    elif not _print(tables):
        return
    _summarise(predictor, parts, arguments.output)
    if misfits:
        print(
            f"{counted(len(misfits), 'record')} skipped, which did not fit; column problem says"
            " why",
            file=sys.stderr,
        )


def _read_past(arguments: argparse.Namespace, predictor: "Predictor") -> "PastAnswers | None":
    """Read past conversations, if any are named.

    Raises:
        ConfigError: if the model answers none.
        DataError: naming everything that does not fit.
    """
    from confide.client.records.sources.reading_options import reading_of
    from confide.client.records.whole import read_whole
    from confide.inference.language.past_answers import ENCODER, refuse_unshown
    from confide.inference.prediction import read_past

    if arguments.past is None:
        if arguments.past_encoder is not None:
            raise ConfigError("--past-encoder finds past conversations; name them with --past.")
        return None
    refuse_unshown(predictor.task)
    whole = read_whole(
        arguments.past,
        query=None,
        needed=needed_columns(predictor),
        keep=[],
        reading=reading_of(arguments),
    )
    encoder = arguments.past_encoder or ENCODER
    return read_past(predictor, whole.records, encoder=encoder, places=whole.places)


def _refuse_taken(
    predictor: "Predictor", kept: Sequence[str], *, has_past: bool, skip: bool
) -> None:
    from confide.inference.language.past_answers import COLUMNS
    from confide.inference.prediction import PROBLEM

    added = {
        *predictor.outcome.prediction_columns(),
        *(COLUMNS if has_past else ()),
        *([PROBLEM] if skip else ()),
    }
    taken = [name for name in kept if name in added]
    if taken:
        raise ConfigError(
            f"The records have column {', '.join(taken)} already; name those to keep with --keep,"
            " or rename it."
        )


def _tables(
    kept: "pyarrow.Table",
    made: "Iterator[Part]",
    parts: "list[Part]",
    fitting: Sequence[int],
    misfits: "Mapping[int, str] | None",
    *,
    hidden: bool,
) -> "Iterator[pyarrow.Table]":
    """Yield records with their predictions, and collect the parts that are scored later.

    Args:
        kept: columns of all records.
        made: predictions for those that fit.
        parts: takes them.
        fitting: positions of those that fit, ascending.
        misfits: the others, with their problems; None: no column is told of problems.
        hidden: whether no bar is shown.
    """
    from rich.progress import Progress

    console = make_console(stderr=True)
    # Nothing is redirected: standard output is the predictions', byte for byte
    with Progress(
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=hidden or not console.is_terminal,
    ) as bar:
        task = bar.add_task("predict", total=len(kept))
        start, used = 0, 0
        for part in made:
            used += len(part.frame)
            # Those that do not fit stand before the next one that does
            end = len(kept) if used == len(fitting) else fitting[used]
            yield _joined(kept.slice(start, end - start), start, part.frame, misfits)
            # Scores need no frames, and all of them together may not fit in memory
            parts.append(part._replace(frame=part.frame.iloc[:0]))
            bar.advance(task, end - start)
            start = end


def _joined(
    table: "pyarrow.Table",
    start: int,
    predictions: "pandas.DataFrame",
    misfits: "Mapping[int, str] | None",
) -> "pyarrow.Table":
    """Put predictions beside records, null beside those that do not fit.

    Args:
        table: some records.
        start: position of the first.
        predictions: for those that fit.
        misfits: position of each that does not -> why.
    """
    import pyarrow

    from confide.inference.prediction import PROBLEM

    columns = {str(name): pyarrow.array(values) for name, values in predictions.items()}
    if misfits is not None:
        told = [misfits.get(place) for place in range(start, start + len(table))]
        numbers = iter(range(len(predictions)))
        # Taken rather than filled in: integers stay integers
        places = pyarrow.array([next(numbers) if why is None else None for why in told], "int64")
        columns = {name: values.take(places) for name, values in columns.items()}
        columns[PROBLEM] = pyarrow.array(told, pyarrow.string())
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table


def _print(tables: "Iterator[pyarrow.Table]") -> bool:
    """Print CSV; return whether the reader of the output took all of it."""
    from confide.client.commands.predictions_file import write_csv

    # The reader, such as `head`, may have read enough.
    out = PlainStream(sys.stdout) if sys.stdout.isatty() else sys.stdout
    write_csv(out, itertools.takewhile(lambda _: not is_reader_gone(), tables))
    sys.stdout.flush()
    return not is_reader_gone()


def _summarise(predictor: "Predictor", parts: "Sequence[Part]", output: Path | None) -> None:
    from confide.inference.prediction import score

    count = sum(len(part.labels) for part in parts)
    where = f" in {output}" if output is not None else ""
    model = predictor.description.model_sha256[:12]
    print(f"{counted(count, 'record')} predicted by model {model}{where}", file=sys.stderr)
    metrics, labelled = score(predictor, parts)
    if labelled:
        values = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        print(
            f"on {labelled} labelled ones, which may include records that the model was trained"
            f" on: {values}",
            file=sys.stderr,
        )


__all__ = ["main"]
