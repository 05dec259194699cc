"""``confide simulate -m``: many jobs, by Hydra's sweepers and launchers.

One job that fails does not end the others: it is told, and again in the table at the end. A sweeper
that chooses, as Optuna, is given the primary metric of the federated model on *validation* records,
never on test records: what is chosen by a number is no longer measured by it.
"""

import contextlib
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import ValueType
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from confide.config.compose import (
    check_jobs,
    compose,
    first_job,
    hydra_settings,
    is_hydra,
    num_jobs,
)
from confide.config.run import Config
from confide.config.sweeps import of_kind, swept_keys
from confide.config.task import METRICS
from confide.errors import EXIT_FAILED, EXIT_INTERRUPTED, ConfigError
from confide.server.run.command_line import overrides_of, quoted, refuse_passwords, run_with_hydra
from confide.simulations.sweeps.sweep import SweptRun, best_run, sweep_runs, sweep_table

log = logging.getLogger(__name__)

_OPTUNA, _BASIC, _FULL_ERROR = "hydra_optuna_sweeper", "BasicLauncher", "HYDRA_FULL_ERROR"
_DIRECTIONS = {"max": "maximize", "min": "minimize"}

JobFn = Callable[[DictConfig, bool], float | None]
"""(composed config, whether to be silent) -> what a sweeper chooses by; None where the job has
none, or failed."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is known of a sweep before it begins.

    Attributes:
        folder: of its jobs.
        keys: settings that differ between jobs.
        jobs: how many.
        in_turn: whether jobs run one after the other, in this process.
        by_optuna: whether Optuna chooses what differs.
        by_program: whether a program reads stdout, which has nothing but events of jobs then.
        words: for Hydra, besides what was given.
    """

    folder: Path
    keys: Sequence[str]
    jobs: int
    in_turn: bool
    by_optuna: bool
    by_program: bool
    words: Sequence[str]


def is_sweep(argv: Sequence[str]) -> bool:
    """Say whether a command line asks for a sweep."""
    shows = {"--cfg", "-c", "--help", "-h", "--hydra-help", "--info", "-i", "--version"}
    return bool({"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(argv)) and not shows & set(argv)


def run_sweep(argv: Sequence[str], job_fn: JobFn) -> int:
    """Run every job, then print what became of them.

    Returns:
        The exit status: 1 if any job has no model.

    Raises:
        ConfigError: naming every mistake, before the first job.
    """
    sweep = plan_sweep(overrides_of(argv))

    def run(composed: DictConfig) -> float | None:
        print(_heading(sweep), file=sys.stderr)
        try:
            return job_fn(composed, not sweep.in_turn)
        except Exception as error:  # of a job that is lost; the others are not
            log.info("This job failed.", exc_info=True)
            print(f"confide simulate: {type(error).__name__}: {error}", file=sys.stderr)
            return None

    _quieten_optuna(sweep)
    interrupted = False
    try:
        with _raising():
            run_with_hydra("simulate", [*argv, *sweep.words], run, checked=True)
    except KeyboardInterrupt:
        interrupted = True
        print("confide simulate: interrupted.", file=sys.stderr)
    except Exception as error:
        log.info("The sweep ended early.", exc_info=True)
        print(f"confide simulate: the sweep ended early: {error}", file=sys.stderr)
    runs = sweep_runs(sweep.folder)
    _tell(runs, sweep)
    if interrupted:
        return EXIT_INTERRUPTED
    return (
        EXIT_FAILED
        if len(runs) < sweep.jobs or any(run.status != "completed" for run in runs)
        else 0
    )


def _quieten_optuna(sweep: Sweep) -> None:
    """Leave telling to us: which study is in memory interests nobody, and a failed job is told twice already."""
    if sweep.by_optuna:
        import optuna

        optuna.logging.set_verbosity(logging.WARNING)
        logging.getLogger("hydra_plugins.hydra_optuna_sweeper").setLevel(logging.ERROR)


@contextlib.contextmanager
def _raising() -> Iterator[None]:
    """Have Hydra raise what goes wrong in a sweeper, in place of a trace on the terminal and an exit."""
    before = os.environ.get(_FULL_ERROR)
    os.environ[_FULL_ERROR] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FULL_ERROR]
        else:
            os.environ[_FULL_ERROR] = before


def _heading(sweep: Sweep) -> str:
    hydra = HydraConfig.get()
    changed = [
        word
        for word in map(str, hydra.overrides.task)
        if word.partition("=")[0].lstrip("+~") in sweep.keys
    ]
    return f"job {int(hydra.job.num) + 1} of {sweep.jobs}: {' '.join(changed)}"


def _tell(runs: Sequence[SweptRun], sweep: Sweep) -> None:
    """Print the table, why jobs have no model, and which is best."""
    console = Console(stderr=sweep.by_program)
    console.print(sweep_table(runs, sweep.folder))
    for run in runs:
        if run.summary and run.status != "completed":
            told = (
                f"{run.run_dir.name} ({' '.join(run.overrides)}) {run.status}:"
                f" {' '.join(str(run.summary['error']).split())}"
            )
            console.print(told, markup=False, highlight=False, soft_wrap=True)
    best = best_run(runs)
    if best is not None and best.summary is not None:
        metric = best.summary["primary_metric"]
        value, test = (
            best.summary["federated_validation"][metric],
            best.summary["federated"].get(metric, math.nan),
        )
        console.print(
            f"Best on validation records: {metric} {value:.3f} ({test:.3f} on test records) with"
            f" {' '.join(best.overrides)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def plan_sweep(overrides: Sequence[str]) -> Sweep:
    """Look at what is asked for.

    Raises:
        ConfigError: naming every mistake.
    """
    refuse_passwords(overrides)
    words = [word for word in overrides if not is_hydra(word)]
    check_jobs(words)
    hydra = hydra_settings(overrides)
    searched = [f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()]
    if searched:
        words = [*searched, *words]
        check_jobs(words)
    chooses, config = _OPTUNA in hydra.sweeper._target_, compose(first_job(words))
    _refuse_unfit(words, hydra.sweeper._target_)
    folder = Path(str(hydra.sweep.dir)).resolve()
    return Sweep(
        folder=folder,
        keys=swept_keys(words),
        jobs=hydra.sweeper.n_trials if chooses else num_jobs(words),
        in_turn=_BASIC in hydra.launcher._target_,
        by_optuna=chooses,
        by_program=config.server.progress == "json",
        words=[
            f"hydra.sweep.dir={quoted(folder)}",
            *(_optuna_words(hydra, config, words, overrides) if chooses else []),
        ],
    )


def _refuse_unfit(words: Sequence[str], sweeper: str) -> None:
    problems = []
    if "BasicSweeper" in sweeper:
        intervals = of_kind(words, ValueType.INTERVAL_SWEEP)
        problems = [
            f"{word}: an interval needs a sweeper that chooses values; set hydra/sweeper=optuna."
            for word in intervals
        ]
    elif _OPTUNA in sweeper:
        globs = of_kind(words, ValueType.GLOB_CHOICE_SWEEP)
        problems = [
            f"{word}: Optuna's sweeper knows no glob(...); write choice(A, B)." for word in globs
        ]
    if problems:
        raise ConfigError(problems)


def _optuna_words(
    hydra: DictConfig, config: Config, words: Sequence[str], overrides: Sequence[str]
) -> list[str]:
    """Return what Optuna has to be told.

    Which direction is better, that a failed trial is no reason to stop, a seed.

    Raises:
        ConfigError: if it was told something else.
    """
    metric = config.task.primary_metric
    better = _DIRECTIONS[METRICS[metric]]
    problems = []
    given = {word.partition("=")[0].lstrip("+"): word.partition("=")[2] for word in overrides}
    if given.get("hydra.sweeper.direction", better) != better:
        problems.append(
            f"hydra.sweeper.direction={given['hydra.sweeper.direction']}: a job is worth its"
            f" task.primary_metric={metric} on validation records, to {better}; leave"
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
    if "seed" in sampler and sampler["seed"] is None and config.simulation.seed is not None:
        defaults["hydra.sweeper.sampler.seed"] = str(config.simulation.seed % 2**32)
    return [f"{key}={value}" for key, value in defaults.items() if key not in given]


__all__ = ["JobFn", "Sweep", "is_sweep", "plan_sweep", "run_sweep"]
