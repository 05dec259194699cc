"""Runs on pictures: every engine, stopped and resumed, and deployed, with equal weights."""

from pathlib import Path
from typing import Any

import pytest
from pictures_made import file_of, lights, write_folder
from stopped_run import Simulate, kill_when, started, stopped

from confide.client.commands.data import main as data_main

NET = (
    "task=image",
    "task.labels=[dark,light]",
    "task.size=8",
    "task.channels=1",
    "backbone=cnn",
    "backbone.widths=[4]",
    "tuning=full",
    "privacy=record",
    "data.public=true",
    "server.num_rounds=3",
    "client.local_steps=2",
    "simulation.baselines=[]",
    "tracking=none",
)

VIEWS = ("task.views=3", "task.mixup=0.2")


@pytest.fixture(scope="module")
def wards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write INSTITUTION/CLASS/FILE."""
    folder = tmp_path_factory.mktemp("wards")
    for number, name in enumerate(("east", "west")):
        write_folder(folder / name, 60, seed=number)
    return folder


@pytest.mark.parametrize("seen", [(), VIEWS], ids=["plain", "views"])
def test_stopped_run_goes_on(run: Simulate, wards: Path, seen: tuple[str, ...]) -> None:
    words = (*NET, *seen, f"data.path={wards}", "server.num_rounds=2")
    whole = run(*words, name="whole")
    assert sorted(whole["clients"]) == ["east", "west"]
    assert whole["privacy"]["unit"] == "record"
    stopped(run, *words, after=1, name="again")
    again = run(*words, name="again", resume=True)
    assert again["model_sha256"] == whole["model_sha256"]
    assert again["federated"] == whole["federated"]


@pytest.mark.slow
@pytest.mark.parametrize("seen", [(), VIEWS], ids=["plain", "views"])
@pytest.mark.parametrize("privacy", ["none", "record"])
def test_engines_agree(run: Simulate, wards: Path, privacy: str, seen: tuple[str, ...]) -> None:
    words = (*NET, *seen, f"data.path={wards}", f"privacy={privacy}")
    whole = run(*words, name="whole")
    apart = run(*words, "simulation.engine=process", "simulation.workers=2", name="apart")
    assert apart["model_sha256"] == whole["model_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("seen", [(), VIEWS], ids=["plain", "views"])
def test_killed_run_goes_on(
    run: Simulate, wards: Path, tmp_path: Path, seen: tuple[str, ...]
) -> None:
    words = (*NET, *seen, f"data.path={wards}", "server.num_rounds=8")
    whole = run(*words, name="whole")
    folder = tmp_path / "killed"
    with started(*words, f"hydra.run.dir={folder}") as process:
        kill_when(process, lambda: any(folder.glob("checkpoints/round-00003*")))
    assert run(*words, name="killed", resume=True)["model_sha256"] == whole["model_sha256"]


def test_units_and_splits_follow_pixels(run: Simulate, wards: Path, tmp_path: Path) -> None:
    """The same pictures in other files elsewhere give the same model."""
    moved = tmp_path / "moved"
    for path in wards.rglob("*.png"):
        place = moved / path.relative_to(wards).with_suffix(".bmp")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file_of(_pixels(path), "BMP"))
    words = (*NET, "server.num_rounds=1")
    one = run(*words, f"data.path={wards}", name="one")
    other = run(*words, f"data.path={moved}", name="other")
    assert one["model_sha256"] == other["model_sha256"]


def _pixels(path: Path) -> Any:
    import numpy
    from PIL import Image

    return numpy.asarray(Image.open(path))


def test_a_folder_of_classes_is_dealt_out(run: Simulate, tmp_path: Path) -> None:
    words = ("data.num_clients=2", "privacy=none", "server.num_rounds=1")
    summary = run(*NET, *words, f"data.path={write_folder(tmp_path / 'all', 60)}")
    assert len(summary["clients"]) == 2
    assert summary["data"]["records"] == 60


def test_check_needs_no_backbone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "all", 6)
    (folder / "dark" / "broken.png").write_bytes(file_of(lights(1)[0][0])[:90])
    words = ["task=image", "task.labels=[dark,light]"]
    assert data_main(["check", str(folder), *words]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 of 7 pictures were cut off" in printed
    assert "dark/broken.png" in printed


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seen", [(), VIEWS], ids=["plain", "views"])
def test_wards_from_kits_get_the_weights_of_the_simulation(
    wards: Path, seen: tuple[str, ...]
) -> None:
    from deployment_run import ALLOWING, Deployment

    words = (*NET, *seen, "privacy.epsilon=8", f"data.path={wards}")
    allowed = (*ALLOWING, "policy.min_support=5", "policy.min_records=10")
    with Deployment(
        run_overrides=words, client_overrides=allowed, institutions=("east", "west")
    ) as deployment:
        deployment.start_clients()
        deployment.start_server()
        assert deployment.wait_for_server(300) == 0
        simulated = deployment.simulate("policy.metrics_privacy=noisy", "policy.min_support=5")
        assert deployment.summary()["model_sha256"] == simulated["model_sha256"]
