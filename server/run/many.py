"""A summary whose size does not grow with the number of institutions.

Of more than :data:`MANY` the rows go to a file beside it, ``institutions.parquet``, and the summary
says how each figure is distributed over them, and what the few say for whom the model is worst.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from confide.config.tasks.table import known_metrics
from confide.server.run_folder import INSTITUTIONS
from confide.storage.files import replace_file

MANY = 200
"""Largest number of institutions that have a row each in the summary."""
WORST = 5
"""Institutions that are named for their results."""
QUANTILES = {
    "min": 0.0,
    "5 %": 0.05,
    "25 %": 0.25,
    "median": 0.5,
    "75 %": 0.75,
    "95 %": 0.95,
    "max": 1.0,
}
"""Name of a quantile -> the share of institutions up to it."""
NAME = "institution"
"""Column of names in the file."""
LOCAL, LOCAL_OWN, POOLED_OWN, LABELS = "local.", "local_own.", "pooled_own.", "labels."
PERSONAL_OWN = "personal_own."
"""Prefixes of columns: metrics of a local model on all test records, and on its institution's own;
those of the pooled model there, and of the institution's own; and numbers of records of a label."""
_TOLD_ELSEWHERE = ("delta",)


def few_named(summary: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    """Write the rows of many institutions to RUN, and return a summary without them.

    Args:
        summary: as :func:`~confide.server.run.summary.summarise` builds it.
        run_dir: RUN.

    Returns:
        The same summary, if its institutions are few.

    Raises:
        StorageError: if the file cannot be written.
    """
    if len(summary["clients"]) <= MANY:
        return summary
    table = table_of(summary)
    replace_file(run_dir / INSTITUTIONS, lambda path: pyarrow.parquet.write_table(table, path))
    return condensed(summary, table)


def table_of(summary: Mapping[str, Any]) -> pyarrow.Table:
    """Return all figures of institutions: a row each, a column a figure, null where not known."""
    rows = [dict(_figures(name, summary)) for name in summary["clients"]]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pyarrow.table({NAME: list(summary["clients"]), **columns})


def _figures(name: str, summary: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    baselines = summary["baselines"]
    local = baselines.get("local", {}).get(name, {})
    parts: Sequence[tuple[str, Mapping[str, Any]]] = (
        ("", summary["clients"][name]),
        ("budget.", summary["clients"][name].get("budget", {})),
        (LOCAL, local),
        (LOCAL_OWN, local.get("own_test", {})),
        (POOLED_OWN, baselines.get("pooled", {}).get("own_test", {}).get(name, {})),
        (PERSONAL_OWN, summary["clients"][name].get("personal", {})),
        (LABELS, summary["clients"][name].get("labels", {})),
    )
    for prefix, part in parts:
        for figure, value in part.items():
            if isinstance(value, int | float):
                yield f"{prefix}{figure}", value


def condensed(summary: Mapping[str, Any], table: pyarrow.Table) -> dict[str, Any]:
    """Return a summary that names a few institutions, and tells quantiles of all.

    Args:
        summary: with all of them.
        table: from :func:`table_of`.
    """
    metric = summary["primary_metric"]
    worst = _worst(table, metric)
    sizes = table["num_examples"].to_numpy()
    largest = table[NAME][int(sizes.argmax())].as_py()
    named = list(dict.fromkeys([*worst, largest]))
    baselines = dict(summary["baselines"])
    if "local" in baselines:
        baselines["local"] = _only(baselines["local"], named)
    if "pooled" in baselines:
        own = _only(baselines["pooled"]["own_test"], named)
        baselines["pooled"] = {**baselines["pooled"], "own_test": own}
    told = {
        "count": len(table),
        "file": INSTITUTIONS,
        "first": table[NAME][0].as_py(),
        "last": table[NAME][-1].as_py(),
        "num_examples": int(sizes.sum()),
        "worst": worst,
        "largest": largest,
        "figures": {
            name: distribution(table[name].drop_null().to_numpy())
            for name in table.column_names
            if name not in (NAME, *_TOLD_ELSEWHERE) and not name.startswith(LABELS)
        },
    }
    shorter = {
        **summary,
        "baselines": baselines,
        "clients": _only(summary["clients"], named),
        "institutions": told,
    }
    if "evaluation" in summary:
        # Of each institution nothing that the file does not have
        shorter["evaluation"] = {**summary["evaluation"], "clients": {}}
        counted = summary["evaluation"].get("counted", ())
        if len(counted) > MANY:
            shorter["evaluation"]["counted"] = len(counted)
    return shorter


def distribution(values: numpy.ndarray) -> dict[str, float]:
    """Return how many institutions told a figure, its mean over them, and quantiles.

    Args:
        values: one an institution, at least one.
    """
    cuts = numpy.quantile(values, list(QUANTILES.values()))
    return {
        "institutions": len(values),
        "mean": float(values.mean()),
        **dict(zip(QUANTILES, cuts.tolist(), strict=True)),
    }


def _worst(table: pyarrow.Table, metric: str) -> list[str]:
    """Name the institutions on whose own test records the model does worst, the worst first."""
    if metric not in table.column_names:
        return []
    # Of scores such as a log loss the largest is the worst
    order = "ascending" if known_metrics()[metric].direction == "max" else "descending"
    scored = table.filter(pyarrow.compute.is_valid(table[metric]))
    ranked = scored.sort_by([(metric, order), (NAME, "ascending")])
    return [str(name) for name in ranked[NAME][:WORST].to_pylist()]


def _only(lines: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: lines[name] for name in names if name in lines}


__all__ = [
    "LABELS",
    "LOCAL",
    "LOCAL_OWN",
    "MANY",
    "NAME",
    "PERSONAL_OWN",
    "POOLED_OWN",
    "QUANTILES",
    "WORST",
    "condensed",
    "distribution",
    "few_named",
    "table_of",
]
