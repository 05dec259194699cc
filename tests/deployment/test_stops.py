"""Ctrl-C, SIGTERM and a second start: what runs ends in seconds and says how it goes on."""

import signal
import time

import pytest
from deployment_run import HOSPITALS, Deployment, confide, wait_until

from confide.client.ledger.file import LedgerFile

ROUNDS = "server.num_rounds=6"
QUICKLY_S = 12.0


def ends_quickly(deployment: Deployment, name: str, number: signal.Signals) -> int:
    """Tell a command to end; return its exit status."""
    process = deployment.started.pop(name)
    process.send_signal(number)
    return process.wait(QUICKLY_S)


def is_running(deployment: Deployment, name: str) -> bool:
    return any(process.startswith(f"{name}/") for process in deployment.process_ids())


def output_of(deployment: Deployment, name: str) -> str:
    return (deployment.folder / f"{name}.out").read_text()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_that_is_interrupted_goes_on_and_a_second_start_is_refused() -> None:
    with Deployment() as deployment:
        deployment.start_clients()
        deployment.start_server(ROUNDS)
        wait_until(lambda: deployment.rounds_done() >= 1, timeout_s=90, what="a round")
        refuse_second_starts(deployment)

        assert ends_quickly(deployment, "server", signal.SIGINT) == 130
        assert "confide server: interrupted." in output_of(deployment, "server")
        assert (
            f"`confide server --resume {deployment.run_dir}` goes on from its last checkpoint."
            in output_of(deployment, "server")
        )
        assert not is_running(deployment, "server")

        before = deployment.rounds_done()
        deployment.resume_server()
        wait_until(lambda: deployment.rounds_done() > before, timeout_s=90, what="another round")
        assert ends_quickly(deployment, "server", signal.SIGTERM) == 130
        assert output_of(deployment, "server").count("goes on from its last checkpoint") == 2

        deployment.resume_server()
        assert deployment.wait_for_server(150) == 0
        again = confide("server", "--resume", str(deployment.run_dir))
        assert f"{deployment.run_dir} is finished: 6 rounds" in again.stdout

        assert ends_quickly(deployment, "Cleveland", signal.SIGINT) == 0
        assert ends_quickly(deployment, "Hungary", signal.SIGTERM) == 0
        assert not is_running(deployment, "Cleveland")
        assert not is_running(deployment, "Hungary")


def refuse_second_starts(deployment: Deployment) -> None:
    other_run = deployment.folder / "another-run"
    words = [
        str(deployment.coordinator_kit),
        *deployment.run_overrides,
        f"hydra.run.dir={other_run}",
    ]
    server = confide("server", *words, check=False)
    assert server.returncode == 2
    assert "Another confide server is running from this kit" in server.stderr
    resumed = confide("server", "--resume", str(deployment.run_dir), check=False)
    assert resumed.returncode == 2
    assert "Another process is at work in" in resumed.stderr
    words = [str(deployment.kit(HOSPITALS[0])), "data.path=unused", *deployment.client_overrides]
    client = confide("client", *words, check=False)
    assert client.returncode == 2
    assert "This kit is running already" in client.stderr, client.stderr


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_client_that_finds_nobody_ends_as_quickly(number: signal.Signals) -> None:
    with Deployment(institutions=("Hungary",)) as deployment:
        deployment.start_client("Hungary")
        wait_until(
            lambda: "Hungary/supernode" in deployment.process_ids(),
            timeout_s=30,
            what="its SuperNode",
        )
        time.sleep(2.0)
        assert ends_quickly(deployment, "Hungary", number) == 0
        assert deployment.left_running() == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_goes_on_without_an_institution_that_withdrew() -> None:
    with Deployment() as deployment:
        gone, *left = deployment.institutions
        deployment.start_clients()
        deployment.start_server(ROUNDS)
        wait_until(lambda: deployment.rounds_done() >= 2, timeout_s=120, what="two rounds")
        assert ends_quickly(deployment, "server", signal.SIGINT) == 130
        confide(
            "client",
            "stop",
            deployment.job,
            str(deployment.kit(gone)),
            f"data.path={gone}",
            *deployment.client_overrides,
        )
        assert ends_quickly(deployment, gone, signal.SIGINT) == 0
        done = deployment.rounds_done()

        deployment.resume_server("--without", "nobody", "server.min_clients=2")
        assert deployment.wait_for_server(60) == 2
        assert f"those who do are {', '.join((gone, *left))}" in output_of(deployment, "server")
        deployment.resume_server("--without", gone, "server.min_clients=2")
        assert deployment.wait_for_server(150) == 0, output_of(deployment, "server")

        summary = deployment.summary()
        assert list(summary["clients"]) == left
        assert summary["withdrawn"][gone]["after_round"] == done
        assert (summary["rounds"], summary["failures"]) == (6, {})
        for name in left:
            ledger = LedgerFile(next((deployment.kit(name) / "ledger").glob("*.ledger")))
            (population,) = ledger.state.populations.values()
            (run,) = population.runs.values()
            # A round that was cut off was answered from what it keeps: six reservations, no more
            assert len(run.rounds) == 6
