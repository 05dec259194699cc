"""A seeded run on public records gives the same model, up to rounding, on every processor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from confide.protocol.tensors import Tensors
from confide.server.run import run as server_run

Simulate = Callable[..., dict[str, Any]]
HEART = (
    "experiment=heart_disease",
    "simulation.baselines=[]",
    "privacy=record",
    "server.num_rounds=2",
    "job=trial",
)


def learnt(folder: Path) -> torch.Tensor:
    (path,) = (folder / "model").glob("*.safetensors")
    return torch.cat([tensor.flatten() for tensor in load_file(path).values()])


@pytest.fixture
def last_bits(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Change the last bit of each initial value, as another processor may."""
    initial = server_run.trainable_tensors

    def changed(model: torch.nn.Module) -> Tensors:
        tensors = {name: tensor.clone() for name, tensor in initial(model).items()}
        for tensor in tensors.values():
            tensor.view(torch.int32).bitwise_xor_(1)
        return tensors

    return lambda: monkeypatch.setattr(server_run, "trainable_tensors", changed)


def two_runs(run: Simulate, folder: Path, change: Callable[[], None], *overrides: str) -> float:
    """Return how far apart the models are of a run and of one from other last bits."""
    for name in ("a", "b"):
        run(
            *HEART,
            *(word.replace("LEDGERS", str(folder / f"of-{name}")) for word in overrides),
            name=name,
        )
        change()
    one, two = learnt(folder / "a"), learnt(folder / "b")
    assert not one.equal(two)  # the change has arrived
    return float((one - two).norm() / one.norm())


@pytest.mark.parametrize(
    ("strategy", "engine"),
    [("fedavg", "inline"), ("scaffold", "inline"), ("feddyn", "inline"), ("scaffold", "process")],
)
def test_last_bits_of_the_tensors_leave_a_public_runs_noise(
    run: Simulate,
    tmp_path: Path,
    last_bits: Callable[[], None],
    strategy: str,
    engine: str,
) -> None:
    chosen = (f"strategy={strategy}", f"simulation.engine={engine}")
    assert two_runs(run, tmp_path, last_bits, *chosen) < 1e-4


def test_last_bits_of_the_tensors_draw_anew_the_noise_on_private_records(
    run: Simulate, tmp_path: Path, last_bits: Callable[[], None]
) -> None:
    private = ("data.public=false", "policy.allow_reproducible_noise=true")
    private += ("client.ledger=LEDGERS", "policy.budget.epsilon=50")
    assert two_runs(run, tmp_path, last_bits, *private) > 0.01
