"""What stays at a deployed institution is what a simulation keeps, and its own commands use it."""

from pathlib import Path

import pandas
import pytest
from deployment_run import HEART, Deployment, confide

from confide.client.deployment.kit import read_kit
from confide.storage.files import folder_name
from confide.storage.tensor_files import read_checked, sha256

FOUR_HOSPITALS = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")
ROUNDS = "server.num_rounds=3"
NOISY = ("policy.metrics_privacy=noisy", "policy.min_support=20")


def newest(folder: Path) -> str:
    return sha256(read_checked(max(folder.glob("*/round-*.safetensors"))).tensors)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_kit_keeps_its_own_model_and_predicts_with_it(tmp_path: Path) -> None:
    with Deployment(
        run_overrides=(*HEART, "strategy=ditto"), institutions=FOUR_HOSPITALS
    ) as deployment:
        deployment.start_clients()
        deployment.start_server(ROUNDS)
        assert deployment.wait_for_server(240) == 0
        summary, simulated = deployment.summary(), deployment.simulate(ROUNDS, *NOISY)
        for part in ("model_sha256", "federated", "personal"):
            assert summary[part] == simulated[part]
        for name in deployment.institutions:
            own = read_kit(deployment.kit(name))[0].own / "rounds"
            there = deployment.folder / "simulation" / "clients" / folder_name(name)
            assert newest(own) == newest(there)
            told = summary["clients"][name]["personal"]
            assert told == simulated["clients"][name]["personal"]
        records = str(deployment.folder / "records" / "Hungary.csv")
        whose = {"kit": str(deployment.kit("Hungary")), "simulation": "Hungary"}
        for place, run in (("kit", deployment.run_dir), ("simulation", there.parents[1])):
            words = ["--personal", whose[place], "--output", str(tmp_path / f"{place}.csv")]
            confide("predict", str(run), records, *words)
        kit, simulation = (pandas.read_csv(tmp_path / f"{place}.csv") for place in whose)
        assert kit.equals(simulation)
