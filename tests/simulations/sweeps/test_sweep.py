"""Sweeps: what is asked for, how jobs run, what they leave."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from confide.config.composing.compose import check_jobs
from confide.config.composing.sweeps import RefusedJob
from confide.errors import ConfigError
from confide.simulations.sweeps.command import is_sweep, plan_sweep
from confide.simulations.sweeps.sweep import (
    best_run,
    refused_jobs,
    sweep_runs,
    sweep_table,
    write_refused,
)

COMPLETED = {
    "status": "completed",
    "primary_metric": "accuracy",
    "federated": {"accuracy": 0.71},
    "federated_validation": {"accuracy": 0.69},
    "privacy": {"unit": "record", "epsilon": 3.0},
    "seconds": 1.26,
}
DECLINED = {
    "status": "failed",
    "failures": {"enrol": {"bank-1": "budget_exhausted: asked 8, allowed 4"}},
}


def job(folder: Path, overrides: list[str], summary: dict[str, Any] | None) -> None:
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))


def test_jobs_of_a_sweep_come_in_the_order_of_their_numbers_with_what_differs(
    tmp_path: Path,
) -> None:
    for number in (10, 9, 2):
        job(tmp_path / str(number), ["experiment=heart_disease", f"data.alpha={number}"], COMPLETED)
    runs = sweep_runs(tmp_path)
    assert [run.overrides for run in runs] == [
        ["data.alpha=2"],
        ["data.alpha=9"],
        ["data.alpha=10"],
    ]
    assert [run.run_dir.name for run in runs] == ["2", "9", "10"]
    assert runs[0].summary == COMPLETED


def test_a_single_job_shows_all_its_overrides(tmp_path: Path) -> None:
    job(tmp_path / "0", ["strategy=fedadam"], COMPLETED)
    assert sweep_runs(tmp_path)[0].overrides == ["strategy=fedadam"]


def test_jobs_without_a_model_say_why(tmp_path: Path) -> None:
    for name, summary in {
        "0": DECLINED,
        "1": {"status": "failed", "failures": {}},
        "2": None,
        "3": COMPLETED,
    }.items():
        job(tmp_path / name, [f"client.local_steps={name}"], summary)
    runs = sweep_runs(tmp_path)
    assert [run.status for run in runs] == ["declined", "failed", "unfinished", "completed"]
    console = Console(width=120)
    with console.capture() as capture:
        console.print(sweep_table(runs, tmp_path))
    # Rows of the table: its title takes more lines where the folder's name is long.
    rows = [line for line in capture.get().splitlines() if line.startswith("│")]
    assert [row.split()[5] for row in rows] == [
        "declined",
        "failed",
        "unfinished",
        "completed",
    ]
    assert all(word in rows[3] for word in ("0.690", "0.710", "3", "1.3"))


def test_an_empty_sweep_has_no_jobs(tmp_path: Path) -> None:
    assert sweep_runs(tmp_path) == []


@pytest.mark.parametrize(("metric", "best"), [("accuracy", "1"), ("log_loss", "0")])
def test_the_best_job_is_so_on_validation_records_in_the_metrics_own_direction(
    tmp_path: Path, metric: str, best: str
) -> None:
    for name, value in {"0": 0.6, "1": 0.8, "2": 0.7}.items():
        scores = {
            "federated_validation": {metric: value},
            "federated": {metric: 1 - value},
            "primary_metric": metric,
        }
        job(tmp_path / name, [f"client.local_steps={name}"], {**COMPLETED, **scores})
    job(tmp_path / "3", ["client.local_steps=3"], DECLINED)
    found = best_run(sweep_runs(tmp_path))
    assert found is not None
    assert found.run_dir.name == best


@pytest.mark.parametrize("key", ["data.alpha", "simulation.seed", "experiment"])
def test_jobs_validated_on_other_records_have_no_best(tmp_path: Path, key: str) -> None:
    for name in ("0", "1"):
        job(
            tmp_path / name,
            [f"{key}={name}"],
            {**COMPLETED, "federated_validation": {"accuracy": 0.7}},
        )
    assert best_run(sweep_runs(tmp_path)) is None


def test_jobs_by_different_metrics_have_no_best(tmp_path: Path) -> None:
    for name, metric in {"0": "accuracy", "1": "auc"}.items():
        job(
            tmp_path / name,
            [f"task.primary_metric={metric}"],
            {**COMPLETED, "primary_metric": metric},
        )
    assert best_run(sweep_runs(tmp_path)) is None


# --- what is asked for

HEART = ("experiment=heart_disease", "server.num_rounds=2", "simulation.baselines=[]")
OPTUNA = "hydra/sweeper=optuna"
RATE = "client.optimizer.learning_rate=tag(log, interval(0.01, 1))"


@pytest.mark.slow
def test_a_plain_sweep_is_every_combination(tmp_path: Path) -> None:
    words = [
        *HEART,
        "strategy=fedavg,fedadam",
        "data.alpha=range(1,4)",
        f"hydra.sweep.dir={tmp_path}",
    ]
    sweep = plan_sweep(words)
    assert (sweep.jobs, sweep.keys, sweep.in_turn) == (6, ["strategy", "data.alpha"], True)
    assert sweep.folder == tmp_path
    assert plan_sweep([*HEART, "strategy=glob(feda*)"]).jobs == 4
    configured = plan_sweep(["experiment=heart_sweep", "hydra/launcher=joblib"])
    assert (configured.jobs, configured.keys, configured.in_turn) == (
        6,
        ["strategy", "data.alpha"],
        False,
    )


def test_optuna_is_told_the_direction_and_a_seed(tmp_path: Path) -> None:
    sweep = plan_sweep([*HEART, OPTUNA, RATE, "hydra.sweeper.n_trials=7"])
    told = [
        "hydra.sweeper.direction=maximize",
        "hydra.sweeper.max_failure_rate=1.0",
        "hydra.sweeper.sampler.seed=0",
    ]
    assert (sweep.jobs, sweep.keys) == (7, ["client.optimizer.learning_rate"])
    assert sweep.words[1:] == told
    own = [
        "task.primary_metric=log_loss",
        "simulation.seed=null",
        "hydra.sweeper.max_failure_rate=0.5",
    ]
    assert plan_sweep([*HEART, OPTUNA, RATE, *own]).words[1:] == [
        "hydra.sweeper.direction=minimize"
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((RATE,), r"an interval needs a sweeper that chooses values; set hydra/sweeper=optuna"),
        ((OPTUNA, "strategy=glob(fed*)"), r"Optuna's sweeper does not know glob"),
        (
            (OPTUNA, RATE, "hydra.sweeper.direction=minimize"),
            r"accuracy on validation records, to maximize; leave",
        ),
        (
            (OPTUNA, RATE, "data.validation=0"),
            r"data\.validation=0: Optuna chooses on validation records",
        ),
        (
            (OPTUNA, "task.primary_metric=auc,log_loss"),
            r"Optuna cannot compare jobs by different metrics",
        ),
        (
            (OPTUNA, "client.optimizer.learning_rate=interval(-1, 1)"),
            r"learning_rate=-1\.0: expected > 0",
        ),
        (
            ("strategy=glob(fedz*)",),
            r"there is no strategy called 'fedz\*'\. Choose one of: apfl, boosting",
        ),
        (("hydra/sweeper=ax",), r"Could not find 'hydra/sweeper/ax'"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_its_first_job(
    words: Sequence[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_sweep([*HEART, *words])


@pytest.mark.parametrize(
    "word",
    [
        "data.alpha=interval(0.1, 1)",
        "server.num_rounds=int(interval(1, 5))",
        "server.num_rounds=range(1, 9, 3)",
        "strategy=choice(fedavg, fedadam)",
        "strategy=shuffle(fedavg, fedadam)",
        "data.alpha=tag(log, interval(0.1, 1))",
        "job='a b',c",
        "simulation.baselines=[local],[]",
    ],
)
def test_every_kind_of_sweep_is_checked_and_none_is_a_mistake(word: str) -> None:
    check_jobs(["experiment=heart_disease", word])


def test_a_command_that_only_shows_something_is_no_sweep() -> None:
    assert is_sweep(["-m", "strategy=fedavg,fedadam"])
    assert not is_sweep(["-m", "--cfg", "job"])
    assert not is_sweep(["strategy=fedavg"])


# --- patterns, of whose values some do not fit

PRIVATE_N = (*HEART, "privacy=record", "strategy=glob(n*)")  # newton and norm_bounded


def test_of_a_pattern_the_values_that_fit_are_run_and_the_others_are_told() -> None:
    sweep = plan_sweep(PRIVATE_N)
    assert sweep.patterns == {"strategy=glob(n*)": "strategy=norm_bounded"}
    assert (sweep.jobs, list(sweep.keys)) == (1, ["strategy"])
    [refused] = sweep.refused
    assert sweep.changed(refused.overrides) == ["strategy=newton"]
    assert "newton" in " ".join(refused.problems)


def test_a_value_that_fits_in_some_jobs_is_kept() -> None:
    sweep = plan_sweep([*HEART, "privacy=none,record", "strategy=glob(n*)"])
    assert sweep.patterns == {"strategy=glob(n*)": "strategy=newton,norm_bounded"}
    assert sweep.jobs == 4
    assert [sweep.changed(one.overrides) for one in sweep.refused] == [
        ["privacy=record", "strategy=newton"]
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        # Whoever names a value means it
        (("privacy=record", "strategy=newton,norm_bounded"), r"objective\.kind=newton"),
        (("strategy=glob(boost*)",), r"objective\.kind=boosting"),
    ],
)
def test_what_was_named_or_fits_nowhere_is_refused(words: Sequence[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_sweep([*HEART, *words])


def test_a_mistake_in_every_job_is_told_alone() -> None:
    with pytest.raises(ConfigError) as caught:
        plan_sweep([*PRIVATE_N, "client.local_steps=0"])
    [problem] = caught.value.problems
    assert "client.local_steps=0" in problem


def test_refused_jobs_have_a_line_and_go_with_the_next_sweep(tmp_path: Path) -> None:
    job(tmp_path / "0", ["strategy=fedavg"], COMPLETED)
    job(tmp_path / "1", ["strategy=fedadam"], None)
    refused = [
        RefusedJob(overrides=[f"strategy={name}"], problems=["It does not fit."])
        for name in ("newton", "fedadam")
    ]
    write_refused(tmp_path, refused)
    assert refused_jobs(tmp_path) == refused
    assert [run.status for run in sweep_runs(tmp_path)] == ["completed", "refused"]
    console = Console(width=120)
    with console.capture() as capture:
        console.print(sweep_table(sweep_runs(tmp_path), tmp_path))
    rows = [line.split("│")[1:4] for line in capture.get().splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["0", "fedavg", "completed"],
        ["1", "fedadam", "refused"],
        ["-", "newton", "refused"],
    ]
    write_refused(tmp_path, [])
    assert refused_jobs(tmp_path) == []


# --- how jobs run


def simulate(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "confide.cli", "simulate", "-m", *words]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_two_strategies_and_three_alphas_take_less_than_two_minutes(tmp_path: Path) -> None:
    cache = f"trainer.feature_cache={tmp_path / 'cache'}"
    done = simulate("experiment=heart_sweep", cache, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert done.returncode == 0
    runs = sweep_runs(tmp_path / "sweep")
    assert [run.overrides for run in runs][3] == ["strategy=fedadam", "data.alpha=0.1"]
    summaries = [run.summary for run in runs if run.summary]
    assert len(summaries) == 6
    for fedavg, fedadam in zip(summaries[:3], summaries[3:], strict=True):
        assert fedavg["baselines"] == fedadam["baselines"]
    assert len(list((tmp_path / "cache" / "baselines").iterdir())) == 3 * 5
    assert "job 6 of 6: strategy=fedadam data.alpha=1" in done.stderr
    assert "Best on" not in done.stdout  # jobs of three alphas are validated on other records


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_job_that_fails_leaves_the_others_alone(tmp_path: Path, launcher: str) -> None:
    folder = f"hydra.sweep.dir={tmp_path / 'sweep'}"
    done = simulate(*HEART, "data.num_clients=5,4,6", f"hydra/launcher={launcher}", folder)
    assert done.returncode == 1
    runs = sweep_runs(tmp_path / "sweep")
    assert [run.status for run in runs] == ["failed", "completed", "failed"]
    assert (
        "2 (data.num_clients=6) failed: The config has a mistake: - data.num_clients=6, but column"
        in done.stdout
    )
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_pattern_ends_in_one_page_with_the_reasons(tmp_path: Path) -> None:
    done = simulate(
        *HEART, "privacy=none,record", PRIVATE_N[-1], f"hydra.sweep.dir={tmp_path / 'sweep'}"
    )
    assert done.returncode == 0
    runs = sweep_runs(tmp_path / "sweep")
    assert [run.status for run in runs] == ["completed", "completed", "refused", "completed"]
    assert "privacy=record strategy=newton refused: " in done.stdout
    page = (tmp_path / "sweep" / "report.html").read_text()
    assert "aggregated by the norm-bounded mean" in page
    assert "privacy=record strategy=newton" in page


@pytest.mark.slow
def test_jobs_side_by_side_give_the_models_of_jobs_in_turn(tmp_path: Path) -> None:
    digests = []
    for launcher in ("basic", "joblib"):
        folder = tmp_path / launcher
        simulate(
            *HEART,
            "privacy=record",
            "strategy=fedavg,fedadam",
            f"hydra/launcher={launcher}",
            f"hydra.sweep.dir={folder}",
        )
        digests.append([run.summary["model_sha256"] for run in sweep_runs(folder) if run.summary])
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 2


@pytest.mark.slow
def test_optuna_chooses_on_validation_records_and_repeats_with_the_seed(tmp_path: Path) -> None:
    found = []
    for name in ("first", "second"):
        done = simulate(
            *HEART, OPTUNA, RATE, "hydra.sweeper.n_trials=3", f"hydra.sweep.dir={tmp_path / name}"
        )
        assert done.returncode == 0
        assert "A new study" not in done.stderr
        runs = sweep_runs(tmp_path / name)
        values = [run.summary["federated_validation"]["accuracy"] for run in runs if run.summary]
        told = yaml.safe_load((tmp_path / name / "optimization_results.yaml").read_text())
        assert told["best_value"] == max(values)
        found.append([run.overrides for run in runs])
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_job_that_no_budget_is_left_for_is_declined(tmp_path: Path, heart: Any) -> None:
    heart.to_csv(tmp_path / "heart.csv", index=False)
    ledger = (
        f"client.ledger={tmp_path / 'ledgers'}",
        "policy.budget.epsilon=3.5",
        "data.partition_seed=0",
    )
    words = (
        *HEART,
        f"data.path={tmp_path / 'heart.csv'}",
        "privacy=record",
        "privacy.epsilon=3",
        *ledger,
    )
    done = simulate(*words, "strategy=fedavg,fedadam", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert done.returncode == 1
    assert [run.status for run in sweep_runs(tmp_path / "sweep")] == ["completed", "declined"]
    assert "budget_exhausted" in done.stdout
