"""``confide report``: writes the report of a run again, or compares several runs."""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from confide.errors import ConfigError, StorageError
from confide.server.run_folder import STATISTICS, SUMMARY
from confide.terminal import plain

COMPARISON = "comparison.html"


def main(argv: Sequence[str]) -> int:
    """Run ``confide report RUN [RUN ...]``.

    Args:
        argv: the words after ``report``.

    Returns:
        The exit status.

    Raises:
        ConfideError: if a folder holds no run, or a page cannot be written.
    """
    try:
        arguments = _parser().parse_args(list(argv) or ["--help"])
    except SystemExit as stop:
        return int(stop.code or 0)
    # Imported once the command is known to be right: matplotlib takes a moment
    from confide.simulations.sweeps.page import is_sweep, write_sweep_page

    folders: list[Path] = arguments.run
    gone = [f"{folder}: there is no such folder." for folder in folders if not folder.exists()]
    if gone:
        raise ConfigError(gone)
    output: Path | None = arguments.output
    if len(folders) > 1:
        _compare(folders, output or _new_page())
    elif not (folders[0] / STATISTICS).is_file() and is_sweep(folders[0]):
        print(write_sweep_page(folders[0], output))
    elif output is not None:
        raise ConfigError(
            f"--output={output}: the report of one run is written to its folder; leave it out."
        )
    else:
        print(_again(folders[0]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="confide report", description=__doc__)
    parser.add_argument(
        "run",
        nargs="+",
        type=Path,
        help=(
            "folder of a run, whose report.html and model_card.md, or statistics.html, are written"
            " again; several runs"
            " are compared on one page; for the folder of a sweep its page is written"
        ),
    )
    parser.add_argument(
        "--output",
        type=Path,
        help=(
            f"page of several runs (default: {COMPARISON}, with a number if it is there) or of a"
            " sweep (default: its folder)"
        ),
    )
    return parser


def _new_page() -> Path:
    """Return the path of a page that is not there yet: another comparison is not written over."""
    first = Path(COMPARISON)
    later = (first.with_stem(f"{first.stem}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([first], later) if not path.exists())


def _again(folder: Path) -> Path:
    from confide.server.report.write import write_report, write_statistics

    statistics = (folder / STATISTICS).is_file()
    return write_statistics(folder) if statistics else write_report(folder)


def _compare(folders: Sequence[Path], page: Path) -> None:
    from confide.server.report.read import read_run
    from confide.server.report.write import write_comparison

    missing = [
        f"{folder}: there is no {SUMMARY}; name folders of runs."
        for folder in folders
        if not (folder / SUMMARY).is_file()
    ]
    if missing:
        raise ConfigError(missing)
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError("A run is named twice; name each once.")
    for folder in folders:
        try:
            _again(folder)
        except StorageError as error:
            # The run may be another user's: it can be compared even if it cannot be written to
            print(plain(f"confide report: {error}"), file=sys.stderr)
    write_comparison(
        [read_run(folder) for folder in folders], page, title=f"{len(folders)} runs compared"
    )
    print(page)


__all__ = ["main"]
