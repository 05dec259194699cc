"""The main job, as `make run` runs it: minutes, so marked slow."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.slow
def test_main_job_reaches_the_accuracy_it_claims(run: Callable[..., dict[str, Any]]) -> None:
    summary = run()
    alone = [bank["accuracy"] for bank in summary["baselines"]["local"].values()]
    assert sum(client["records"] for client in summary["clients"].values()) == 8000
    assert all(client["epsilon"] <= 8 for client in summary["clients"].values())
    assert summary["federated"]["accuracy"] >= 0.69
    assert summary["federated"]["accuracy"] > max(alone)
    # Under noise either may be ahead by a little
    assert summary["baselines"]["pooled"]["accuracy"] > summary["federated"]["accuracy"] - 0.02


@pytest.mark.slow
def test_whole_backbone_is_tuned_with_lora_under_privacy(
    run: Callable[..., dict[str, Any]],
) -> None:
    small = (
        "experiment=tweets",
        "data.max_records=400",
        "data.num_clients=2",
        "data.partitioner=iid",
        "server.num_rounds=2",
        "client.local_steps=2",
    )
    summary = run(
        *small, "tuning=lora", "client.optimizer.learning_rate=0.5", "simulation.baselines=[]"
    )
    assert summary["status"] == "completed"
    assert all(0 < client["epsilon"] <= 8 for client in summary["clients"].values())
