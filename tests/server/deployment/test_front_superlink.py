"""A front before a real SuperLink, and who was refused by it."""

import base64
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from front_process import (
    HOST,
    PATIENCE_S,
    PULL,
    Certificates,
    FakeSuperLink,
    FrontProcess,
    is_refused,
    running_front,
)

from confide.security import ec_keys

# A real SuperLink


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def real_super_link(certificates: Certificates, tmp_path: Path) -> Iterator[int]:
    port = free_port()
    program = Path(sys.executable).with_name("flower-superlink")
    files = {
        "--ssl-ca-certfile": certificates.ca,
        "--ssl-certfile": certificates.certificate,
        "--ssl-keyfile": certificates.key,
    }
    options = [
        "--isolation",
        "process",
        "--enable-supernode-auth",
        "--database",
        tmp_path / "state.db",
        "--host",
        HOST,
    ]
    command = [
        program,
        *(word for pair in files.items() for word in pair),
        *options,
        "--port",
        port,
    ]
    environment = os.environ | {
        "FLWR_HOME": str(tmp_path / "flwr"),
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "FLWR_TELEMETRY_ENABLED": "0",
    }
    log = tmp_path / "superlink.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(map(str, command)), stdout=output, stderr=output, env=environment, cwd=tmp_path
        )
    try:
        deadline = time.monotonic() + 60
        while is_refused(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE_S)


def test_real_superlink_is_reachable_for_supernodes_only(
    real_super_link: int, certificates: Certificates, tmp_path: Path
) -> None:
    from flwr.proto.control_pb2 import ListNodesRequest
    from flwr.proto.fleet_pb2 import PullMessagesRequest
    from flwr.supercore.control.control_http_client import ControlHttpClient
    from flwr.supernode.fleet_http_client import FleetHttpClient

    def control(port: int) -> ControlHttpClient:
        return ControlHttpClient.from_server_address(
            f"{HOST}:{port}", False, certificates.ca.read_bytes(), []
        )

    with running_front(
        certificates, tmp_path, real_super_link, "--upstream-timeout-s", "20"
    ) as front:
        with control(real_super_link) as direct:
            assert list(direct.ListNodes(ListNodesRequest()).nodes_info) == []
        with control(front.port) as outside, pytest.raises(httpx.HTTPStatusError) as refused:
            outside.ListNodes(ListNodesRequest())
        assert (refused.value.response.status_code, refused.value.response.content) == (404, b"")
        nodes = FleetHttpClient.from_server_address(
            f"{HOST}:{front.port}", False, certificates.ca.read_bytes(), []
        )
        with nodes, pytest.raises(httpx.HTTPStatusError) as denied:
            nodes.PullMessages(PullMessagesRequest())
        assert denied.value.response.status_code == 401
        assert "Invalid SuperNode authentication" in denied.value.response.text


# --- who was refused is told of


def test_a_node_of_another_release_is_refused_in_flowers_own_words(
    front: FrontProcess, client: httpx.Client, super_link: FakeSuperLink
) -> None:
    from flwr.supercore.runtime_version_compatibility import (
        get_runtime_version_incompatibility_exit_message,
    )

    answer = client.post(PULL, content=b"", headers={"flwr-package-version": "1.40.0"})
    told = get_runtime_version_incompatibility_exit_message(answer.text)
    assert (answer.status_code, answer.headers["content-type"], super_link.seen) == (
        412,
        "application/json",
        [],
    )
    assert told is not None
    assert "expected flwr" in told
    assert "412, refused, expected flwr" in front.log.read_text()


def test_a_refused_key_is_told_of_by_its_fingerprint(
    front: FrontProcess, client: httpx.Client, super_link: FakeSuperLink
) -> None:
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes

    key = ec_keys.make_key().public_key()
    super_link.answer_fn = lambda handler, _: handler.answer(401, b"no")
    for shown in (base64.b64encode(public_key_to_bytes(key)).decode(), "x" * 2000):
        client.post(PULL, content=b"", headers={"flwr-public-key": shown})
    log = front.log.read_text()
    assert "401, refused, its key is not registered, its signature is wrong" in log
    assert log.rstrip().splitlines()[-2].endswith(ec_keys.key_fingerprint(key))
    assert log.rstrip().endswith("no key")


def test_a_client_that_trusts_another_authority_is_told_of_with_its_address(
    front: FrontProcess,
) -> None:
    strangers = ssl.create_default_context()
    with socket.create_connection((HOST, front.port)) as connection:
        peer = connection.getsockname()
        with pytest.raises(ssl.SSLCertVerificationError):
            strangers.wrap_socket(connection, server_hostname=HOST)
    deadline = time.monotonic() + PATIENCE_S
    while (
        f"TLS with {HOST}:{peer[1]} fails: it knows another authority" not in front.log.read_text()
    ):
        assert time.monotonic() < deadline, front.log.read_text()
        time.sleep(0.05)
