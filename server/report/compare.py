"""A page that compares runs: given ones, or the jobs of a sweep."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from confide.server.report.compare_plots import (
    against_privacy,
    convergence,
    in_virtual_time,
    parallel,
    scores,
)
from confide.server.report.marks import by_round
from confide.server.report.read import RunFiles
from confide.server.report.render import (
    Cell,
    PageTable,
    Row,
    drawn,
    duration,
    measured,
    number,
    render,
    size,
    written,
)
from confide.server.report.sentences import strategy_name
from confide.server.report.virtual_time import level, time_to
from confide.server.run.many import LOCAL
from confide.server.run_folder import REPORT, decides, flat

_IN_TABLE = 6
"""Largest number of differing settings that are columns of the table of results."""
_OF_A_SORT = 8
"""Largest number of differing settings of one sort that have a line each."""
_IN_LABEL = 3
"""Largest number of differing settings that are part of a figure's labels."""


def comparison_page(
    runs: Sequence[RunFiles],
    *,
    title: str,
    page: Path,
    failed: Sequence[tuple[str, str]] = (),
    asked: Mapping[Path, Mapping[str, str]] = MappingProxyType({}),
) -> str:
    """Render a page that compares runs.

    Args:
        runs: runs that have a model; the primary metric of the first is used for all.
        title: title of the page.
        page: path that the page will have; links to reports are relative to it.
        failed: name and reason of each job that left no model.
        asked: folder of a sweep's job -> setting -> value, as the sweep varied it; these stand for
            the settings that follow from them, where those are many.
    """
    names, settings = names_of(runs), differing(runs)
    is_wide = len(settings) > _IN_TABLE
    columns = _asked(runs, asked) if is_wide else settings
    labels = list(names)
    if 1 <= len(columns) <= _IN_LABEL:
        labels = [
            f"{name}: {', '.join(written(values[place]) for values in columns.values())}"
            for place, name in enumerate(names)
        ]
    values = [(key, *map(written, values)) for key, values in _together(settings).items()]
    # On other records a difference may come from the records alone, so none is called the best
    comparable = same_records(runs)
    chosen = best(runs) if comparable else None
    return render(
        "compare.html.j2",
        title=title,
        metric=runs[0].metric,
        table=_results(runs, names, columns, chosen=chosen, page=page),
        settings=PageTable.of_texts(["setting", *names], values) if is_wide else None,
        chosen=None if chosen is None else (labels if is_wide else names)[chosen],
        pictures=drawn(
            parallel(runs, {} if is_wide else columns, chosen),
            scores(runs, labels),
            convergence(runs, labels, chosen),
            in_virtual_time(runs, labels, chosen),
            against_privacy(runs),
        ),
        failed=PageTable.of_texts(["job", "reason"], failed, text=(0, 1)) if failed else None,
        comparable=comparable,
    )


def _asked(
    runs: Sequence[RunFiles], asked: Mapping[Path, Mapping[str, str]]
) -> dict[str, Sequence[Any]]:
    """Return the settings that a sweep varied, each with its value in every run; {} for none."""
    given = [asked.get(run.folder, {}) for run in runs]
    keys = list(dict.fromkeys(key for one in given for key in one))
    return {key: [one.get(key) for one in given] for key in keys} if len(keys) <= _IN_TABLE else {}


def _together(settings: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """Put settings of one sort that are many, such as the columns of unlike tables, in one line."""
    sorts: dict[str, list[str]] = {}
    for key in settings:
        sorts.setdefault(".".join(key.split(".")[:2]), []).append(key)
    shown: dict[str, Sequence[Any]] = {}
    for sort, keys in sorts.items():
        if len(keys) <= _OF_A_SORT or sort.startswith("strategy."):
            shown |= {key: settings[key] for key in keys}
            continue
        counts = [
            sum(value is not None for value in run)
            for run in zip(*(settings[key] for key in keys), strict=True)
        ]
        shown[sort] = [f"{count} values" for count in counts]
    return shown


def names_of(runs: Sequence[RunFiles]) -> list[str]:
    """Return a short name of each run: the shortest end of its path that distinguishes all runs."""
    paths = [run.folder.resolve() for run in runs]
    for length in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def differing(runs: Sequence[RunFiles]) -> dict[str, list[Any]]:
    """Return the settings in which runs differ, each with its value in every run.

    Settings that only decide how a run is computed are left out. If strategies differ in nothing
    but what their names say, the names replace their settings.
    """
    described = [flat(run.config) for run in runs]
    keys = [
        key for key in dict.fromkeys(key for config in described for key in config) if decides(key)
    ]
    settings = {key: [config.get(key) for config in described] for key in keys}
    # Compared as text: values may be lists, which cannot be in a set
    settings = {key: values for key, values in settings.items() if len(set(map(str, values))) > 1}
    parts = {key: values for key, values in settings.items() if key.startswith("strategy.")}
    rest = {key: values for key, values in settings.items() if key not in parts}
    names = [strategy_name(run.config["strategy"]) for run in runs]
    variants = {str([values[place] for values in parts.values()]) for place in range(len(runs))}
    return ({"strategy": names} if len(set(names)) == len(variants) > 1 else parts) | rest


def validation(run: RunFiles) -> float | None:
    """Return the kept model's primary metric on validation records; None if not measured."""
    rows = run.rounds_of(run.metric, "validation")
    kept = rows[rows["round"] == run.summary.get("kept_round")]
    return None if kept.empty else float(by_round(kept)["mean"].iloc[0])


def best(runs: Sequence[RunFiles]) -> int | None:
    """Return the position of the run that is best on validation records; None if undecided."""
    # Not on test records: a result that a run was chosen by is too good to report
    scored = [
        (value, place) for place, run in enumerate(runs) if (value := validation(run)) is not None
    ]
    if len(scored) < 2:
        return None
    sign = 1 if runs[0].higher_is_better else -1
    return max(scored, key=lambda pair: (sign * pair[0], -pair[1]))[1]


def _results(
    runs: Sequence[RunFiles],
    names: Sequence[str],
    settings: Mapping[str, Sequence[Any]],
    *,
    chosen: int | None,
    page: Path,
) -> PageTable:
    metric = runs[0].metric
    reports = [run.folder / REPORT for run in runs]
    # Relative, so that a folder of runs can be moved with its pages
    links = [quote(os.path.relpath(it, page.parent)) if it.exists() else "" for it in reports]
    columns = [("run", [Cell(name, link=it) for name, it in zip(names, links, strict=True)])]
    columns += [(key, [Cell(written(it)) for it in values]) for key, values in settings.items()]
    columns.append((f"{metric}, validation", [Cell(number(validation(run))) for run in runs]))
    federated = [run.summary["federated"] for run in runs]
    tested = [measured(metric, it.get(metric), it.get("test_examples")) for it in federated]
    columns.append((f"{metric}, test", tested))
    if any(run.many for run in runs):
        columns.append((f"{metric}, own test records", [_spread(run) for run in runs]))
    # A column that is empty in every run is left out: most comparisons have no baselines
    if any(run.local for run in runs):
        local = [list(run.values(f"{LOCAL}{metric}").values()) for run in runs]
        means = [sum(values) / len(values) if values else None for values in local]
        columns.append(("local models, mean", [Cell(number(mean)) for mean in means]))
    if any(run.pooled for run in runs):
        columns.append(("pooled model", [Cell(number(run.pooled.get(metric))) for run in runs]))
    if any(run.private for run in runs):
        spent = [run.largest_epsilon for run in runs]
        columns.append(("epsilon", [Cell("–" if it is None else f"{it:.2f}") for it in spent]))
    columns.append(("rounds", [Cell(str(run.summary["rounds"])) for run in runs]))
    for way, what in (("up", "updates, a round"), ("down", "models, a round")):
        moved = [run.summary["bytes"][way] / max(1, run.summary["rounds"]) for run in runs]
        columns.append((what, [Cell(size(round(count))) for count in moved]))
    moved = [sum(run.summary["bytes"].values()) for run in runs]
    columns.append(("data sent", [Cell(size(round(count))) for count in moved]))
    columns.append(("time", [Cell(duration(run.summary["seconds"])) for run in runs]))
    reached = level(runs)
    if reached is not None:
        took = [time_to(run, reached) for run in runs]
        cells = [Cell("–" if it is None else duration(it)) for it in took]
        columns.append((f"virtual time to {metric} {number(reached)}", cells))
    rows = zip(*(cells for _, cells in columns), strict=True)
    return PageTable(
        [header for header, _ in columns],
        [Row(list(cells), best=place == chosen) for place, cells in enumerate(rows)],
    )


def _spread(run: RunFiles) -> Cell:
    """Return the median over many institutions, with the quantiles that nine of ten lie between."""
    one = run.many.get("figures", {}).get(run.metric)
    if one is None:
        return Cell("–")
    return Cell(f"median {number(one['median'])}", f"{number(one['5 %'])}–{number(one['95 %'])}")


def same_records(runs: Sequence[RunFiles]) -> bool:
    """Say whether runs were validated and tested on the same records, partitioned alike."""
    # Splits follow simulation.seed even if data.partition_seed decides the partitioning; without a
    # seed each run draws its own.
    partitions = {str((run.config["data"], run.config["simulation"]["seed"])) for run in runs}
    random_splits = any(
        run.config["simulation"]["seed"] is None and "measured" not in run.summary["federated"]
        for run in runs
    )
    return len(partitions) == 1 and not random_splits


__all__ = ["best", "comparison_page", "differing", "names_of", "same_records", "validation"]
