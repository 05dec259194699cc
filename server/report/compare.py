"""A page that sets runs side by side: those named, or the jobs of a sweep."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from confide.server.report.compare_plots import against_privacy, convergence, parallel, scores
from confide.server.report.plots import by_round
from confide.server.report.read import RunFiles
from confide.server.report.render import (
    Cell,
    Row,
    Table,
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
"""Up to so many settings that differ are columns of the table of results."""
_IN_LABEL = 3
"""Up to so many stand in a figure's labels."""


def comparison_page(
    runs: Sequence[RunFiles], *, title: str, page: Path, failed: Sequence[tuple[str, str]] = ()
) -> str:
    """Render a page that compares runs.

    Args:
        runs: that ended with a model, two or more of the same primary metric, or of several: each
            is measured by the first's.
        title: of the page.
        page: where it will lie; links to reports are relative to it.
        failed: what and why of jobs that left no model.
    """
    names, settings = names_of(runs), differing(runs)
    labels, comparable = _labels(names, settings), same_records(runs)
    chosen = best(runs) if comparable else None
    return render(
        "compare.html.j2",
        title=title,
        metric=runs[0].metric,
        table=_table(
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
        failed=Table(
            ["job", "why"], [Row([Cell(what), Cell(why)]) for what, why in failed], text=(0, 1)
        )
        if failed
        else None,
        comparable=comparable,
    )


def names_of(runs: Sequence[RunFiles]) -> list[str]:
    """Give each run a short name: the end of its folder's path that tells it from the others."""
    paths = [run.folder.resolve() for run in runs]
    for length in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _labels(names: Sequence[str], settings: Mapping[str, Sequence[Any]]) -> list[str]:
    """Add to each name what its run had of its own, where that is short."""
    if not 1 <= len(settings) <= _IN_LABEL:
        return list(names)
    return [
        f"{name}: {', '.join(written(values[place]) for values in settings.values())}"
        for place, name in enumerate(names)
    ]


def differing(runs: Sequence[RunFiles]) -> dict[str, list[Any]]:
    """Return the settings in which runs differ, each with its value in every run.

    How a run is computed is left out.

    Where a strategy's name tells all that differs in it, the name stands for its settings.
    """
    described = [flat(run.config) for run in runs]
    keys = [
        key for key in dict.fromkeys(key for config in described for key in config) if decides(key)
    ]
    settings = {key: [config.get(key) for config in described] for key in keys}
    settings = {key: values for key, values in settings.items() if len(set(map(str, values))) > 1}
    parts = {key: values for key, values in settings.items() if key.startswith("strategy.")}
    rest = {key: values for key, values in settings.items() if key not in parts}
    names = [strategy_name(run.config["strategy"]) for run in runs]
    variants = {str([values[place] for values in parts.values()]) for place in range(len(runs))}
    return ({"strategy": names} if len(set(names)) == len(variants) > 1 else parts) | rest


def validation(run: RunFiles) -> float | None:
    """Return the primary metric of the model that was kept, on validation records.

    None where it was not measured.
    """
    rows = run.rounds_of(run.metric, "validation")
    kept = rows[rows["round"] == run.summary.get("kept_round")]
    return None if kept.empty else float(by_round(kept)["mean"].iloc[0])


def best(runs: Sequence[RunFiles]) -> int | None:
    """Choose the best run, by validation records: test records must not choose."""
    scored = [
        (value, place) for place, run in enumerate(runs) if (value := validation(run)) is not None
    ]
    if len(scored) < 2:
        return None
    sign = 1 if runs[0].higher_is_better else -1
    return max(scored, key=lambda pair: (sign * pair[0], -pair[1]))[1]


def _table(
    runs: Sequence[RunFiles],
    names: Sequence[str],
    settings: Mapping[str, Sequence[Any]],
    *,
    chosen: int | None,
    page: Path,
) -> Table:
    private, metric = any(run.private for run in runs), runs[0].metric
    pooled, alone = any(run.pooled for run in runs), any(run.local for run in runs)
    headers = ["run", *settings, f"{metric}, validation", f"{metric}, test"]
    headers += [
        *(["alone, mean"] if alone else []),
        *(["pooled"] if pooled else []),
        *(["epsilon"] if private else []),
    ]
    headers += ["rounds", "moved", "time"]
    rows = []
    for place, run in enumerate(runs):
        federated, local = (
            run.summary["federated"],
            [line[metric] for line in run.local.values() if metric in line],
        )
        spent = [line["epsilon"] for line in run.clients.values() if "epsilon" in line]
        link = (
            quote(os.path.relpath(run.folder / REPORT, page.parent))
            if (run.folder / REPORT).exists()
            else ""
        )
        cells = [
            Cell(names[place], link=link),
            *(Cell(written(values[place])) for values in settings.values()),
        ]
        cells += [
            Cell(number(validation(run))),
            measured(metric, federated.get(metric), federated.get("test_examples")),
        ]
        cells += [Cell(number(sum(local) / len(local)) if local else "–")] if alone else []
        cells += [Cell(number(run.pooled.get(metric)))] if pooled else []
        cells += [Cell(f"{max(spent):.2f}" if spent else "–")] if private else []
        moved = run.summary["bytes"]
        cells += [
            Cell(str(run.summary["rounds"])),
            Cell(size(moved["up"] + moved["down"])),
            Cell(duration(run.summary["seconds"])),
        ]
        rows.append(Row(cells, best=place == chosen))
    return Table(headers, rows)


def _settings(names: Sequence[str], settings: Mapping[str, Sequence[Any]]) -> Table:
    """Tell in what many settings differ: a row a setting."""
    rows = [
        Row([Cell(key), *(Cell(written(value)) for value in values)])
        for key, values in settings.items()
    ]
    return Table(["setting", *names], rows)


def same_records(runs: Sequence[RunFiles]) -> bool:
    """Say whether runs were validated and tested on the same records.

    The same ones, dealt out in the same way.
    """
    # Splits follow simulation.seed even where data.partition_seed deals out; without a seed they
    # are drawn anew.
    dealt = {str((run.config["data"], run.config["simulation"]["seed"])) for run in runs}
    drawn_anew = any(
        run.config["simulation"]["seed"] is None and "measured" not in run.summary["federated"]
        for run in runs
    )
    return len(dealt) == 1 and not drawn_anew


__all__ = ["best", "comparison_page", "differing", "names_of", "same_records", "validation"]
