"""Writing of reports, model cards and pages of comparison.

What draws them is imported as one is written: a run, which ends with a report, begins without
waiting for Matplotlib.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from confide.errors import ConfideError, ConfigError, UnreadableError, words_of
from confide.server.report.read import RunFiles, read_run
from confide.server.run_folder import CARD, CURVES, REPORT, STATISTICS, STATISTICS_PAGE
from confide.storage.files import write_text

log = logging.getLogger(__name__)


def write_report(folder: Path) -> Path:
    """Write RUN's ``report.html`` and, if it has a model, its ``model_card.md``.

    Args:
        folder: folder of the run (RUN).

    Returns:
        The report's path.

    Raises:
        ConfideError: if RUN holds no run that has ended, cannot be read, or cannot be written.
    """
    from confide.pages.figures import standalone
    from confide.server.report.card import model_card
    from confide.server.report.page import report_page
    from confide.server.report.sections.curves import curves_of_columns

    run = read_run(folder)
    try:
        page = report_page(run)
        completed = run.summary["status"] == "completed"
        card = model_card(run) if completed else ""
        curves = curves_of_columns(folder) if completed else None
    except Exception as error:  # institutions may have declared anything, and files been edited
        log.debug("%s", folder, exc_info=True)
        raise UnreadableError(
            f"{folder} cannot be rendered: {type(error).__name__}: {error}."
        ) from error
    # Once both are rendered, so that a mistake in one leaves neither
    write_text(folder / REPORT, page)
    if card:
        write_text(folder / CARD, card)
    if curves is not None:
        write_text(folder / CURVES, standalone(curves))
    return folder / REPORT


def write_report_or_warn(folder: Path) -> None:
    """Write RUN's report at the end of a run.

    A report that fails is a warning, the run has its model all the same.
    """
    try:
        write_report(folder)
    except (ConfideError, OSError) as error:
        log.warning(
            "The report is not written: %s Fix this, then `confide report %s`.", error, folder
        )


def write_statistics(folder: Path) -> Path:
    """Write RUN's ``statistics.html`` from its ``statistics.json``.

    Raises:
        UnreadableError: if RUN holds no statistics, or they cannot be read.
        StorageError: if the page cannot be written.
    """
    from confide.server.report.sections.statistics import statistics_page

    source = folder / STATISTICS
    try:
        page = statistics_page(json.loads(source.read_text()), folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableError(
            f"{source} cannot be read ({words_of(error)}); ask for statistics anew."
        ) from None
    write_text(folder / STATISTICS_PAGE, page)
    return folder / STATISTICS_PAGE


def write_comparison(
    runs: Sequence[RunFiles],
    page: Path,
    *,
    title: str,
    failed: Sequence[tuple[str, str]] = (),
    asked: Mapping[Path, Mapping[str, str]] = MappingProxyType({}),
) -> None:
    """Write a page that compares runs.

    Args:
        runs: two or more, of which one at least has a model.
        page: the file.
        title: of the page.
        failed: what and why of jobs that left nothing at all.
        asked: folder of a sweep's job -> setting -> value, as the sweep varied it.

    Raises:
        ConfigError: if they cannot be compared.
        StorageError: if the page cannot be written.
    """
    from confide.server.report.compare import comparison_page

    done = [run for run in runs if run.summary["status"] == "completed"]
    ended = [run for run in runs if run.summary["status"] != "completed"]
    # A run that failed has no metrics to compare, but should not be missing from the page
    without = [(_called(run, asked), str(run.summary.get("error", "ended early"))) for run in ended]
    if not done:
        raise ConfigError("None of these runs has a model; there is nothing to compare.")
    metrics = {run.metric for run in done}
    if len(metrics) > 1:
        raise ConfigError(
            f"These runs have several primary metrics ({', '.join(sorted(metrics))}); compare those"
            " of one."
        )
    lost = [*without, *failed]
    write_text(page, comparison_page(done, title=title, page=page, failed=lost, asked=asked))


def _called(run: RunFiles, asked: Mapping[Path, Mapping[str, str]]) -> str:
    words = [f"{key}={value}" for key, value in asked.get(run.folder, {}).items()]
    return ": ".join(filter(None, [run.folder.name, " ".join(words)]))


__all__ = ["write_comparison", "write_report", "write_report_or_warn", "write_statistics"]
