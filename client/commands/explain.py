"""``confide explain``: why a model said what it said of records, on this machine alone."""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
)
from confide.errors import ConfigError
from confide.terminal import make_console, plain

if TYPE_CHECKING:
    from confide.explaining.asked import Answerable, Asked
    from confide.explaining.explanation import Explanations
    from confide.inference.predictor import Predictor

_DESCRIPTION = """Explain what a model said of records: of texts by tokens, of tables by columns, of
pictures and sounds by patches; what it wrote, piece by piece. Nothing leaves this machine.

  confide explain RUN new.csv
  confide explain RUN new.csv --rows 3,7-9 --output why.html --output why.json
  confide explain RUN loans.csv --to good --change income,debt
  confide explain RUN/export/onnx new.csv --method shapley

Each record gets a sentence; --output writes a page, or JSON, that only you can read. Of tables it
also tells the nearest row for which the model decides otherwise, what the model loses without a
column, and how it depends on each one. Attributions are integrated gradients where the model has
gradients, and Shapley values where it has none; whether they add up is checked and told.

What is written was made from your records: keep it as you keep them."""
_FORMS = (".html", ".json")
_RANGE = re.compile(r"(\d{1,12})(?:\s*-\s*(\d{1,12}))?", re.ASCII)
_MOST_ROWS = 10_000
_LINE_S = 10.0
"""Seconds between lines about how far it is, where no bar is shown."""


def main(argv: Sequence[str]) -> int:
    """Run ``confide explain``.

    Args:
        argv: arguments after ``explain``.

    Returns:
        The exit status: 0 done.

    Raises:
        ConfigError: if the command is wrong, or the model is not explained as asked.
        DataError: naming everything that does not fit the task's schema.
        ModelError: if there is no model, or it cannot be used.
    """
    try:
        arguments = _parser().parse_args(list(argv) or ["--help"])
    except SystemExit as stop:
        return int(stop.code or 0)
    _refuse_outputs(arguments)
    from confide.inference import packages

    packages.require(("captum",), "confide explain", extra="explain")
    from confide.explaining.asked import answerable

    asked = _asked(arguments)
    with given_model(arguments) as predictor:
        # Before records are read: what a model cannot answer costs nothing
        able = answerable(predictor, asked)
        _explain(arguments, predictor, asked, able)
    return 0


def _parser() -> argparse.ArgumentParser:
    from confide.explaining.methods.table import METHODS
    from confide.explaining.parts import PARTS, RECORDS

    parser = model_parser("confide explain", _DESCRIPTION)
    add_records(parser)
    add = parser.add_argument
    add(
        "--rows",
        metavar="LIST",
        help=f"records to explain, such as 3,7-9 (default: the first {RECORDS})",
    )
    add(
        "--target",
        metavar="NAME",
        help="what to explain, such as a class (default: of two classes the second, else what was"
        " predicted)",
    )
    add("--method", metavar="NAME", help=", ".join(METHODS))
    add(
        "--baseline", metavar="NAME", help="what records are compared with; a wrong name lists them"
    )
    add("--parts", metavar="LIST", help=f"some of {', '.join(PARTS)} (default: all that apply)")
    add("--to", metavar="GOAL", help="counter-examples: a class, or a bound such as '>0.5'")
    add(
        "--change",
        metavar="COLUMNS",
        help="counter-examples: columns that may change (default: all)",
    )
    add("--fix", metavar="COLUMNS", help="counter-examples: columns that may not, such as age,sex")
    add(
        "--output",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="page (.html) or JSON (.json) to write; may be given twice",
    )
    add("--json", action="store_true", help="print JSON in place of sentences")
    add_misfits(parser)
    add_model_options(parser)
    return parser


def _refuse_outputs(arguments: argparse.Namespace) -> None:
    """Report wrong names before anything is computed.

    Raises:
        ConfigError: naming all of them.
    """
    from confide.client.records.sources.sources import source_file

    problems, source = [], source_file(arguments.records)
    for path in arguments.output:
        if path.suffix.lower() not in _FORMS:
            problems.append(f"--output {path}: expected a name that ends in {' or '.join(_FORMS)}.")
        model = model_around(path)
        if model is not None:
            problems.append(
                f"--output {path}: {model} may travel, and explanations hold your records; name a"
                " file elsewhere."
            )
        # samefile: the same file may be named by two paths, or by a link
        if source is not None and source.exists() and path.exists() and path.samefile(source):
            problems.append(
                f"--output {path} is INPUT itself, {arguments.records}, and would replace it; name"
                " another file."
            )
        if not path.resolve().parent.is_dir():
            problems.append(f"--output {path}: there is no folder {path.parent}; make it first.")
    if problems:
        raise ConfigError(problems)


def _asked(arguments: argparse.Namespace) -> "Asked":
    from confide.explaining.asked import Asked

    return Asked(
        parts=None if arguments.parts is None else _list(arguments.parts),
        records=_rows(arguments.rows),
        method=arguments.method,
        target=arguments.target,
        baseline=arguments.baseline,
        goal=arguments.to,
        change=_list(arguments.change),
        fixed=_list(arguments.fix),
    )


def _rows(text: str | None) -> list[int]:
    """Return the numbers that a list such as 3,7-9 names, each once.

    Raises:
        ConfigError: naming what is no number and no range, or that there are too many.
    """
    found, strange = dict[int, None](), []
    for word in _list(text):
        match = _RANGE.fullmatch(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            strange.append(word)
        elif len(found) + last - first >= _MOST_ROWS:
            raise ConfigError(
                f"--rows {word}: expected at most {_MOST_ROWS:,} records; each takes a while."
            )
        else:
            found.update(dict.fromkeys(range(first, last + 1)))
    if strange:
        raise ConfigError(
            f"--rows {','.join(strange)}: expected numbers and ranges such as 3,7-9, from 1."
        )
    return list(found)


def _list(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _explain(
    arguments: argparse.Namespace, predictor: "Predictor", asked: "Asked", able: "Answerable"
) -> None:
    from confide.config.tasks.table import TASKS
    from confide.explaining.explanation import Explaining
    from confide.explaining.parts import RECORDS

    whole = given_whole(arguments, predictor)
    inputs = fitting_inputs(arguments, predictor, whole, verb="explain")
    columns = len(predictor.plan.task.table_columns)
    count = len(asked.records) or min(len(inputs.records), RECORDS)
    totals = {"records": count, "importance": columns, "dependence": columns}
    totals = {name: it for name, it in totals.items() if name in {"records", *able.parts}}
    with _progress(totals) as advance_fn:
        explaining = Explaining(predictor, inputs, asked, able, advance_fn)
        title = TASKS[predictor.plan.task.kind].title
        made = explaining.explain(title=title, places=whole.places)
    _write(arguments.output, made)
    _print(made, as_json_text=arguments.json)
    for path in arguments.output:
        print(f"written to {path}, readable by you alone", file=sys.stderr)


@contextmanager
def _progress(totals: Mapping[str, int]) -> Iterator[Callable[[str], None]]:
    """Show how far it is, by parts: bars on a terminal, elsewhere a line now and then."""
    from rich.progress import Progress

    console, done = make_console(stderr=True), dict.fromkeys(totals, 0)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks = {name: bar.add_task(name, total=it) for name, it in totals.items()}
        told = time.monotonic()

        def advance(part: str) -> None:
            nonlocal told
            if part not in tasks:
                return
            bar.advance(tasks[part])
            done[part] += 1
            if not console.is_terminal and time.monotonic() >= told + _LINE_S:
                told = time.monotonic()
                print(f"{part}: {done[part]} of {totals[part]}", file=sys.stderr)

        yield advance


def _write(paths: Sequence[Path], made: "Explanations") -> None:
    from confide.explaining.page import page_of
    from confide.explaining.sentences import as_json
    from confide.storage.files import write_text

    for path in paths:
        if path.suffix.lower() == ".json":
            text = json.dumps(as_json(made), indent=2, ensure_ascii=False) + "\n"
        else:
            text = page_of(made)
        write_text(path, text, mode=0o600)


def _print(made: "Explanations", *, as_json_text: bool) -> None:
    from confide.explaining.explanation import WARNING
    from confide.explaining.sentences import all_sentences, as_json, record_sentences

    if as_json_text:
        print(json.dumps(as_json(made), indent=2, ensure_ascii=sys.stdout.isatty()))
        return
    for one in made.records:
        print(plain("\n  ".join(record_sentences(one))))
    for sentence in all_sentences(made):
        print(plain(sentence))
    print(plain(f"Baseline: {made.baseline}. {WARNING}"), file=sys.stderr)


__all__ = ["main"]
