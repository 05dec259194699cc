"""SIGKILL of any process of a federation at an instant of a masked round.

The run completes with the weights of an undisturbed one, and no sum is opened twice.
"""

import time
from pathlib import Path

import pytest
from deployment_run import HEART, HOSPITALS, hospitals_alone
from held_deployment import AT_THE_SERVER, HeldDeployment

MASKED = (*HEART, "aggregation=secure")
ONE = "Hungary"
INSTANTS = {
    "server/rounds": (
        "asks",  # before anybody is asked to train
        "trains",
        "kept",  # a masked reply is durable, and not sent
        "some_vectors",
        "committed",  # the sum is in the checkpoint, and nobody was asked to open it
        "some_shares",
        "opened",  # and nothing of it is in a checkpoint
    ),
    # Where what is killed does not change until then, one instant stands for those before
    f"{ONE}/trainer": ("trains", "masked", "kept", "gives"),
    f"{ONE}/executor": ("trains", "kept", "gives"),
    f"{ONE}/supernode": ("asks", "kept", "gives"),
    "server/front": ("asks", "some_vectors", "committed", "some_shares"),
    "server/superlink": ("some_vectors", "some_shares"),
}
"""Process -> instants at which it is killed, one a round from the first on. ``masked`` is between
the ledger's event and the durable reply; ``gives`` when it is in the ledger for whom a sum is
opened, and no share has left."""


def words(rounds: int) -> tuple[str, ...]:
    return (
        f"server.num_rounds={rounds}",
        "server.round_timeout_s=180",
        "server.enrol_timeout_s=90",
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("process", INSTANTS)
def test_a_process_is_killed_at_instants_of_masked_rounds(process: str, tmp_path: Path) -> None:
    instants, began = INSTANTS[process], time.monotonic()
    rounds = len(instants) + 1
    overrides = (*MASKED, *hospitals_alone(tmp_path / "heart.csv"))
    with HeldDeployment(run_overrides=overrides) as deployment:
        deployment.start_clients()
        deployment.start_server(*words(rounds))
        for server_round, instant in enumerate(instants, start=1):
            place = "server" if instant in AT_THE_SERVER else ONE
            with deployment.held(instant, server_round, [place]):
                deployment.kill(process)
            print(f"{time.monotonic() - began:6.1f} s: {process} killed at {instant}", flush=True)
        assert deployment.wait_for_server(400) == 0
        print(f"{time.monotonic() - began:6.1f} s: done", flush=True)
        summary = deployment.summary()
        assert summary["failures"] == {}
        assert summary["rounds"] == rounds
        for name in HOSPITALS:
            deployment.check_sums(name, rounds=rounds, survivors={HOSPITALS})
        deployment.stop_all()
        undisturbed = deployment.simulate(*words(rounds), "aggregation=plain")
        assert summary["model_sha256"] == undisturbed["model_sha256"]
