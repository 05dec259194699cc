"""Whole simulations, on real records and real backbones."""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from safetensors.torch import load_file

from confide.errors import DataError, ModelError
from confide.simulations.accounts.reproducible import noise_secret

Simulate = Callable[..., dict[str, Any]]
HEART = ("experiment=heart_disease", "simulation.baselines=[]")
SMALL_TWEETS = (
    "experiment=tweets",
    "backbone.num_hidden_layers=2",
    "data.max_records=240",
    "data.num_clients=2",
    "data.partitioner=iid",
    "server.num_rounds=2",
    "client.local_steps=2",
    "task.max_tokens=16",
)


def test_run_leaves_what_it_promises(run: Simulate, tmp_path: Path) -> None:
    summary = run("experiment=heart_disease", "privacy=record", "privacy.epsilon=3")
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert {line["round"] for line in lines} == set(range(51))
    assert {line["phase"] for line in lines} == {"enrol", "validation", "test", "train", "privacy"}
    assert all(
        set(line) == {"round", "phase", "client", "name", "value", "num_examples"} for line in lines
    )
    rounds = {f"round-000{number}.safetensors" for number in (48, 49, 50)}
    left = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert left == {"best.safetensors", "last.safetensors", "alone.json", "pooled.json"} | rounds


def test_summary_tells_every_institution_alone_and_federated(run: Simulate) -> None:
    summary = run("experiment=heart_disease", "privacy=record", "privacy.epsilon=3")
    names = {"Cleveland", "Hungary", "Switzerland", "VA Long Beach"}
    assert set(summary["clients"]) == set(summary["baselines"]["local"]) == names
    assert sum(client["records"] for client in summary["clients"].values()) == 920
    for client in summary["clients"].values():
        assert 0.98 * 3 < client["epsilon"] <= 3
        assert client["rounds"] == summary["rounds"] == 50
    assert summary["bytes"]["up"] == summary["bytes"]["down"] > 0


def test_seeded_privacy_is_called_nominal(run: Simulate) -> None:
    seeded = run(*HEART, "privacy=record", "server.num_rounds=1")["privacy"]
    secure = run(*HEART, "privacy=record", "server.num_rounds=1", "simulation.seed=null")["privacy"]
    assert seeded["noise"] == "reproducible"
    assert seeded["guarantee"].startswith("nominal")
    assert secure["noise"] == "secure"
    assert "nominal" not in secure["guarantee"]


@pytest.mark.parametrize("privacy", ["none", "record"])
def test_the_same_command_gives_the_same_model(run: Simulate, privacy: str) -> None:
    first, second = (
        run(*HEART, f"privacy={privacy}", "server.num_rounds=3", name=name) for name in ("a", "b")
    )
    assert first["model_sha256"] == second["model_sha256"]


def test_another_seed_gives_another_model(run: Simulate) -> None:
    digests = {
        run(*HEART, "server.num_rounds=2", f"simulation.seed={seed}")["model_sha256"]
        for seed in (0, 1)
    }
    assert len(digests) == 2


def test_without_a_seed_noise_never_repeats(run: Simulate) -> None:
    digests = {
        run(*HEART, "privacy=record", "server.num_rounds=1", "simulation.seed=null")["model_sha256"]
        for _ in range(2)
    }
    assert len(digests) == 2
    assert noise_secret(None, reproducible=True) != noise_secret(None, reproducible=True)
    assert noise_secret(0, reproducible=False) != noise_secret(0, reproducible=False)


def test_heart_disease_reaches_the_accuracy_it_claims(run: Simulate) -> None:
    summaries = [run(*HEART, f"simulation.seed={seed}") for seed in range(5)]
    assert mean(s["federated"]["accuracy"] for s in summaries) >= 0.81
    assert mean(s["federated"]["auc"] for s in summaries) >= 0.88


def test_private_heart_disease_reaches_the_accuracy_it_claims(run: Simulate) -> None:
    summaries = [
        run(*HEART, "privacy=record", "privacy.epsilon=3", f"simulation.seed={seed}")
        for seed in range(5)
    ]
    assert mean(s["federated"]["auc"] for s in summaries) >= 0.86
    for metric in ("auc", "accuracy"):
        assert (
            mean(mean(c[metric] for c in s["clients"].values() if metric in c) for s in summaries)
            >= 0.78
        )


@pytest.mark.parametrize("tuning", ["head", "lora", pytest.param("full", marks=pytest.mark.slow)])
def test_text_is_tuned_privately_end_to_end(run: Simulate, tmp_path: Path, tuning: str) -> None:
    summary = run(*SMALL_TWEETS, f"tuning={tuning}", "client.optimizer.learning_rate=0.1")
    assert summary["status"] == "completed"
    assert all(client["epsilon"] <= 8 for client in summary["clients"].values())
    tensors = load_file(tmp_path / "run" / "model" / "trainable.safetensors")
    assert {"head.weight", "head.bias"} <= set(tensors)
    assert (len(tensors) == 2) == (tuning == "head")
    assert any("lora_A" in name for name in tensors) == (tuning == "lora")


def test_text_without_privacy_learns(run: Simulate) -> None:
    summary = run(
        *SMALL_TWEETS,
        "privacy=none",
        "data.max_records=600",
        "client=epochs",
        "client.local_steps=10",
    )
    assert summary["privacy"] == {"unit": "none", "guarantee": "none"}
    assert summary["federated"]["log_loss"] < 1.0


@pytest.mark.parametrize(
    "strategy", ["fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "flower"]
)
def test_every_strategy_runs(run: Simulate, strategy: str) -> None:
    summary = run(*HEART, f"strategy={strategy}", "server.num_rounds=3")
    assert summary["rounds"] == 3


def test_flowers_fedavg_agrees_with_ours(run: Simulate, tmp_path: Path) -> None:
    models = []
    for name in ("fedavg", "flower"):
        run(*HEART, f"strategy={name}", "server.num_rounds=3", name=name)
        models.append(load_file(tmp_path / name / "model" / "trainable.safetensors"))
    for name, tensor in models[0].items():
        assert (tensor - models[1][name]).abs().max() < 1e-6


def test_early_stopping_ends_a_run_before_its_last_round(run: Simulate) -> None:
    summary = run(*HEART, "server.num_rounds=40", "server.patience=3", "server.keep=best")
    assert summary["stopped_early"]
    assert summary["rounds"] < 40
    assert summary["kept_round"] == summary["best"]["round"]
    assert summary["federated_validation"]["accuracy"] == summary["best"]["validation"]


def test_validation_is_that_of_the_model_that_is_kept(run: Simulate, tmp_path: Path) -> None:
    summary = run(*HEART, "server.num_rounds=2")
    last = [
        line
        for line in _lines(tmp_path / "run" / "metrics.jsonl")
        if (line["phase"], line["round"]) == ("validation", 2)
    ]
    scored = [(line["value"], line["num_examples"]) for line in last if line["name"] == "accuracy"]
    examples = sum(count for _, count in scored)
    assert summary["federated_validation"]["validation_examples"] == examples
    expected = sum(value * count for value, count in scored) / examples
    assert summary["federated_validation"]["accuracy"] == pytest.approx(expected)


def test_a_run_that_fails_before_its_first_round_says_why_in_its_summary(
    run: Simulate, tmp_path: Path
) -> None:
    with pytest.raises(DataError):
        run(*HEART, "task.label_column=disease")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["rounds"], summary["failures"]) == ("failed", 0, {})
    assert "lack column disease" in summary["error"]


def test_an_institution_without_records_is_named(run: Simulate) -> None:
    shares = ("data.validation=0.45", "data.test=0.54")
    with pytest.raises(
        DataError, match=r"Institution institution-\d+ has \d records, none of them to train on"
    ):
        run(*HEART, "data.partitioner=iid", "data.num_clients=400", *shares)


def test_a_missing_label_column_is_named(run: Simulate) -> None:
    with pytest.raises(DataError, match="lack column disease"):
        run(*HEART, "task.label_column=disease")


def test_a_backbone_without_safetensors_is_refused(run: Simulate, tmp_path: Path) -> None:
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text("{}")
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"no \*\.safetensors; pickled weights can run code"):
        run(*SMALL_TWEETS, f"backbone.name={tmp_path / 'pickled'}")


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_epsilon_grows_with_every_round(run: Simulate, tmp_path: Path) -> None:
    run(*HEART, "privacy=record", "server.num_rounds=4")
    lines = _lines(tmp_path / "run" / "metrics.jsonl")
    spent = [
        line["value"] for line in lines if line["name"] == "epsilon" and line["client"] == "Hungary"
    ]
    assert len(spent) == 4
    assert spent == sorted(set(spent))
