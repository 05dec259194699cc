"""A page that compares runs: given ones, or the jobs of a sweep."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from confide.server.report.compare_plots import against_privacy, convergence, parallel, scores
from confide.server.report.marks import by_round
from confide.server.report.read import RunFiles
from confide.server.report.render import (
    Cell,
    ReportTable,
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
from confide.server.run_folder import REPORT, decides, flat

_IN_TABLE = 6
"""Largest number of differing settings that are columns of the table of results."""
_IN_LABEL = 3
"""Largest number of differing settings that are part of a figure's labels."""


def comparison_page(
    runs: Sequence[RunFiles], *, title: str, page: Path, failed: Sequence[tuple[str, str]] = ()
) -> str:
    """Render a page that compares runs.

    Args:
        runs: runs that have a model; the primary metric of the first is used for all.
        title: title of the page.
        page: path that the page will have; links to reports are relative to it.
        failed: name and reason of each job that left no model.
    """
    names, settings = names_of(runs), differing(runs)
    labels = list(names)
    if 1 <= len(settings) <= _IN_LABEL:
        labels = [
            f"{name}: {', '.join(written(values[place]) for values in settings.values())}"
            for place, name in enumerate(names)
        ]
    comparable = same_records(runs)
    chosen = best(runs) if comparable else None
    return render(
        "compare.html.j2",
        title=title,
        metric=runs[0].metric,
        table=_results(
            runs, names, settings if len(settings) <= _IN_TABLE else {}, chosen=chosen, page=page
        ),
        settings=_settings(names, settings) if len(settings) > _IN_TABLE else None,
        chosen=None if chosen is None else names[chosen],
        pictures=drawn(
            parallel(runs, settings if len(settings) <= _IN_TABLE else {}, chosen),
            scores(runs, labels),
            convergence(runs, labels, chosen),
            against_privacy(runs),
        ),
        failed=ReportTable(
            ["job", "reason"], [Row([Cell(what), Cell(why)]) for what, why in failed], text=(0, 1)
        )
        if failed
        else None,
        comparable=comparable,
    )


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
) -> ReportTable:
    private, metric = any(run.private for run in runs), runs[0].metric
    pooled, local = any(run.pooled for run in runs), any(run.local for run in runs)
    headers = ["run", *settings, f"{metric}, validation", f"{metric}, test"]
    headers += ["local models, mean"] if local else []
    headers += ["pooled model"] if pooled else []
    headers += ["epsilon"] if private else []
    headers += ["rounds", "data sent", "time"]
    rows = []
    for place, run in enumerate(runs):
        report = run.folder / REPORT
        link = quote(os.path.relpath(report, page.parent)) if report.exists() else ""
        cells = [Cell(names[place], link=link)]
        cells += [Cell(written(values[place])) for values in settings.values()]
        cells += _result_cells(run, metric, private=private, pooled=pooled, local=local)
        rows.append(Row(cells, best=place == chosen))
    return ReportTable(headers, rows)


def _result_cells(
    run: RunFiles, metric: str, *, private: bool, pooled: bool, local: bool
) -> list[Cell]:
    federated = run.summary["federated"]
    scores = [line[metric] for line in run.local.values() if metric in line]
    spent = [line["epsilon"] for line in run.clients.values() if "epsilon" in line]
    sent = run.summary["bytes"]
    cells = [
        Cell(number(validation(run))),
        measured(metric, federated.get(metric), federated.get("test_examples")),
    ]
    if local:
        cells.append(Cell(number(sum(scores) / len(scores)) if scores else "–"))
    if pooled:
        cells.append(Cell(number(run.pooled.get(metric))))
    if private:
        cells.append(Cell(f"{max(spent):.2f}" if spent else "–"))
    return [
        *cells,
        Cell(str(run.summary["rounds"])),
        Cell(size(sent["up"] + sent["down"])),
        Cell(duration(run.summary["seconds"])),
    ]


def _settings(names: Sequence[str], settings: Mapping[str, Sequence[Any]]) -> ReportTable:
    """Return a table of many differing settings, a row for each."""
    rows = [
        Row([Cell(key), *(Cell(written(value)) for value in values)])
        for key, values in settings.items()
    ]
    return ReportTable(["setting", *names], rows)


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
