"""What is refused, and what both ends say to it.

On a real coordinator, with the real programs of Flower.
"""

import dataclasses
import datetime
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from deployment_run import ALLOWING, HEART, Deployment, confide, free_port, wait_until

from confide.client.ledger.file import LedgerFile
from confide.client.service.stub import TrainerServiceClient
from confide.config.composing.compose import compose
from confide.deployment.logs import log_tail
from confide.flower.explain import explain
from confide.flower.processes import environment, supernode_command
from confide.protocol.messages import Request
from confide.protocol.new_plan import make_plan
from confide.protocol.tensors import encode
from confide.security import certificates, ec_keys
from confide.server.deployment.kit import load_coordinator_kit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(380)]

PATIENCE_S = 40.0
ANOTHER_RELEASE = """
import importlib.metadata, sys
real = importlib.metadata.version
importlib.metadata.version = lambda name: "1.40.0" if name == "flwr" else real(name)
from flwr.supernode.cli import flower_supernode
sys.exit(flower_supernode())
"""


@pytest.fixture(scope="module")
def waiting() -> Iterator[Deployment]:
    """Run a coordinator that waits for its institutions: SuperLink, front and rounds."""
    with Deployment() as deployment:
        deployment.start_server("server.num_rounds=1", "server.enrol_timeout_s=600")
        front = deployment.coordinator_kit / "state" / "logs" / "front.log"
        wait_until(lambda: "Listening" in _text(front), timeout_s=90, what="the front listens")
        yield deployment


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def told(deployment: Deployment, name: str) -> str:
    return _text(deployment.folder / f"{name}.out")


def fronts_log(deployment: Deployment) -> str:
    return _text(deployment.coordinator_kit / "state" / "logs" / "front.log")


def knock(deployment: Deployment, expected: str, *overrides: str) -> None:
    """Start the one process of an institution that has a network, until its supervisor says what
    is expected.
    """
    name = deployment.institutions[0]
    before = len(told(deployment, name))
    deployment.start_client(name, "--only", "supernode", f"runtime_port={free_port()}", *overrides)
    try:
        wait_until(
            lambda: expected in told(deployment, name)[before:], timeout_s=PATIENCE_S, what=expected
        )
    finally:
        deployment.stop(name)


def wait_for_front(deployment: Deployment, expected: str) -> None:
    wait_until(lambda: expected in fronts_log(deployment), timeout_s=10, what=expected)


def test_a_wrong_authority_is_refused(waiting: Deployment, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text(
        certificates.certificate_pem(certificates.make_authority("other", ec_keys.make_key()))
    )
    knock(
        waiting,
        "The coordinator's certificate is not signed by ca.crt",
        f"coordinator.ca={tmp_path}/ca.crt",
    )
    wait_for_front(waiting, "it knows another authority, so its ca.crt is not this federation's")


def test_an_unregistered_key_is_refused(waiting: Deployment, tmp_path: Path) -> None:
    key = ec_keys.make_key()
    (tmp_path / "node.key").write_text(ec_keys.node_key_text(key))
    (tmp_path / "node.key").chmod(0o600)
    knock(
        waiting,
        "The coordinator does not accept this institution's key",
        f"coordinator.key={tmp_path}/node.key",
    )
    shown = ec_keys.key_fingerprint(key.public_key())
    wait_for_front(
        waiting,
        "412, refused, its key is not registered, or its SuperNode vanished less than a minute"
        f" ago, key {shown}",
    )
    doctor = confide("doctor", str(waiting.coordinator_kit), "--json", check=False)
    findings = json.loads(doctor.stdout)["findings"]
    assert any(f["check"] == "refused" and shown in f["message"] for f in findings), doctor.stdout


def test_an_expired_certificate_is_refused(waiting: Deployment, tmp_path: Path) -> None:
    kit, authority = (
        load_coordinator_kit(waiting.coordinator_kit),
        waiting.coordinator_kit.parent / "authority",
    )
    key, past = (
        ec_keys.make_key(),
        datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=40),
    )
    signer = (
        certificates.read_certificate(authority / "ca.crt"),
        ec_keys.read_private_key(authority / "ca.key"),
    )
    old = certificates.issue_server_certificate(
        key.public_key(), ["127.0.0.1"], authority=signer, days=1, now=past
    )
    (tmp_path / "old.crt").write_text(certificates.certificate_pem(old))
    (tmp_path / "old.key").write_text(ec_keys.private_pem(key))
    port, log = free_port(), tmp_path / "front.log"
    command = [
        sys.executable,
        "-m",
        "confide.server.deployment.front",
        "--listen",
        f"127.0.0.1:{port}",
    ]
    command += ["--certificate", f"{tmp_path}/old.crt", "--key", f"{tmp_path}/old.key"]
    command += ["--upstream", kit.address.read_text().strip(), "--upstream-ca", str(kit.inner.ca)]
    with log.open("wb") as output:
        front = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_until(lambda: "Listening" in _text(log), timeout_s=20, what="the front listens")
        knock(
            waiting,
            "The coordinator's certificate has expired",
            f"coordinator.address=127.0.0.1:{port}",
        )
        wait_until(
            lambda: "it finds this server's certificate expired" in _text(log),
            timeout_s=10,
            what="the front's log",
        )
    finally:
        front.terminate()
        front.wait(10)


def test_another_release_of_flower_is_refused(waiting: Deployment, tmp_path: Path) -> None:
    kit = waiting.kit(waiting.institutions[0])
    (tmp_path / "secret").write_bytes(bytes(range(32)))
    command = supernode_command(
        coordinator=f"127.0.0.1:{waiting.port}",
        ca=kit / "ca.crt",
        key=kit / "node.key",
        port=free_port(),
        secret=tmp_path / "secret",
    )
    command[:3] = [sys.executable, "-c", ANOTHER_RELEASE]
    with (tmp_path / "node.log").open("wb") as output:
        node = subprocess.run(
            command,
            stdout=output,
            stderr=output,
            env=environment(tmp_path),
            timeout=PATIENCE_S,
            check=False,
        )
    said = explain(log_tail(tmp_path / "node.log"), node.returncode)
    assert said is not None, _text(tmp_path / "node.log")
    assert "got '1.40.0'" in said
    wait_for_front(waiting, "412, refused, expected flwr")


def test_a_clock_that_is_ahead_is_explained(waiting: Deployment, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(range(32)))
    kit = waiting.kit(waiting.institutions[0])
    tls = {"ca": kit / "ca.crt", "key": kit / "node.key", "secret": tmp_path / "secret"}
    command = supernode_command(coordinator=f"127.0.0.1:{waiting.port}", port=free_port(), **tls)
    ahead = (
        "import datetime, flwr.supercore.date as d\nreal = d.now\nd.now = lambda: real() +"
        " datetime.timedelta(minutes=1)\n"
    )
    command[:3] = [
        sys.executable,
        "-c",
        f"import sys\n{ahead}from flwr.supernode.cli import flower_supernode as f\nsys.exit(f())",
    ]
    with (tmp_path / "node.log").open("wb") as output:
        node = subprocess.run(
            command,
            stdout=output,
            stderr=output,
            env=environment(tmp_path),
            timeout=PATIENCE_S,
            check=False,
        )
    said = explain(log_tail(tmp_path / "node.log"), node.returncode)
    assert said is not None, _text(tmp_path / "node.log")
    assert "clock" in said
    wait_for_front(waiting, "401, refused")


def test_the_control_api_is_not_behind_the_front(waiting: Deployment) -> None:
    kit = load_coordinator_kit(waiting.coordinator_kit)
    with httpx.Client(
        verify=ssl.create_default_context(cafile=kit.outer.ca), trust_env=False
    ) as client:
        for path in ("/v1/control/start-run", "/v1/control/list-nodes", "/v1/runtime/acquire-task"):
            assert (
                client.post(f"https://127.0.0.1:{waiting.port}{path}", content=b"").status_code
                == 404
            )
    wait_for_front(waiting, "POST '/v1/control/start-run' from 127.0.0.1")
    assert "404, not a fleet request" in fronts_log(waiting)


def test_a_kit_that_fits_finds_its_coordinator(waiting: Deployment) -> None:
    records = waiting.folder / "records" / "Cleveland.csv"
    words = [f"data.path={records}", *waiting.client_overrides]
    done = confide("doctor", str(waiting.kit("Cleveland")), "--json", *words, check=False)
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert {
        findings[check]["status"] for check in ("name", "port", "certificate", "front", "clock")
    } == {"ok"}, done.stdout
    assert done.returncode == 0


def test_a_message_that_comes_twice_is_answered_from_the_ledger(waiting: Deployment) -> None:
    name, kit = "Hungary", waiting.kit("Hungary")
    waiting.start_client(name, "--only", "trainer", f"runtime_port={free_port()}")
    socket = kit / "state" / "trainer" / "trainer.sock"
    wait_until(socket.exists, timeout_s=60, what="the trainer's socket")
    request = _train_request()
    try:
        with TrainerServiceClient(name, socket) as stub:
            first = stub.handle("train", request)
            spent = _committed(kit)
            again = stub.handle(
                "train", dataclasses.replace(request, ledger_head=first.ledger_head)
            )
    finally:
        waiting.stop(name)
    assert (first.refusal, again.refusal) == (None, None)
    assert first.arrays is not None
    assert again.arrays is not None
    assert {n: a.data for n, a in first.arrays.items()} == {
        n: a.data for n, a in again.arrays.items()
    }
    assert first.ledger_head == again.ledger_head
    assert spent == _committed(kit)
    assert spent[0] > 0


def _train_request() -> Request:
    """Write the first train request of a run, as its coordinator would."""
    from confide.models.compute import make_compute
    from confide.models.networks import trainable_tensors
    from confide.models.workload import build_workload

    config = compose([*HEART, "data.public=true", "job=replayed"])
    plan = make_plan(config, backbone_sha256=None)
    workload = build_workload(
        config.task, config.backbone, config.tuning, compute=make_compute(config.trainer), seed=0
    )
    return Request(
        plan=plan.to_json(), server_round=1, arrays=encode(trainable_tensors(workload.model))
    )


def _committed(kit: Path) -> tuple[float, int]:
    state = LedgerFile(kit / "ledger" / "everybody.ledger").state
    return state.populations["everybody"].committed, state.number


# --- plans that institutions decline


def test_plans_outside_a_policy_are_declined_and_the_others_go_on() -> None:
    with Deployment() as deployment:
        deployment.start_client("Cleveland", "policy.max_epsilon=1")
        deployment.start_client("Hungary", "policy.max_update_mb=0.00001")
        deployment.start_client("VA Long Beach")
        deployment.start_server("server.num_rounds=1", "server.min_clients=1")
        assert deployment.wait_for_server(200) == 0
        assert list(deployment.summary()["clients"]) == ["VA Long Beach"]
        log = _text(deployment.run_dir / "confide.log")
        assert "Cleveland does not take part: policy_max_epsilon: asked 3, allowed 1." in log
        assert "Hungary does not take part: policy_max_update_mb: asked" in log
        trainer = {
            name: _text(deployment.kit(name) / "state" / "logs" / "trainer.log")
            for name in deployment.institutions
        }
        assert "policy.max_epsilon: asked 3, allowed 1." in trainer["Cleveland"]
        assert "policy.max_update_mb: asked" in trainer["Hungary"]
        records = f"data.path={deployment.folder / 'records' / 'Cleveland.csv'}"
        words = [records, *deployment.client_overrides, "policy.max_epsilon=1", "--json"]
        status = confide("client", "status", str(deployment.kit("Cleveland")), *words, check=False)
        assert json.loads(status.stdout)["jobs"] == {"trial": "denied by policy.max_epsilon"}


def test_a_model_too_large_for_the_superlink_is_refused_before_anybody_is_asked() -> None:
    with Deployment() as deployment:
        deployment.start_server("server.max_payload_mb=0.00001")
        assert deployment.wait_for_server(90) == 2
        assert "server.max_payload_mb=1e-05" in told(deployment, "server")


def test_a_backbone_that_is_not_here_is_declined() -> None:
    tweets = (
        "tuning=head",
        "experiment=tweets",
        "data.num_clients=1",
        "data.max_records=60",
        "backbone.num_hidden_layers=1",
        "client.local_steps=1",
    )
    allowing = (*ALLOWING, "policy.backbones=[any]", "policy.min_records=10")
    with Deployment(
        run_overrides=tweets, institutions=("bank-1",), client_overrides=allowing
    ) as deployment:
        deployment.start_client("bank-1")
        deployment.start_server("server.num_rounds=1")
        assert deployment.wait_for_server(200) == 1
        assert "bank-1 (backbone_not_here)" in told(deployment, "server")
        trainer = _text(deployment.kit("bank-1") / "state" / "logs" / "trainer.log")
        assert (
            "backbones here: none. Bring its folder and name it in client.yaml under backbones."
            in trainer
        )
