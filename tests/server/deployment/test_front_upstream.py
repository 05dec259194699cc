"""What becomes of a request when the network or the SuperLink fails."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from front_process import (
    HOST,
    MIB,
    PULL,
    PUSH,
    UPSTREAM_TIMEOUT_S,
    Certificates,
    FakeSuperLink,
    FrontProcess,
    Handler,
    MakeProxy,
    answer_digest,
    break_off,
    make_certificates,
    running_front,
)


def hang_up(handler: Handler, _: bytes) -> None:
    handler.close_connection = True


def hang(handler: Handler, _: bytes) -> None:
    time.sleep(UPSTREAM_TIMEOUT_S + 0.5)
    handler.close_connection = True


def too_many(handler: Handler, _: bytes) -> None:
    handler.answer(429, b"slow down")


def too_large(handler: Handler, _: bytes) -> None:
    handler.answer(200, bytes(17 * MIB))


def locked(handler: Handler, _: bytes) -> None:
    handler.answer(500, b"database is locked")


def test_a_heartbeat_that_fails_is_not_the_last(
    client: httpx.Client, super_link: FakeSuperLink
) -> None:
    """A SuperNode's thread of heartbeats ends in silence at a 500.

    Other calls have an end of their own.
    """
    super_link.answer_fn = locked
    assert client.post("/v1/fleet/send-node-heartbeat", content=b"").status_code == 503
    assert client.post(PULL, content=b"").status_code == 500


@pytest.mark.parametrize("answer_fn", [break_off, hang_up, hang, too_many, too_large])
def test_failing_superlink_is_an_invitation_to_come_again(
    client: httpx.Client, super_link: FakeSuperLink, answer_fn: Callable[[Handler, bytes], None]
) -> None:
    super_link.answer_fn = answer_fn
    answer = client.post(PULL, content=b"")
    assert (answer.status_code, answer.content, answer.headers["retry-after"]) == (503, b"", "1")
    super_link.answer_fn = answer_digest
    assert client.post(PULL, content=b"").status_code == 200


def test_superlink_goes_and_comes_back(
    certificates: Certificates, super_link: FakeSuperLink, fault_proxy: MakeProxy, tmp_path: Path
) -> None:
    network = fault_proxy(super_link.server_port)
    with running_front(certificates, tmp_path, network.port) as front, front.client() as client:
        assert client.post(PULL, content=b"").status_code == 200
        network.cut(math.inf)
        assert [client.post(PULL, content=b"").status_code for _ in range(3)] == [503] * 3
        network.fix()
        assert client.post(PULL, content=b"").status_code == 200
        network.stall(math.inf)
        assert client.post(PULL, content=b"").status_code == 503
        network.fix()
        assert client.post(PULL, content=b"").status_code == 200
        network.half_open()
        assert client.post(PULL, content=b"").status_code == 503
        network.cut_after(MIB)
        assert client.post(PUSH, content=bytes(5 * MIB)).status_code == 503
        assert client.post(PUSH, content=bytes(5 * MIB)).status_code == 200


def test_stranger_in_place_of_the_superlink_is_not_trusted(
    certificates: Certificates, super_link: FakeSuperLink, tmp_path: Path
) -> None:
    other = make_certificates(tmp_path / "other")
    mixed = Certificates(other.ca, certificates.certificate, certificates.key)
    with running_front(mixed, tmp_path, super_link.server_port) as front:
        front.certificates = certificates
        with front.client() as client:
            assert client.post(PULL, content=b"secret").status_code == 503
    assert super_link.seen == []


# The network between an institution and the front fails


def test_cut_during_an_upload_leaves_nothing_behind(
    front: FrontProcess, super_link: FakeSuperLink, fault_proxy: MakeProxy
) -> None:
    network = fault_proxy(front.port)
    with front.client() as client:
        url = f"https://{HOST}:{network.port}{PUSH}"
        network.cut_after(MIB)
        with pytest.raises(httpx.TransportError):
            client.post(url, content=bytes(5 * MIB))
        assert super_link.seen == []
        assert client.post(url, content=bytes(5 * MIB)).status_code == 200


def test_slow_network_is_slow_and_nothing_else(
    front: FrontProcess, super_link: FakeSuperLink, fault_proxy: MakeProxy
) -> None:
    network = fault_proxy(front.port)
    network.latency_s = 0.1
    with front.client() as client:
        assert (
            client.post(f"https://{HOST}:{network.port}{PUSH}", content=bytes(MIB)).status_code
            == 200
        )
