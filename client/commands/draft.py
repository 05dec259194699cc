"""``confide data draft``: drafts a task's schema from records, or merges drafts."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from confide.client.records.drafting.arguments import SOURCES, add_named
from confide.client.records.sources.reading_options import add_reading_options, reading_of
from confide.errors import EXIT_FAILED, ConfigError, StorageError
from confide.storage.files import write_text
from confide.terminal import plain

if TYPE_CHECKING:
    from confide.config.tasks.task import TaskConfig

_YAML = (".yaml", ".yml")


def main(argv: Sequence[str]) -> int:
    """Run ``confide data draft``.

    Args:
        argv: arguments after ``draft``.

    Returns:
        The exit status: 0 drafted, 1 drafts that contradict each other.

    Raises:
        ConfigError: if the command is wrong, or a draft cannot be read.
        DataError: if the records cannot be read, or hold nothing to learn.
        StorageError: if the file cannot be written.
    """
    try:
        arguments = _parser().parse_args(list(argv) or ["--help"])
    except SystemExit as stop:
        return int(stop.code or 0)
    drafts = [word for word in arguments.sources if Path(word).suffix.lower() in _YAML]
    if drafts and len(drafts) == len(arguments.sources):
        return _merge([Path(word) for word in drafts], arguments.output)
    if drafts or len(arguments.sources) != 1:
        raise ConfigError(
            "confide data draft: expected one source of records, or drafts that end in .yaml; got"
            f" {' '.join(arguments.sources)}."
        )
    from confide.client.records.drafting.draft import Named
    from confide.client.records.drafting.reading import draft_source
    from confide.client.records.drafting.writing import draft_yaml, notes_of

    (source,) = arguments.sources
    reading = reading_of(arguments)
    named = Named(label=arguments.label, identifier=arguments.id, text=arguments.text)
    draft = draft_source(source, named, query=arguments.query, reading=reading)
    _write(draft_yaml(draft, source=_shown(source)), arguments.output)
    for line in notes_of(draft):
        print(plain(line), file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="confide data draft",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""Draft a task's schema from records, for people to check and correct.

  confide data draft records.csv --output conf/task/mine.yaml
  confide data draft A.yaml B.yaml         # one task from several institutions' drafts

Every column gets a kind, with its categories or its range; what means missing is found, and what
should be no input is left out and named: ids, free text, dates, constants, columns that identify
people or tell the label by themselves. Ranges are rounded outward, but they and the categories are
statistics of the records: task.drafted lists them until somebody confirms them. Nothing leaves
this machine.""",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="RECORDS",
        help=(
            f"{SOURCES}; or drafts (.yaml) to merge: union of categories, widest ranges, conflicts"
            " listed"
        ),
    )
    add_named(parser)
    add_reading_options(parser)
    parser.add_argument(
        "--output", "-o", type=Path, metavar="FILE", help="file to write (default: printed)"
    )
    return parser


def _merge(paths: Sequence[Path], output: Path | None) -> int:
    from confide.client.records.drafting.merging import merge_tasks
    from confide.client.records.drafting.writing import task_yaml

    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError("A draft is named twice; name each once.")
    merged = merge_tasks({_name(path, paths): _read(path) for path in paths})
    for conflict in merged.conflicts:
        print(plain(f"conflict: {conflict}"), file=sys.stderr)
    if merged.task is None:
        print("confide data draft: these drafts have nothing in common.", file=sys.stderr)
        return EXIT_FAILED
    notes = [f"Merged from {', '.join(map(str, paths))}."]
    notes += [f"CONFLICT: {conflict}." for conflict in merged.conflicts]
    _write(task_yaml(merged.task, notes=notes), output)
    return EXIT_FAILED if merged.conflicts else 0


def _name(path: Path, paths: Sequence[Path]) -> str:
    alone = sum(other.name == path.name for other in paths) == 1
    return path.name if alone else str(path)


def _read(path: Path) -> "TaskConfig":
    """Read a draft, held to the schema."""
    from hydra.errors import ConfigCompositionException
    from pydantic import TypeAdapter, ValidationError

    from confide.config.composing.own_files import in_file
    from confide.config.composing.own_source import kind_problem, parse
    from confide.config.fields import range_problems
    from confide.config.tasks.task import TaskConfig
    from confide.protocol.plan import Task

    try:
        raw = parse(path)
        problem = kind_problem("task", raw)
        if problem:
            raise ConfigError(in_file(path, problem.removeprefix("task.")))
        raw.pop("defaults", None)
        task: TaskConfig = TypeAdapter(Task).validate_json(json.dumps(raw))
    except ConfigCompositionException as error:
        raise ConfigError(str(error)) from None
    except ValidationError as error:
        raise ConfigError(
            [
                in_file(path, f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg'].rstrip('.')}.")
                for e in error.errors(include_url=False)
            ]
        ) from None
    problems = [in_file(path, problem) for problem in range_problems(task)]
    if problems:
        raise ConfigError(problems)
    return task


def _write(text: str, output: Path | None) -> None:
    if output is None:
        print(text, end="")
        return
    if output.exists():
        raise StorageError(f"--output={output} is there already; move it, or name another file.")
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, text)
    print(f"{output}: check every line of it.", file=sys.stderr)


def _shown(source: str) -> str:
    from confide.security.redaction import redact

    return redact(source)


__all__ = ["main"]
