"""Runs killed at any instant, interrupted, or out of disk."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from stopped_run import HEART, KINDS, Simulate, confide_simulate, kill_when, started


def instant(rng: random.Random, folder: Path, *, duration_s: float) -> Callable[[], bool]:
    """Choose when to kill.

    At any time, a little after a checkpoint, or while one is being written.
    """
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
@pytest.mark.parametrize(
    ("kind", "engine"),
    [
        ("private", "inline"),
        ("fedbuff", "inline"),
        ("fedadam", "process"),
        ("scaffold", "inline"),
        ("scaffold", "process"),
        ("fednova", "inline"),
        ("fedexp", "process"),
        ("qfedavg", "inline"),
        ("moon", "process"),
        ("gaussian", "inline"),
        ("gaussian", "process"),
        ("banded", "inline"),
        ("shared", "inline"),
    ],
)
def test_kills_at_a_few_instants_change_nothing(
    run: Simulate, tmp_path: Path, kind: str, engine: str
) -> None:
    check_kills(run, tmp_path / "killed", kind, engine, kills=2)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # 176 to 415 s were measured next to other suites
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
        assert "the earlier file is unchanged" in errors[0]
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        resumed = confide_simulate(f"resume={disk}/run")
        assert resumed.returncode == 0, resumed.stderr
        summary = json.loads((disk / "run" / "summary.json").read_text())
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert summary["resumed_after_rounds"] > [0]
    assert summary["model_sha256"] == expected["model_sha256"]
