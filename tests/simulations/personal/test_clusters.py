"""Runs of IFCA: two groups of institutions whose records say the opposite, and its laws."""

import logging
import random
from pathlib import Path

import pandas
import pytest
import torch
from safetensors.torch import load_file
from stopped_run import HEART, Simulate

from confide import cli
from confide.config.composing.folders import own_configs
from confide.server.report.write import write_report
from confide.storage.tensor_files import read_checked

TASK = "kind: tabular\nlabels: [a, b]\nlabel_column: y\ncolumns: {x: {minimum: 0, maximum: 1000}}\n"
SITES = ("north", "south", "east", "west")
TURNED = ("south", "west")
WORDS = (
    "task=turned",
    "data.path=turned.csv",
    "data.id_column=id",
    "data.partition_by=site",
    "data.public=true",
    "backbone=logistic",
    "tuning=full",
    "privacy=none",
    "client.optimizer.learning_rate=0.5",
    "simulation.baselines=[]",
    "server.num_rounds=8",
)


@pytest.fixture
def turned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write records of which two sites call a what the others call b."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "task").mkdir(parents=True)
    (tmp_path / "conf" / "task" / "turned.yaml").write_text(TASK)
    draw, lines = random.Random(0), ["id,x,y,site"]
    for place in range(800):
        site, x = SITES[place % len(SITES)], draw.randint(0, 1000)
        lines.append(f"{place},{x},{'ab'[(x > 500) != (site in TURNED)]},{site}")
    (tmp_path / "turned.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def kept_at(folder: Path, site: str) -> dict[str, torch.Tensor]:
    newest = max((folder / "clients" / site).glob("*/round-*.safetensors"))
    return dict(read_checked(newest).tensors)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_groups_get_a_model_each_where_fedavg_serves_neither(
    run: Simulate, turned: Path, seed: int
) -> None:
    with own_configs([*WORDS, f"strategy.objective.start_seed={seed}", "strategy=ifca"]) as words:
        found = run(*words, name="ifca")
    with own_configs([*WORDS, "strategy=fedavg"]) as words:
        averaged = run(*words, name="fedavg")
    assert averaged["federated"]["accuracy"] < 0.7
    for line in found["clients"].values():
        assert line["personal"]["accuracy"] > 0.95
    models = {site: kept_at(turned / "ifca", site) for site in SITES}
    for site, model in models.items():
        like = models["south" if site in TURNED else "north"]
        assert all(value.equal(like[name]) for name, value in model.items())
    assert any(not value.equal(models["south"][name]) for name, value in models["north"].items())


def test_the_runs_model_is_one_of_the_groups_and_predict_uses_an_institutions_own(
    run: Simulate, turned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with own_configs([*WORDS, "strategy=ifca"]) as words:
        run(*words)
    folder = turned / "run"
    shared = load_file(folder / "model" / "trainable.safetensors")
    found = [
        all(value.equal(kept_at(folder, site)[name]) for name, value in shared.items())
        for site in ("north", "south")
    ]
    assert sorted(found) == [False, True]
    likely = {}
    for site in ("north", "south"):
        words = ["predict", str(folder), "turned.csv", "--keep", "id", "--personal", site]
        assert cli.main([*words, "--output", f"{site}.csv"]) == 0
        likely[site] = pandas.read_csv(f"{site}.csv").iloc[:, -1]
    capsys.readouterr()
    # One's likely class is the other's unlikely one
    assert likely["north"].corr(likely["south"]) < -0.9
    write_report(folder)
    page = (folder / "report.html").read_text()
    assert "that of its cluster, which institutions with like records trained together" in page
    assert "The run&#39;s model is the one whose institutions weigh most" in page


def test_with_one_model_the_rounds_before_the_last_are_fedavgs_to_the_bit(
    run: Simulate, tmp_path: Path
) -> None:
    one = ("strategy=ifca", "strategy.objective.clusters=1", "server.num_rounds=4")
    found = run(*HEART, *one, name="ifca")
    averaged = run(*HEART, "strategy=fedavg", "server.num_rounds=3", name="fedavg")
    assert found["model_sha256"] == averaged["model_sha256"]
    assert found["federated"] == averaged["federated"]
    for line in found["clients"].values():
        assert line["personal"]["accuracy"] == line["accuracy"]


def test_the_vectorised_engine_computes_it_one_by_one_and_says_so(
    run: Simulate, caplog: pytest.LogCaptureFixture
) -> None:
    words = (*HEART, "strategy=ifca", "server.num_rounds=2")
    inline = run(*words, name="inline")
    with caplog.at_level(logging.WARNING):
        found = run(*words, "simulation.engine=vectorised", name="vectorised")
    assert "computed one by one, as by inline: objective.kind=ifca" in caplog.text
    for part in ("model_sha256", "clients", "personal"):
        assert found[part] == inline[part]
