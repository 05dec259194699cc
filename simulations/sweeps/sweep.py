"""The jobs of a sweep, read from their folders: what each one changed, and its results."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from confide.config.composing.sweeps import RefusedJob
from confide.config.tasks.table import known_metrics
from confide.server.run_folder import COMMAND, summary_of
from confide.storage.files import write_text
from confide.tables import Table

_RECORD_GROUPS = ("data", "experiment", "task")
"""Groups of settings that decide which records validate; simulation.seed does too."""
_REFUSED = "refused.json"
_OVERRIDES = ".hydra/overrides.yaml"
_LONGEST_NUMBER = 8


@dataclass(frozen=True, kw_only=True)
class SweptRun:
    """One job of a sweep.

    Attributes:
        run_dir: folder of the run (RUN).
        overrides: overrides that not every job of the sweep has; all of them if it has one job.
        summary: content of ``RUN/summary.json``; None if the job did not get that far.
        is_refused: whether its config contradicts itself, and the sweep began all the same.
    """

    run_dir: Path
    overrides: list[str]
    summary: dict[str, Any] | None
    is_refused: bool = False

    @property
    def status(self) -> str:
        """One of completed, declined, failed, refused and unfinished.

        Institutions decline at enrolment.
        """
        if self.summary is None:
            return "refused" if self.is_refused else "unfinished"
        if self.summary["status"] == "failed" and "enrol" in self.summary.get("failures", {}):
            return "declined"
        return str(self.summary["status"])


def sweep_runs(sweep_dir: Path) -> list[SweptRun]:
    """Read the jobs of a sweep, in the order of their numbers.

    Args:
        sweep_dir: folder of the sweep (``hydra.sweep.dir``).
    """

    def natural(path: Path) -> list[str | int]:
        # Split at numbers, so that job 10 comes after job 9 and not after job 1
        parts = re.split(r"(\d+)", str(path))
        return [int(part) if part.isdigit() else part for part in parts]

    found = {path.parent.parent for path in sweep_dir.rglob(_OVERRIDES)}
    folders = sorted(found, key=natural)
    words = [_overrides(folder) for folder in folders]
    refused = [set(one.overrides) for one in refused_jobs(sweep_dir)]
    seen = Counter(word for job in words for word in dict.fromkeys(job))
    return [
        SweptRun(
            run_dir=folder,
            overrides=[word for word in job if len(words) == 1 or seen[word] < len(words)],
            summary=summary_of(folder),
            is_refused=any(one <= set(job) for one in refused),
        )
        for folder, job in zip(folders, words, strict=True)
    ]


def write_refused(sweep_dir: Path, refused: Sequence[RefusedJob]) -> None:
    """Write down which jobs of a sweep do not fit, and why; nothing where all do.

    Args:
        sweep_dir: folder of the sweep.
        refused: of each those overrides that not every job has.
    """
    path = sweep_dir / _REFUSED
    if refused:
        write_text(path, json.dumps([asdict(one) for one in refused], indent=2))
    else:
        path.unlink(missing_ok=True)


def refused_jobs(sweep_dir: Path) -> list[RefusedJob]:
    """Read which jobs of a sweep do not fit, and why."""
    path = sweep_dir / _REFUSED
    return [RefusedJob(**one) for one in json.loads(path.read_text())] if path.exists() else []


def _overrides(run_dir: Path) -> list[str]:
    """Return what a job was started with: RUN's own record, or Hydra's if it got no further."""
    # Hydra's is written by whoever comes, even if the run that is there is not theirs
    own = run_dir / COMMAND
    read = yaml.safe_load((own if own.exists() else run_dir / _OVERRIDES).read_text())
    listed = read["overrides"] if own.exists() else read
    return [str(word) for word in listed or []]


def best_run(runs: Sequence[SweptRun]) -> SweptRun | None:
    """Return the job whose model is best on validation records.

    Returns:
        The job; None if jobs were validated on different records or by different metrics, or not
        at all, so that none can be called best.
    """
    # Scores on different records cannot be compared
    if any(
        _key(word).split(".")[0] in _RECORD_GROUPS or _key(word) == "simulation.seed"
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
                best is None or known_metrics()[metric].is_better(value, best[1])
            ):
                best = run, value
    return best[0] if best is not None and len(metrics) == 1 else None


def sweep_table(runs: Sequence[SweptRun], sweep_dir: Path) -> Table:
    """Build the table that ends a sweep: a line a job.

    Args:
        runs: jobs, as :func:`sweep_runs` returns them.
        sweep_dir: folder of the sweep.
    """
    folders = [set(run.overrides) for run in runs]
    # Those whose values fit in no job have no folder
    refused = [
        one.overrides
        for one in refused_jobs(sweep_dir)
        if not any(set(one.overrides) <= job for job in folders)
    ]
    words = [word for job in (*(run.overrides for run in runs), *refused) for word in job]
    keys = list(dict.fromkeys(map(_key, words)))
    completed = [run for run in runs if run.status == "completed"]
    metrics = sorted({str(run.summary["primary_metric"]) for run in completed if run.summary})
    plain = len(completed) == len(runs) and not refused
    # A key is broken at its dots, so that many settings fit beside each other
    texts = ["RUN", *(key.replace(".", ".\n") for key in keys), *([] if plain else ["status"])]
    scores = [f"{split}\n{metric}" for metric in metrics for split in ("validation", "test")]
    numbers = (*scores, "epsilon", "seconds")
    table = Table(*texts, *numbers, numbers=numbers, title=f"{len(runs)} jobs in {sweep_dir}")
    for run in runs:
        cells = [*_values(run.overrides, keys), *([] if plain else [run.status])]
        folder = str(run.run_dir.relative_to(sweep_dir))
        table.add_row(folder, *cells, *_results(run, metrics))
    for one in refused:
        table.add_row("-", *_values(one, keys), "refused")
    return table


def _values(words: Sequence[str], keys: Sequence[str]) -> list[str]:
    values = {_key(word): _short(word.partition("=")[2]) for word in words}
    return [values.get(key, "") for key in keys]


def _results(run: SweptRun, metrics: Sequence[str]) -> list[str]:
    """Return a job's cells in the columns of numbers."""
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
    return word.partition("=")[0].lstrip("+~")  # Hydra's signs to add and to remove a setting


def _short(value: str) -> str:
    """Return a long number with four digits only; the run's own files have all of them."""
    try:
        return f"{float(value):.4g}" if len(value) > _LONGEST_NUMBER else value
    except ValueError:
        return value


__all__ = [
    "SweptRun",
    "best_run",
    "refused_jobs",
    "sweep_runs",
    "sweep_table",
    "write_refused",
]
