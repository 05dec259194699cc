"""``confide simulate -m``: many jobs, run by Hydra's sweepers and launchers.

A job that fails does not end the others: its error is printed, and again with the table at the end.
A sweeper that chooses values, such as Optuna, gets the primary metric of the federated model on
*validation* records, never on test records: a number that was used to choose is no longer a fair
measurement.
"""

import contextlib
import logging
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import ValueType
from omegaconf import DictConfig, OmegaConf

from confide.config.composing.compose import (
    check_jobs,
    compose,
    first_job,
    hydra_settings,
    is_hydra,
    num_jobs,
    without_patterns,
)
from confide.config.composing.sweeps import RefusedJob, of_kind, swept_keys
from confide.config.run import Config
from confide.config.tasks.table import known_metrics
from confide.errors import EXIT_FAILED, EXIT_INTERRUPTED, ConfigError
from confide.server.new_folders import new_folder, refuse_jobs
from confide.server.run.command_line import (
    MULTIRUN,
    OVERWRITE,
    overrides_of,
    quoted,
    refuse_passwords,
    run_with_hydra,
)
from confide.simulations.sweeps.sweep import (
    SweptRun,
    best_run,
    refused_jobs,
    sweep_runs,
    sweep_table,
    write_refused,
)
from confide.storage.files import locked
from confide.terminal import make_console, plain

log = logging.getLogger(__name__)

_OPTUNA, _BASIC, _FULL_ERROR = "hydra_optuna_sweeper", "BasicLauncher", "HYDRA_FULL_ERROR"
_UNFIT = (
    (
        "BasicSweeper",
        ValueType.INTERVAL_SWEEP,
        "an interval needs a sweeper that chooses values; set hydra/sweeper=optuna.",
    ),
    (
        _OPTUNA,
        ValueType.GLOB_CHOICE_SWEEP,
        "Optuna's sweeper does not know glob(...); write choice(A, B).",
    ),
)
"""Sweepers, by a part of their class's path; a kind of value that they do not take, and why."""
_DIRECTIONS = {"max": "maximize", "min": "minimize"}

JobFn = Callable[[DictConfig, bool], float | None]
"""Function (composed config, whether to be silent) -> value that a sweeper chooses by; None if the
job has none, or failed."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep, as far as it is known before it begins.

    Attributes:
        folder: folder of its jobs.
        keys: keys of the settings that differ between jobs.
        jobs: number of jobs.
        in_turn: whether jobs run one after the other, in this process.
        by_optuna: whether Optuna chooses the values of the settings that differ.
        by_program: whether a program reads stdout, which then has only the jobs' events.
        words: further arguments for Hydra, besides the given ones.
        patterns: given overrides that name several choices by a pattern, written out.
        refused: jobs of such patterns that do not fit, and are left out.
    """

    folder: Path
    keys: Sequence[str]
    jobs: int
    in_turn: bool
    by_optuna: bool
    by_program: bool
    words: Sequence[str]
    patterns: Mapping[str, str] = field(default_factory=dict)
    refused: Sequence[RefusedJob] = ()

    def in_folder(self, folder: Path) -> "Sweep":
        """Return the sweep in another folder."""
        return replace(self, folder=folder, words=[_sweep_dir(folder), *self.words[1:]])

    def heading(self) -> str:
        """Return the heading of the job that Hydra is running."""
        hydra = HydraConfig.get()
        changed = self.changed(map(str, hydra.overrides.task))
        return f"job {int(hydra.job.num) + 1} of {self.jobs}: {' '.join(changed)}"

    def changed(self, words: Iterable[str]) -> list[str]:
        """Return those of a job's overrides that not every job has."""
        return [word for word in words if word.partition("=")[0].lstrip("+~") in self.keys]


def is_sweep(argv: Sequence[str]) -> bool:
    """Say whether a command line asks for a sweep."""
    shows = {"--cfg", "-c", "--help", "-h", "--hydra-help", "--info", "-i", "--version"}
    return bool(MULTIRUN & set(argv)) and not shows & set(argv)


def run_sweep(argv: Sequence[str], job_fn: JobFn) -> int:
    """Run every job, then print the table of their results.

    Returns:
        The exit status: 1 if any job has no model.

    Raises:
        ConfigError: naming every mistake, before the first job; also if the folder holds jobs.
    """
    overrides, overwrite = overrides_of(argv), OVERWRITE in argv
    sweep = plan_sweep(overrides)
    named = any(word.startswith("hydra.sweep.dir=") for word in overrides)
    sweep = sweep.in_folder(sweep.folder if named else new_folder(sweep.folder))
    sweep.folder.mkdir(parents=True, exist_ok=True)
    busy = f"Another sweep is at work in {sweep.folder}; choose another hydra.sweep.dir."
    with locked(sweep.folder / ".lock", otherwise=busy):
        if not overwrite:
            refuse_jobs(sweep.folder)
        write_refused(
            sweep.folder,
            [replace(one, overrides=sweep.changed(one.overrides)) for one in sweep.refused],
        )
        return _run_jobs([sweep.patterns.get(word, word) for word in argv], sweep, job_fn)


def _run_jobs(argv: Sequence[str], sweep: Sweep, job_fn: JobFn) -> int:
    """Run every job, then print the table of their results."""

    def run(composed: DictConfig) -> float | None:
        print(sweep.heading(), file=sys.stderr)
        try:
            return job_fn(composed, not sweep.in_turn)
        except Exception as error:  # this job is lost, the others are not
            log.info("This job failed.", exc_info=True)
            print(plain(f"confide simulate: {type(error).__name__}: {error}"), file=sys.stderr)
            return None

    if sweep.by_optuna:
        import optuna

        # Its own lines are about a study in memory, and repeat the errors of failed jobs
        optuna.logging.set_verbosity(logging.WARNING)
        logging.getLogger("hydra_plugins.hydra_optuna_sweeper").setLevel(logging.ERROR)
    interrupted = False
    try:
        with _hydra_raises():
            run_with_hydra("simulate", [*argv, *sweep.words], run, checked=True)
    except KeyboardInterrupt:
        interrupted = True
        print("confide simulate: interrupted.", file=sys.stderr)
    except Exception as error:
        log.info("The sweep ended early.", exc_info=True)
        print(plain(f"confide simulate: the sweep ended early: {error}"), file=sys.stderr)
    # Read from the folders and not collected above: launchers may run jobs in other processes, and
    # an interrupted sweep has results too
    runs = sweep_runs(sweep.folder)
    _print_results(runs, sweep)
    if interrupted:
        return EXIT_INTERRUPTED
    fine = {"completed", "refused"}  # of a pattern some values do not fit
    lost = len(runs) < sweep.jobs or any(run.status not in fine for run in runs)
    return EXIT_FAILED if lost else 0


@contextlib.contextmanager
def _hydra_raises() -> Iterator[None]:
    """Let Hydra raise the errors of a sweeper."""
    # By default it prints a traceback and ends the process, before the table of results
    before = os.environ.get(_FULL_ERROR)
    os.environ[_FULL_ERROR] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FULL_ERROR]
        else:
            os.environ[_FULL_ERROR] = before


def _print_results(runs: Sequence[SweptRun], sweep: Sweep) -> None:
    """Print the table of results, the errors of failed jobs, and the best job."""
    console = make_console(stderr=sweep.by_program)
    sweep_table(runs, sweep.folder).show(console)
    for one in refused_jobs(sweep.folder):
        told = f"{' '.join(one.overrides)} refused: {' '.join(one.problems)}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    for run in runs:
        if run.summary and run.status != "completed":
            message = (
                f"{run.run_dir.name} ({' '.join(run.overrides)}) {run.status}:"
                f" {' '.join(str(run.summary['error']).split())}"
            )
            console.print(message, markup=False, highlight=False, soft_wrap=True)
    best = best_run(runs)
    if best is not None and best.summary is not None:
        metric = best.summary["primary_metric"]
        value = best.summary["federated_validation"][metric]
        test = best.summary["federated"].get(metric, math.nan)
        console.print(
            f"Best on validation records: {metric} {value:.3f} ({test:.3f} on test records) with"
            f" {' '.join(best.overrides)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def plan_sweep(overrides: Sequence[str]) -> Sweep:
    """Return the sweep that a command line asks for.

    Raises:
        ConfigError: naming every mistake.
    """
    # Every job is composed and checked now: a mistake in the last one is reported before the first
    # has run for hours
    refuse_passwords(overrides)
    given = [word for word in overrides if not is_hydra(word)]
    refused = check_jobs(given)
    words = written = without_patterns(given, refused)
    hydra = hydra_settings([*written, *(word for word in overrides if is_hydra(word))])
    # Optuna's search space may stand in its own settings and not on the command line
    searched = [f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()]
    if searched:
        words = [*searched, *written]
        check_jobs(words)
    chooses = _OPTUNA in hydra.sweeper._target_
    config = compose(first_job(words))
    unfit = [
        f"{word}: {why}"
        for sweeper, kind, why in _UNFIT
        if sweeper in hydra.sweeper._target_
        for word in of_kind([*searched, *given], kind)
    ]
    if unfit:
        raise ConfigError(unfit)
    folder = Path(str(hydra.sweep.dir)).resolve()
    return Sweep(
        folder=folder,
        keys=swept_keys([*searched, *given]),
        jobs=hydra.sweeper.n_trials if chooses else num_jobs(words),
        in_turn=_BASIC in hydra.launcher._target_,
        by_optuna=chooses,
        by_program=config.server.progress == "json",
        words=[
            # As resolved here: it holds the time, which Hydra would take again
            _sweep_dir(folder),
            *(_optuna_settings(hydra, config, words, overrides) if chooses else []),
        ],
        patterns={old: new for old, new in zip(given, written, strict=True) if old != new},
        refused=refused,
    )


def _sweep_dir(folder: Path) -> str:
    return f"hydra.sweep.dir={quoted(folder)}"


def _optuna_settings(
    hydra: DictConfig, config: Config, words: Sequence[str], overrides: Sequence[str]
) -> list[str]:
    """Return settings of Optuna: its direction, a seed, and that failed trials do not stop it.

    Raises:
        ConfigError: if given settings contradict them.
    """
    metric = config.task.primary_metric
    better = _DIRECTIONS[known_metrics()[metric].direction]
    problems = []
    given = {word.partition("=")[0].lstrip("+"): word.partition("=")[2] for word in overrides}
    if given.get("hydra.sweeper.direction", better) != better:
        problems.append(
            f"hydra.sweeper.direction={given['hydra.sweeper.direction']}: jobs are compared"
            f" by task.primary_metric={metric} on validation records, to {better}; leave"
            " hydra.sweeper.direction out."
        )
    if "task.primary_metric" in swept_keys(words):
        problems.append(
            "task.primary_metric: Optuna cannot compare jobs by different metrics; choose one."
        )
    if config.data.validation == 0:
        problems.append(
            "data.validation=0: Optuna chooses on validation records; set data.validation > 0."
        )
    if problems:
        raise ConfigError(problems)
    defaults = {"hydra.sweeper.direction": better, "hydra.sweeper.max_failure_rate": "1.0"}
    sampler = OmegaConf.to_container(hydra.sweeper.sampler)
    assert isinstance(sampler, dict)
    # Optuna's seed follows the simulation's, so that a sweep can be repeated as a run can
    if "seed" in sampler and sampler["seed"] is None and config.simulation.seed is not None:
        defaults["hydra.sweeper.sampler.seed"] = str(config.simulation.seed % 2**32)
    return [f"{key}={value}" for key, value in defaults.items() if key not in given]


__all__ = ["JobFn", "Sweep", "is_sweep", "plan_sweep", "run_sweep"]
