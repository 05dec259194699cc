"""Algorithms against drift, and learning rates by round, in whole runs."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stopped_run import HEART, KINDS, stopped

Simulate = Callable[..., dict[str, Any]]
EPOCHS = (
    "client.local_steps=null",
    "client.sampling_rate=null",
)  # as many steps as records ask for
FALLING = (
    "client.optimizer.schedule.kind=cosine",
    "strategy.server_optimizer.schedule={kind: step, warmup_rounds: 1, drops: 1}",
)
NEW = ("fednova", "fedexp", "qfedavg", "moon")
# What keeps or sends most, and the rates: the others in between
MIXED = [
    "fedexp",
    "moon",
    "falling",
    pytest.param("fednova", marks=pytest.mark.slow),
    pytest.param("qfedavg", marks=pytest.mark.slow),
]
PROCESS = ("simulation.engine=process", "simulation.workers=2")
SHORT = (*HEART, "server.num_rounds=3")
MLP = ("backbone=mlp",)


@pytest.mark.parametrize(
    ("drifting", "plain"),
    [
        (("strategy=fednova", "client.local_steps=1"), ("client.local_steps=1",)),
        (("strategy=fedexp", "strategy.objective.epsilon=1e6"), ()),
        (("strategy=qfedavg", "strategy.objective.q=0"), ()),
        (("strategy=moon", "strategy.objective.mu=0", *MLP), MLP),
    ],
    ids=NEW,
)
def test_with_nothing_to_do_it_is_fedavg_bit_for_bit(
    run: Simulate, drifting: tuple[str, ...], plain: tuple[str, ...]
) -> None:
    expected = run(*SHORT, *plain, "client.optimizer.kind=sgd", name="plain")
    found = run(*SHORT, *drifting, "client.optimizer.kind=sgd", name="drifting")
    assert found["model_sha256"] == expected["model_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", NEW)
def test_it_is_another_model_than_fedavgs(run: Simulate, kind: str) -> None:
    own = KINDS[kind]
    plain = [word for word in own if not word.startswith("strategy=")]
    expected = run(*SHORT, *plain, "strategy=fedavg", name="plain")
    assert run(*SHORT, *own, name="own")["model_sha256"] != expected["model_sha256"]


@pytest.mark.parametrize("kind", MIXED)
def test_workers_give_the_inline_model(run: Simulate, kind: str) -> None:
    words = FALLING if kind == "falling" else KINDS[kind]
    inline, process = (
        run(*SHORT, *words, *engine, name=name) for name, engine in (("one", ()), ("two", PROCESS))
    )
    assert process["model_sha256"] == inline["model_sha256"]


@pytest.mark.parametrize("kind", MIXED)
def test_a_stopped_run_goes_on_with_the_same_weights(
    run: Simulate, tmp_path: Path, kind: str
) -> None:
    words = (*HEART, *(FALLING if kind == "falling" else KINDS[kind]))
    expected = run(*words, name="undisturbed")
    stopped(run, *words, after=4)
    newest = tmp_path / "run" / "checkpoints" / "round-00004.safetensors"
    newest.write_bytes(b"")  # it goes back to the one before, and so do institutions
    found = run(*words, resume=True)
    assert found["model_sha256"] == expected["model_sha256"]
    assert found["clients"] == expected["clients"]


def model_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "trainable.safetensors")


@pytest.mark.parametrize(
    "words",
    [
        ("strategy=fednova", *EPOCHS),
        ("strategy=fednova", *EPOCHS, "client.optimizer.momentum=0.9"),
        ("strategy=fedexp", "privacy=record"),
        ("server.num_rounds=2", *FALLING),
    ],
    ids=["fednova", "momentum", "fedexp", "falling"],
)
def test_a_round_of_the_vectorised_engine_is_that_of_inline(
    run: Simulate, tmp_path: Path, words: tuple[str, ...]
) -> None:
    for engine in ("inline", "vectorised"):
        settings = (*HEART, "server.num_rounds=1", *words, f"simulation.engine={engine}")
        run(*settings, name=engine)
    one, other = model_of(tmp_path / "inline"), model_of(tmp_path / "vectorised")
    for name, tensor in one.items():
        assert torch.allclose(tensor, other[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["qfedavg", "moon"])
def test_what_reads_records_is_computed_inline_and_says_so(
    run: Simulate, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    inline = run(*SHORT, *KINDS[kind], name="inline")
    with caplog.at_level(logging.WARNING):
        found = run(*SHORT, *KINDS[kind], "simulation.engine=vectorised", name="vectorised")
    assert f"objective.kind={kind} is no elementwise one" in caplog.text
    assert found["model_sha256"] == inline["model_sha256"]


@pytest.mark.parametrize("kind", ["fednova", "fedexp", "falling"])
def test_privacy_costs_what_it_costs_without(run: Simulate, kind: str) -> None:
    private = ("privacy=record", "privacy.epsilon=3")
    own = (*private, *FALLING) if kind == "falling" else KINDS[kind]
    plain = [word for word in own if not word.startswith("strategy=") and word not in FALLING]
    expected = run(*SHORT, *plain, "strategy=fedavg", name="plain")
    found = run(*SHORT, *own, name="own")
    assert found["model_sha256"] != expected["model_sha256"]
    for name, line in expected["clients"].items():
        for figure in ("epsilon", "noise_multiplier", "num_examples"):
            assert found["clients"][name].get(figure) == line.get(figure)
        assert line["epsilon"] > 0
