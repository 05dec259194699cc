"""Keys of a federation under way: revoked, renewed, and nothing is restarted."""

import datetime
import shutil
import signal
import ssl
import time
from pathlib import Path

import pytest
from deployment_run import ALLOWING, HEART, Deployment, confide, wait_until

from confide.deployment.lifetime import processes
from confide.security import certificates, ec_keys
from confide.storage.files import write_text

GONE, *OTHERS = ("Hungary", "Cleveland", "Switzerland", "VA Long Beach")
FOUR = (GONE, *OTHERS)
ROUNDS = "server.num_rounds=16"
BEARS = ("server.min_clients=3", "server.round_timeout_s=600")
"""What would make a run that waits for who is gone outlast this test."""


def provision(deployment: Deployment, *words: str) -> str:
    return confide("provision", str(deployment.folder / "federation.yaml"), *words).stdout


def front_log(deployment: Deployment) -> str:
    return (deployment.coordinator_kit / "state" / "logs" / "front.log").read_text()


def server_processes(deployment: Deployment) -> dict[str, int]:
    return processes(deployment.coordinator_kit / "state" / "logs")


def rounds(deployment: Deployment, count: int) -> None:
    wait_until(
        lambda: (
            deployment.rounds_done() >= count or deployment.started["server"].poll() is not None
        ),
        timeout_s=300,
        what=f"{count} rounds",
    )
    assert deployment.rounds_done() >= count


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("sums", ["plain", "secure"])
def test_who_is_revoked_is_refused_within_seconds_and_the_run_goes_on(sums: str) -> None:
    overrides = (*HEART, f"aggregation={sums}")
    with Deployment(run_overrides=overrides, institutions=FOUR) as deployment:
        deployment.start_clients()
        deployment.start_server(ROUNDS, *BEARS)
        rounds(deployment, 2)
        before = server_processes(deployment)
        told = provision(deployment, "--revoke", GONE)
        assert f"{GONE} is revoked: its node's key SHA256:" in told
        revoked, done = time.monotonic(), deployment.rounds_done()
        wait_until(
            lambda: "refused, its key was revoked" in front_log(deployment),
            timeout_s=60,
            what="a refusal",
        )
        print(f"refused after {time.monotonic() - revoked:.1f} s, sums {sums}")
        deployment.stop(GONE)

        # Whoever goes on from the checkpoint does not ask it either
        rounds(deployment, done + 3)
        assert server_processes(deployment) == before
        server = deployment.started.pop("server")
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 130
        deployment.resume_server()
        assert deployment.wait_for_server(400) == 0

        summary = deployment.summary()
        gone = summary["withdrawn"][GONE]
        assert sorted(summary["clients"]) == sorted(OTHERS)
        assert summary["rounds"] == 16
        assert 2 <= gone["after_round"] <= done + 1
        assert gone["stays"].startswith(f"its updates of {gone['rounds']} rounds")
        assert set(summary["failures"]) <= {str(gone["after_round"])}
        said = f"withdrew after round {gone['after_round']} and was not asked again"
        for name in ("report.html", "model_card.md"):
            assert said in (deployment.run_dir / name).read_text()
        log = confide("audit-log", "show", str(deployment.coordinator_kit / "state" / "audit"))
        assert 'why "revoked"' in log.stdout
        # A new run is one of the others
        shutil.rmtree(deployment.run_dir)
        deployment.start_server("server.num_rounds=1", "server.min_clients=3", "job=next")
        assert deployment.wait_for_server(300) == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_certificate_is_renewed_while_a_run_goes_on() -> None:
    with Deployment(client_overrides=(*ALLOWING, "data.id_column=id")) as deployment:
        shorten(deployment)
        deployment.start_clients()
        deployment.start_server("server.num_rounds=6")
        rounds(deployment, 1)
        before, old = server_processes(deployment), shown(deployment)
        wait_until(
            lambda: "server.crt ends on" in (deployment.folder / "server.out").read_text(),
            timeout_s=30,
            what="the warning",
        )
        assert "server.crt was replaced: it expires on" in provision(deployment)
        wait_until(lambda: shown(deployment) != old, timeout_s=30, what="the renewed certificate")
        assert deployment.wait_for_server(300) == 0
        assert server_processes(deployment) in ({}, before)
        summary = deployment.summary()
        assert (summary["rounds"], summary["failures"], summary["withdrawn"]) == (6, {}, {})
        # Institutions connect anew by it: their next run
        shutil.rmtree(deployment.run_dir)
        deployment.start_server("server.num_rounds=1", "job=next")
        assert deployment.wait_for_server(300) == 0


def shorten(deployment: Deployment) -> None:
    """Give the coordinator a certificate of ten days that ends in four."""
    folder = deployment.folder / "kits"
    authority = (
        certificates.read_certificate(folder / "authority" / "ca.crt"),
        ec_keys.read_private_key(folder / "authority" / "ca.key"),
    )
    key = ec_keys.read_private_key(folder / "coordinator" / "server.key").public_key()
    ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=6)
    issued = certificates.issue_server_certificate(
        key, ["127.0.0.1"], authority=authority, days=10, now=ago
    )
    write_text(folder / "coordinator" / "server.crt", certificates.certificate_pem(issued))


def shown(deployment: Deployment) -> str:
    return ssl.get_server_certificate(("127.0.0.1", deployment.port), timeout=30)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_with_encrypted_keys_and_client_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ca.key", "server.key", "heads.key", "node.key", "trainer.key"):
        path = tmp_path / f"{name}.passphrase"
        path.write_text(f"the words of {name}")
        path.chmod(0o600)
    monkeypatch.setenv("CONFIDE_PASSPHRASES", str(tmp_path))
    overrides, asks = (*HEART, "aggregation=secure"), {"client_certificates": True}
    with Deployment(run_overrides=overrides, federation=asks) as deployment:
        kits = deployment.folder / "kits"
        assert ec_keys.is_encrypted(kits / "institutions" / "Hungary" / "node.key")
        stranger = deployment.kit("Cleveland") / "node.crt"
        kept = stranger.read_bytes()
        deployment.start_server("server.num_rounds=3")
        stranger.unlink()
        deployment.start_clients()
        log = deployment.coordinator_kit / "state" / "logs" / "front.log"
        wait_until(
            lambda: log.exists() and "it shows no certificate" in log.read_text(),
            timeout_s=120,
            what="a stranger",
        )
        found = confide("doctor", str(deployment.kit("Cleveland")), "--json", check=False).stdout
        assert "the coordinator refuses this side's certificate" in found
        deployment.stop("Cleveland")
        write_text(stranger, kept.decode())
        deployment.start_client("Cleveland")
        assert deployment.wait_for_server(300) == 0
        assert deployment.summary()["failures"] == {}
        for line in (*deployment.folder.glob("*.out"), *deployment.folder.rglob("*.log")):
            assert "the words of" not in line.read_text(errors="replace")
