"""The head first, then adapters, in whole runs: engines, killed processes, privacy."""

import json
import signal
from pathlib import Path

import pytest
import torch
from stopped_run import Simulate, kill_when, started, stopped

from confide.protocol.tensors import Tensors
from confide.storage.tensor_files import read_tensors

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)
TWEETS = (
    "experiment=tweets",
    "client=default",
    "tuning.rank=2",
    "backbone.num_hidden_layers=1",
    "data.max_records=90",
    "data.num_clients=3",
    "data.partitioner=iid",
    "server.num_rounds=4",
    "client.local_steps=2",
    "client.sampling_rate=0.3",
    "client.optimizer.learning_rate=0.5",
    "task.max_tokens=12",
    "simulation.baselines=[]",
    "trainer.num_threads=1",
)
FIRST = (*TWEETS, "tuning=lora_after_head", "tuning.head_rounds=2")
PROCESS = ("simulation.engine=process", "simulation.workers=2")


def trained(run_dir: Path) -> Tensors:
    return dict(read_tensors(run_dir / "model" / "trainable.safetensors").tensors)


def test_private_run_is_the_same_in_every_engine(
    run: Simulate, caplog: pytest.LogCaptureFixture
) -> None:
    inline = run(*FIRST, name="inline")
    spread = run(*FIRST, *PROCESS, name="process")
    together = run(*FIRST, "simulation.engine=vectorised", name="vectorised")
    assert inline["model_sha256"] == spread["model_sha256"] == together["model_sha256"]
    assert "the model is no stack of linear layers" in caplog.text


def test_adapters_stay_until_the_head_has_had_its_rounds(run: Simulate, tmp_path: Path) -> None:
    """Under noise too, and with momentum at the coordinator."""
    words = (*FIRST, "strategy=fedavgm")
    stopped(run, *words, after=2, name="two")
    run(*words, name="four")
    two = read_tensors(tmp_path / "two" / "checkpoints" / "round-00002.safetensors").tensors
    b_halves = [name for name in two if ".lora_B." in name]
    assert b_halves
    assert not any(two[name].any() for name in b_halves)
    after = trained(tmp_path / "four")
    halves = [name for name in after if ".lora_B." in name]
    assert halves
    assert all(after[name].any() for name in halves)


def test_none_first_is_plain_adapters_and_costs_the_same(run: Simulate, tmp_path: Path) -> None:
    plain = run(*TWEETS, "tuning=lora", name="plain")
    none_first = run(*TWEETS, "tuning=lora_after_head", "tuning.head_rounds=0", name="none")
    assert none_first["model_sha256"] == plain["model_sha256"]
    first = run(*FIRST, name="first")
    assert first["model_sha256"] != plain["model_sha256"]
    assert first["bytes"] == plain["bytes"]
    spent = [[c["epsilon"] for c in it["clients"].values()] for it in (plain, first)]
    assert spent[0] == spent[1]
    assert all(0 < epsilon <= 8 for epsilon in spent[0])


@pytest.mark.parametrize(
    "after", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_a_run_stopped_around_the_switch_goes_on_to_the_same_weights(
    run: Simulate, after: int
) -> None:
    expected = run(*FIRST, name="undisturbed")
    stopped(run, *FIRST, after=after)
    assert run(*FIRST, resume=True)["model_sha256"] == expected["model_sha256"]


@pytest.mark.slow
def test_a_killed_run_goes_on_across_the_switch(run: Simulate, tmp_path: Path) -> None:
    expected, folder = run(*FIRST, name="undisturbed"), tmp_path / "killed"
    with started(*FIRST, f"hydra.run.dir={folder}") as process:
        kill_when(process, lambda: any(folder.glob("checkpoints/round-00002*")))
        assert process.exitcode == -signal.SIGKILL
    with started(f"resume={folder}") as process:
        process.join(300)
        assert process.exitcode == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["model_sha256"] == expected["model_sha256"]


@pytest.mark.parametrize("codec", ["top_k", "low_rank"])
def test_what_a_codec_left_over_of_the_head_moves_no_adapter(
    run: Simulate, tmp_path: Path, codec: str
) -> None:
    """And once adapters have their rounds, they get through."""
    words = (*FIRST, "privacy=none", f"strategy/upload={codec}", "strategy=fedavg")
    stopped(run, *words, after=2, name="two")
    run(*words, name="four")
    two = read_tensors(tmp_path / "two" / "checkpoints" / "round-00002.safetensors").tensors
    assert not any(it.any() for name, it in two.items() if ".lora_B." in name)
    after = trained(tmp_path / "four")
    assert any(it.any() for name, it in after.items() if ".lora_B." in name)
    assert all(torch.isfinite(it).all() for it in after.values())
