"""Exact averages of adapters in whole runs: engines, killed processes, privacy, what is kept."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from stopped_run import kill_when, started

from confide.models.compute import Compute
from confide.models.saved import load_model
from confide.storage.tensor_files import read_tensors

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)
Simulate = Callable[..., dict[str, Any]]
TWEETS = (
    "experiment=tweets",
    "client=default",
    "tuning=lora_exact",
    "tuning.rank=2",
    "backbone.num_hidden_layers=1",
    "data.max_records=90",
    "data.num_clients=3",
    "data.partitioner=iid",
    "server.num_rounds=3",
    "client.local_steps=2",
    "client.sampling_rate=0.3",
    "client.optimizer.learning_rate=0.5",
    "task.max_tokens=12",
    "simulation.baselines=[]",
    "trainer.num_threads=1",
)
BOTH = pytest.mark.parametrize("strategy", ["fedex_lora", "flora"])
PROCESS = ("simulation.engine=process", "simulation.workers=2")


@BOTH
def test_private_run_is_the_same_in_both_engines(run: Simulate, strategy: str) -> None:
    words = (*TWEETS, f"strategy={strategy}")
    inline, spread = run(*words, name="inline"), run(*words, *PROCESS, name="process")
    assert inline["model_sha256"] == spread["model_sha256"]
    assert all(0 < client["epsilon"] <= 8 for client in inline["clients"].values())


@BOTH
def test_killed_run_goes_on_with_the_same_weights(
    run: Simulate, strategy: str, tmp_path: Path
) -> None:
    words = (*TWEETS, f"strategy={strategy}", "privacy=none")
    expected, folder = run(*words, name="undisturbed"), tmp_path / "killed"
    with started(*words, f"hydra.run.dir={folder}") as process:
        kill_when(process, lambda: any(folder.glob("checkpoints/round-00001*")))
        assert process.exitcode == -signal.SIGKILL
    with started(f"resume={folder}") as process:
        process.join(120)
        assert process.exitcode == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["model_sha256"] == expected["model_sha256"]


def test_weights_travel_down_alone_and_are_saved(run: Simulate, tmp_path: Path) -> None:
    plain = run(*TWEETS, "tuning=lora", "strategy=fedavg", name="plain")["bytes"]
    exact = run(*TWEETS, "strategy=fedex_lora", name="exact")
    rounds, weights = 3 * 3, 4 * 2 * 384 * 384  # queries and values of one layer
    assert exact["bytes"]["up"] == plain["up"]
    assert exact["bytes"]["down"] == plain["down"] + rounds * weights
    folder = tmp_path / "exact" / "model"
    _, tensors, _ = load_model(folder, compute=Compute())
    saved = read_tensors(folder / "trainable.safetensors").tensors
    name = next(name for name in saved if name.endswith("query.base_layer.weight"))
    assert torch.equal(tensors[name], saved[name])
    start = read_tensors(tmp_path / "plain" / "model" / "trainable.safetensors").tensors
    assert name not in start


def test_residual_moves_the_weights(run: Simulate, tmp_path: Path) -> None:
    """By what institutions changed unlike each other, and without them by nothing."""
    words = (*TWEETS, "strategy=fedex_lora", "privacy=none")
    run(*words, name="three")
    run(*words, "data.num_clients=1", name="one")
    three, one = (
        read_tensors(tmp_path / name / "model" / "trainable.safetensors").tensors
        for name in ("three", "one")
    )
    name = next(name for name in one if name.endswith("value.base_layer.weight"))
    # One institution's residual is rounding, below what the weights can hold
    assert 0 < float((three[name] - one[name]).abs().max()) < 0.1
