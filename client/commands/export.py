"""``confide export``: a run's model in a form for others, checked against the original."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from confide.config.custom import BACKBONE_HELP, CUSTOM_TASK_HELP, look_in_current_folder
from confide.terminal import make_console

if TYPE_CHECKING:
    from datasets import Dataset

    from confide.inference.comparison import Comparison

_DESCRIPTION = """Write the model of a run in a form that others can use.

  hf      a Hugging Face folder; a LoRA adapter is kept apart from the weights it was trained on
  merged  a Hugging Face folder; the adapter is merged into the weights
  onnx    one ONNX file, float32
  int8    one ONNX file whose matrices are 8-bit integers: a quarter of the size, outputs differ
  xgboost boosted trees in xgboost's JSON, which xgboost.Booster loads (confide[trees])

transformers loads hf and merged: AutoModel loads the encoder, and
AutoModelForSequenceClassification with trust_remote_code=True the whole classifier, by a file in
the folder. Models of tables need trust_remote_code=True in either case. `confide predict` takes any
exported folder in place of RUN. Each folder is complete and may be moved.

  confide export runs/2026-11-22/00-26-38 --to onnx
  confide export RUN --to int8 --check labelled.csv --output small

Before the folder is written, its predictions are compared with those of the run's model, on the
records of --check or on invented ones. Forms that differ by more than 1e-4 are not written, but for
int8, of which the metrics of both models are printed."""
# Apart from their meaning, which takes torch to import
_FORMS = ("hf", "merged", "onnx", "int8", "xgboost")


def main(argv: Sequence[str]) -> int:
    """Run ``confide export``.

    Args:
        argv: arguments after ``export``.

    Returns:
        The exit status: 0 done.

    Raises:
        ConfigError: if the command is wrong, a package is missing, or the folder is taken.
        DataError: if the records to check on do not fit.
        ModelError: if there is no model, or an exact form of it differs from it.
        StorageError: if the folder cannot be written.
    """
    try:
        arguments = _parser().parse_args(list(argv) or ["--help"])
    except SystemExit as stop:
        return int(stop.code or 0)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Imported once the command is known to be right: it takes torch.
    from confide.client.personal.model import model_of, named
    from confide.inference.export import default_folder, export

    run, form, custom_tasks = arguments.run, arguments.to, arguments.custom_task
    look_in_current_folder(custom_tasks)
    check = _records(arguments) if arguments.check is not None else None
    whose = arguments.personal
    what = form if whose is None else f"{form}-{named(whose)}"
    folder = arguments.output or default_folder(run, what)
    with model_of(run, whose, custom_tasks=custom_tasks, backbone=arguments.backbone) as model:
        comparison = export(
            model, form, folder, check=check, custom_tasks=custom_tasks, backbone=arguments.backbone
        )
    _show(comparison, folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="confide export",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="RUN, or RUN/model")
    parser.add_argument("--to", required=True, choices=_FORMS, help="form of the model")
    parser.add_argument(
        "--output", metavar="FOLDER", type=Path, help="folder to write (default: RUN/export/FORM)"
    )
    parser.add_argument(
        "--check", metavar="RECORDS", help="file of records to compare on, preferably labelled"
    )
    parser.add_argument(
        "--personal",
        metavar="WHERE",
        help="export an institution's own model, where the strategy has some stay there: its name,"
        " of a simulation, or the folder of its kit",
    )
    parser.add_argument("--query", help="SQL query (SELECT ...), if RECORDS is a database's URL")
    parser.add_argument(
        "--custom-task", metavar="PATH", action="append", default=[], help=CUSTOM_TASK_HELP
    )
    parser.add_argument("--backbone", metavar="FOLDER", help=BACKBONE_HELP)
    return parser


def _records(arguments: argparse.Namespace) -> "Dataset":
    from confide.client.records.sources.reading import Reading
    from confide.client.records.whole import read_whole
    from confide.inference.predictor import find_model
    from confide.models.saved import read_description

    task = read_description(find_model(arguments.run)).plan.task
    # Other columns are not even read: nothing of them is compared or shown
    needed = list(dict.fromkeys([*task.content_columns, *task.target_columns]))
    return read_whole(
        arguments.check,
        query=arguments.query,
        needed=needed,
        keep=(),
        reading=Reading(files=task.files),
    ).records


def _show(comparison: "Comparison", folder: Path) -> None:
    from confide.tables import Table

    numbers = ("run", comparison.form)
    table = Table("", *numbers, numbers=numbers, title=f"{comparison.num_examples} records")
    run, exported = comparison.run, comparison.exported
    table.add_row("MB", f"{run.size_mb:.2f}", f"{exported.size_mb:.2f}")
    table.add_row("ms a record", f"{run.ms_per_record:.3f}", f"{exported.ms_per_record:.3f}")
    what = f"largest difference of {comparison.score_name}"
    table.add_row(what, "", f"{comparison.difference:.1e}")
    for name, value in run.metrics.items():
        got = exported.metrics.get(name)  # missing if the exported model's outputs are not finite
        table.add_row(
            f"{name}, {comparison.num_labelled} labelled",
            f"{value:.4f}",
            "-" if got is None else f"{got:.4f}",
        )
    console = make_console()
    table.show(console)
    console.print(f"written to {folder}", highlight=False, soft_wrap=True, markup=False)


__all__ = ["main"]
