"""What a sweep left: its jobs, what each changed and what came of it, read from the folders that Hydra made."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.markup import escape
from rich.table import Table

from confide.config.task import METRICS
from confide.server.run_folder import summary_of

_DEAL = ("data", "experiment", "task")
"""Groups that decide which records validate; so does simulation.seed."""
_OVERRIDES = ".hydra/overrides.yaml"
_LONGEST_NUMBER = 8


@dataclass(frozen=True, kw_only=True)
class SweptRun:
    """One job of a sweep.

    Attributes:
        run_dir: RUN.
        overrides: those that not every job of the sweep has; all of them where there is one job.
        summary: as in ``RUN/summary.json``; None where the job never came so far.
    """

    run_dir: Path
    overrides: list[str]
    summary: dict[str, Any] | None

    @property
    def status(self) -> str:
        """Return completed, declined (by institutions, before the first round), failed, or unfinished."""
        if self.summary is None:
            return "unfinished"
        if self.summary["status"] == "failed" and "enrol" in self.summary.get("failures", {}):
            return "declined"
        return str(self.summary["status"])


def sweep_runs(sweep_dir: Path) -> list[SweptRun]:
    """Read the jobs of a sweep, in the order of their numbers.

    Args:
        sweep_dir: Hydra's ``hydra.sweep.dir``.
    """
    folders = sorted(
        (path.parent.parent for path in sweep_dir.rglob(_OVERRIDES)),
        key=lambda path: _natural(str(path)),
    )
    words = [
        [str(word) for word in yaml.safe_load((folder / _OVERRIDES).read_text()) or []]
        for folder in folders
    ]
    seen = Counter(word for job in words for word in dict.fromkeys(job))
    return [
        SweptRun(
            run_dir=folder,
            overrides=[word for word in job if len(words) == 1 or seen[word] < len(words)],
            summary=summary_of(folder),
        )
        for folder, job in zip(folders, words, strict=True)
    ]


def best_run(runs: Sequence[SweptRun]) -> SweptRun | None:
    """Return the job whose model is best on validation records.

    Returns:
        None where jobs were validated on other records or by other metrics, or nobody validates:
        nothing there is best.
    """
    if any(
        _key(word).split(".")[0] in _DEAL or _key(word) == "simulation.seed"
        for run in runs
        for word in run.overrides
    ):
        return None
    best: tuple[SweptRun, float] | None = None
    metrics = set()
    for run in runs:
        if run.summary is not None and run.status == "completed":
            metric = str(run.summary["primary_metric"])
            metrics.add(metric)
            value = run.summary["federated_validation"].get(metric)
            if value is not None and (
                best is None or (value - best[1]) * (1 if METRICS[metric] == "max" else -1) > 0
            ):
                best = run, value
    return best[0] if best is not None and len(metrics) == 1 else None


def sweep_table(runs: Sequence[SweptRun], sweep_dir: Path) -> Table:
    """Build the table that ends a sweep: a line a job.

    Args:
        runs: as :func:`sweep_runs` returns them.
        sweep_dir: that they lie in.
    """
    keys = list(dict.fromkeys(_key(word) for run in runs for word in run.overrides))
    metrics = sorted(
        {
            str(run.summary["primary_metric"])
            for run in runs
            if run.summary and run.status == "completed"
        }
    )
    plain = all(run.status == "completed" for run in runs)
    table = Table(
        title=f"{len(runs)} jobs in {escape(str(sweep_dir))}",
        title_justify="left",
        title_style="bold",
    )
    for header in (
        "RUN",
        *(key.replace(".", ".\n") for key in keys),
        *([] if plain else ["status"]),
    ):
        table.add_column(escape(header), overflow="fold")
    for header in (
        *(f"{split}\n{metric}" for metric in metrics for split in ("validation", "test")),
        "epsilon",
        "seconds",
    ):
        table.add_column(header, justify="right", no_wrap=True)
    for run in runs:
        values = {_key(word): escape(_short(word.partition("=")[2])) for word in run.overrides}
        first = [
            escape(str(run.run_dir.relative_to(sweep_dir))),
            *(values.get(key, "") for key in keys),
        ]
        table.add_row(*first, *([] if plain else [run.status]), *_results(run, metrics))
    return table


def _results(run: SweptRun, metrics: Sequence[str]) -> list[str]:
    """Return what fills the columns of numbers."""
    summary = run.summary
    if summary is None or run.status != "completed":
        return []
    scores = [
        _cell(summary.get(part, {}).get(metric)) if metric == summary["primary_metric"] else ""
        for metric in metrics
        for part in ("federated_validation", "federated")
    ]
    private = summary["privacy"]["unit"] != "none"
    return [
        *scores,
        f"{summary['privacy']['epsilon']:g}" if private else "-",
        f"{summary['seconds']:.1f}",
    ]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _short(value: str) -> str:
    """Cut a number that a sweeper drew to four digits; its run's own files have all of them."""
    try:
        return f"{float(value):.4g}" if len(value) > _LONGEST_NUMBER else value
    except ValueError:
        return value


def _natural(text: str) -> list[str | int]:
    """Order 10 after 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


__all__ = ["SweptRun", "best_run", "sweep_runs", "sweep_table"]
