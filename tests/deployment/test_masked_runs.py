"""Masked sums between real processes: the plain run's model, bit for bit, whoever drops out."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from deployment_run import ALLOWING, HEART, Deployment
from held_deployment import HeldDeployment

from confide.storage.tensor_files import read_tensors
from confide.strategies.aggregators import add_scaled

FOUR = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")
SECURE, PLAIN = "aggregation=secure", "aggregation=plain"
MASKED = (*HEART, SECURE)
REAL = "aggregation.simulated=real"
UNPROTECTED = (
    *(word for word in ALLOWING if "budget" not in word),
    "policy.required_unit=none",
    "policy.metrics_privacy=exact",
    "data.id_column=id",
)
NOISY = ("policy.metrics_privacy=noisy", "policy.min_support=20")
"""An institution's own way, which a simulation has to be told."""
ROUNDS = "server.num_rounds=3"
GONE_S = "server.round_timeout_s=60"
"""After so long an institution that is gone is waited for no more."""


def finish(deployment: Deployment, *overrides: str) -> dict[str, Any]:
    """Carry out a run to its end."""
    deployment.start_server(*overrides)
    return summary_of(deployment)


def summary_of(deployment: Deployment) -> dict[str, Any]:
    assert deployment.wait_for_server(400) == 0
    return deployment.summary()


def model(deployment: Deployment, *words: str) -> str:
    """Simulate the same run."""
    return str(deployment.simulate(*words)["model_sha256"])


def faults(kind: str, server_round: int, *names: str) -> str:
    told = (f"{{kind: {kind}, client: {name}, rounds: [{server_round}]}}" for name in names)
    return f"simulation.faults=[{', '.join(told)}]"


def check_scores(deployment: Deployment) -> None:
    """What the coordinator has of scores is of everybody together."""
    lines = map(json.loads, (deployment.run_dir / "metrics.jsonl").read_text().splitlines())
    told = [line["client"] for line in lines if line["name"] == "accuracy"]
    assert told
    assert set(told) == {None}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_masked_sums_of_hospitals_are_the_plain_ones() -> None:
    with HeldDeployment(run_overrides=MASKED, institutions=FOUR) as deployment:
        deployment.start_clients()
        summary = finish(deployment, ROUNDS)
        check_scores(deployment)
        for name in FOUR:
            deployment.check_sums(name, rounds=3, survivors={FOUR})
        deployment.stop_all()
        plain = plain_in_new_kits(deployment)
        assert summary["model_sha256"] == plain["model_sha256"]
        simulated = deployment.simulate(ROUNDS, *NOISY)
        for part in ("model_sha256", "federated", "federated_validation", "best"):
            assert summary[part] == simulated[part]


def plain_in_new_kits(deployment: Deployment) -> dict[str, Any]:
    """Run the plain run of the same seed in new kits, and look for its updates in the old ones."""
    old = {name: b"".join(read_files(deployment.kit(name))) for name in FOUR}
    for name in FOUR:
        shutil.rmtree(deployment.kit(name) / "state")
        shutil.rmtree(deployment.kit(name) / "ledger")
    shutil.rmtree(deployment.run_dir)
    deployment.start_clients()
    summary = finish(deployment, ROUNDS, PLAIN)
    weights = {name: client["num_examples"] for name, client in summary["clients"].items()}
    for name in FOUR:
        new = b"".join(read_files(deployment.kit(name)))
        updates = list(updates_in(deployment.kit(name)))
        assert len(updates) == 3
        for update in updates:
            assert update.numpy().tobytes() in new
            for trace in traces_of(update, weights[name], sum(weights.values())):
                assert trace not in old[name]
    return summary


def read_files(folder: Path) -> Iterator[bytes]:
    return (path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def updates_in(kit: Path) -> Iterator[torch.Tensor]:
    """Yield the largest tensor of each plain update that a kit keeps."""
    for path in sorted(kit.rglob("*.safetensors")):
        yield max(read_tensors(path).tensors.values(), key=torch.numel).contiguous()


def traces_of(update: torch.Tensor, weight: int, total: int) -> Iterator[bytes]:
    """Yield what a disk would hold of an update: its values, and the integers of a sum."""
    values = update.flatten()
    assert len(values) >= 16
    for at in range(0, len(values) - 4, 4):
        yield values[at : at + 4].numpy().tobytes()
    for scale in range(20, 60):  # a scale follows from bounds; whichever it is
        words = torch.zeros(len(values), dtype=torch.int64)
        add_scaled(words, values, weight * 2.0**scale)
        yield words[:2].numpy().astype(numpy.int64).tobytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_masked_words_of_32_bits_give_the_model_of_plain_ones() -> None:
    words = (*MASKED, "aggregation.sum_bits=32", "server.max_update_value=8")
    with Deployment(run_overrides=words, institutions=FOUR) as deployment:
        deployment.start_clients()
        found = finish(deployment, ROUNDS)["model_sha256"]
        assert found == model(deployment, ROUNDS, PLAIN)
        assert found != model(deployment, ROUNDS, PLAIN, "aggregation.sum_bits=64")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_masked_sums_without_privacy_are_the_plain_ones() -> None:
    words = ("experiment=heart_disease", "privacy=none", SECURE)
    with Deployment(
        run_overrides=words, institutions=FOUR, client_overrides=UNPROTECTED
    ) as deployment:
        deployment.start_clients()
        summary = finish(deployment, ROUNDS)
        check_scores(deployment)
        assert summary["model_sha256"] == model(deployment, ROUNDS, PLAIN)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sum_is_of_those_who_answered_whoever_is_killed_then() -> None:
    """Killed before it answered an institution is not in the sum, killed afterwards it is."""
    words = ("server.num_rounds=4", GONE_S, "server.min_clients=3")
    early, late = "Hungary", "Switzerland"
    with HeldDeployment(run_overrides=MASKED, institutions=FOUR) as deployment:
        deployment.start_clients()
        deployment.start_server(*words)
        with deployment.held("trains", 2, [early]):
            deployment.kill_institution(early)
        with deployment.held("asks", 3, ["server"]):
            deployment.bring_back(early)
        with deployment.held("committed", 3, ["server"]):
            deployment.kill_institution(late)
        with deployment.held("asks", 4, ["server"]):
            deployment.bring_back(late)
        found = summary_of(deployment)["model_sha256"]
        three = tuple(name for name in FOUR if name != early)
        deployment.check_sums(early, rounds=4, survivors={FOUR})
        for name in three:
            deployment.check_sums(name, rounds=4, survivors={FOUR, three})
        assert found == model(deployment, *words, PLAIN, faults("raises", 2, early))
        assert found != model(deployment, *words, PLAIN)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("instant", "fault"), [("trains", "raises"), ("committed", "leaves")])
def test_a_round_whose_sum_is_not_opened_is_done_again_and_says_so(
    instant: str, fault: str
) -> None:
    words = (ROUNDS, GONE_S, "privacy.spare_rounds=1")
    gone = ("Hungary", "Switzerland")
    with HeldDeployment(run_overrides=MASKED, institutions=FOUR) as deployment:
        deployment.start_clients()
        deployment.start_server(*words)
        with deployment.held(instant, 2, gone if fault == "raises" else ["server"]):
            for name in gone:
                deployment.kill_institution(name)
        with deployment.held("asks", 3, ["server"]):
            for name in gone:
                deployment.bring_back(name)
        summary = summary_of(deployment)
        log = (deployment.run_dir / "confide.log").read_text()
        assert "Round 2 is lost (sum_too_few), and done again" in log
        assert "1 of 1 spare rounds are used" in log
        assert summary["rounds"] == 4
        assert summary["model_sha256"] == model(deployment, *words, REAL, faults(fault, 2, *gone))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("instant", ["trains", "committed"])
def test_without_a_spare_round_the_run_goes_on_once_they_are_back(instant: str) -> None:
    words, gone = (ROUNDS, GONE_S), ("Hungary", "Switzerland")
    # The run wants all four (server.min_clients); three open a sum
    did = {
        "trains": "brought a masked update, and 4 are needed",
        "committed": "helped to open the sum, and 3 are needed",
    }[instant]
    with HeldDeployment(run_overrides=MASKED, institutions=FOUR) as deployment:
        deployment.start_clients()
        deployment.start_server(*words)
        with deployment.held(instant, 2, gone if instant == "trains" else ["server"]):
            for name in gone:
                deployment.kill_institution(name)
        assert deployment.wait_for_server(200) == 1
        told = (deployment.folder / "server.out").read_text()
        assert f"round 2: 2 institutions {did}" in told
        assert all(f"{name} (" in told for name in gone)
        for name in gone:
            deployment.start_client(name)
        deployment.resume_server()
        found = summary_of(deployment)["model_sha256"]
        for name in FOUR:
            deployment.check_sums(name, rounds=3, survivors={FOUR})
        assert found == model(deployment, *words, PLAIN)
