"""``confide init``: makes a project in the current folder."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from confide.client.records.drafting.arguments import SOURCES, add_named
from confide.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from confide.simulations.new_project import Source

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,60}")
# YAML and Hydra read these as something else than a name
_RESERVED = frozenset({"null", "none", "true", "false", "yes", "no", "on", "off", "nan", "inf"})
_GROUPS = ("task", "data", "experiment")


def main(argv: Sequence[str]) -> int:
    """Run ``confide init NAME [--from RECORDS]``.

    Args:
        argv: arguments after ``init``.

    Returns:
        The exit status.

    Raises:
        ConfigError: if the name cannot be one, or its files are there already.
        DataError: if no task can be drafted from the records.
        StorageError: if a file cannot be written.
    """
    try:
        arguments = _parser().parse_args(list(argv) or ["--help"])
    except SystemExit as stop:
        return int(stop.code or 0)
    folder: Path = arguments.folder
    _check(arguments.name, folder)
    from confide.simulations.new_project import ignored, project_files

    source = _source(arguments)
    files = project_files(arguments.name, source)
    written, kept = _write(folder, files, ignored(source))
    where = "" if folder == Path() else f" in {folder}"
    print(f"{', '.join(written)} written{where}" + (f"; {', '.join(kept)} kept" if kept else ""))
    if source is not None:
        from confide.client.records.drafting.writing import notes_of

        for note in notes_of(source.draft):
            print(note, file=sys.stderr)
    lines = files["README.md"].splitlines()
    start = lines.index("```") + 1
    print("Next:")
    if folder != Path():
        # Elsewhere an example of the same name would be run
        print(f"  cd {shlex.quote(str(folder))}")
    for line in lines[start : lines.index("```", start)]:
        print(f"  {line}")
    return 0


def _parser() -> argparse.ArgumentParser:
    from confide.client.records.sources.reading_options import add_reading_options

    parser = argparse.ArgumentParser(
        prog="confide init",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""Make a project in the current folder: configs of your own.

  confide init credit --from credit.csv
  confide simulate experiment=credit

conf/ gets a task, data and an experiment of that name, which every command finds in the current
folder. With --from, the task is drafted from the records, as `confide data draft` does: check it.
Without, the project begins with invented records. Nothing that is there is changed, but for
.gitignore, to which lines are added.""",
    )
    parser.add_argument("name", metavar="NAME", help="name of task, data and experiment")
    parser.add_argument(
        "--from",
        dest="records",
        metavar="RECORDS",
        help=SOURCES,
    )
    add_named(parser)
    add_reading_options(parser)
    parser.add_argument(
        "--folder", type=Path, default=Path(), metavar="DIR", help="project (default: this folder)"
    )
    return parser


def _check(name: str, folder: Path) -> None:
    """Check that a project of this name can be made.

    Raises:
        ConfigError: naming what stands in the way.
    """
    from confide.config.composing.compose import choices
    from confide.config.composing.main_job import MAIN_JOB

    problems = []
    if not _NAME.fullmatch(name) or name.lower() in _RESERVED or name.endswith("_schema"):
        problems.append(
            f"NAME={name!r}: expected a letter, then letters, digits, _ or -, such as credit."
        )
    taken = [group for group in _GROUPS if name in choices(group)]
    # An example's name is free: own files win over it, all three of them together
    if taken and (name not in choices("experiment") or f"experiment={name}" == MAIN_JOB):
        problems.append(f"NAME={name}: confide has its own {taken[0]}={name}; choose another name.")
    paths = [folder / "conf" / group / f"{name}.yaml" for group in _GROUPS]
    there = [str(path) for path in paths if path.exists()]
    if there:
        problems.append(f"{', '.join(there)}: there already; choose another name, or remove it.")
    if problems:
        raise ConfigError(problems)


def _source(arguments: argparse.Namespace) -> "Source | None":
    """Draft a task from the records that a command line names."""
    from confide.client.records.drafting.draft import Named
    from confide.client.records.drafting.reading import draft_source
    from confide.client.records.sources.by_client.folders import layout_of
    from confide.client.records.sources.reading_options import reading_of
    from confide.config.data import DataConfig
    from confide.security.redaction import holds_password, redact
    from confide.simulations.new_project import Source

    records: str | None = arguments.records
    if records is None:
        return None
    if holds_password(records):
        raise ConfigError(
            f"--from={redact(records)}: a password would be written to a file; leave it to"
            " ~/.pgpass, or write ${oc.env:NAME} for it into conf/data."
        )
    named = Named(label=arguments.label, identifier=arguments.id, text=arguments.text)
    reading = reading_of(arguments)
    draft = draft_source(records, named, query=arguments.query, reading=reading)
    is_path = "://" not in records
    place = Path(records).expanduser()
    folder: Path = arguments.folder
    files = draft.folders or None
    if draft.folders is None and is_path and place.is_dir() and layout_of(place) is None:
        files = sum(not path.name.startswith(".") for path in place.iterdir())
    return Source(
        path=_relative(place, folder) if is_path else records,
        query=arguments.query if DataConfig.is_database(records) else None,
        reading=reading,
        files=files,
        draft=draft,
    )


def _relative(place: Path, folder: Path) -> str:
    """Return a path as the project's commands take it, which run in its folder."""
    if place.is_absolute():
        return str(place)
    return os.path.relpath(place, folder)


def _write(
    folder: Path, files: dict[str, str], ignored_paths: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Write what is not there; return what was written and what was kept."""
    from confide.storage.files import write_text

    written, kept = [], []
    try:
        for name, text in files.items():
            path = folder / name
            if path.exists():
                kept.append(name)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
            written.append(name)
        ignore = folder / ".gitignore"
        before = ignore.read_text() if ignore.exists() else ""
        lacking = [line for line in ignored_paths if line not in before.splitlines()]
        if lacking:
            gap = "" if not before or before.endswith("\n") else "\n"
            write_text(ignore, before + gap + "\n".join(lacking) + "\n")
            written.append(".gitignore")
    except (OSError, UnicodeError) as error:
        raise StorageError(f"{folder}: {error}.") from None
    return written, kept


__all__ = ["main"]
