"""Bounds of the front: bodies, stalls and connections."""

import asyncio
import contextlib
import time
from typing import Any

import httpx
import pytest
from front_process import (
    HOST,
    MAX_CONNECTIONS,
    MIB,
    PATIENCE_S,
    PULL,
    PUSH,
    SCOPE,
    STALL_S,
    Certificates,
    FakeSuperLink,
    FrontProcess,
    eventually,
    is_closed,
    say,
    served,
    status_of,
)

from confide.server.deployment.fleet_proxy import Upstream, create_app
from confide.server.deployment.listener import Limits


def test_declared_length_above_the_limit_is_refused_before_the_body(
    front: FrontProcess, super_link: FakeSuperLink
) -> None:
    head = (
        f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length:"
        f" {16 * MIB + 1}\r\n\r\n"
    )
    assert status_of(say(front, head.encode())) == 413
    assert super_link.seen == []


def test_large_body_is_refused_and_its_sender_learns_it(
    client: httpx.Client, super_link: FakeSuperLink
) -> None:
    assert client.post(PUSH, content=bytes(16 * MIB)).status_code == 200
    assert client.post(PUSH, content=iter([bytes(MIB)] * 17)).status_code == 413
    assert client.post(PUSH, content=bytes(18 * MIB)).status_code == 413
    assert len(super_link.seen) == 1


def test_bodies_together_are_bounded_too(
    certificates: Certificates, super_link: FakeSuperLink
) -> None:
    upstream = Upstream(address=f"{HOST}:{super_link.server_port}", ca=certificates.ca)
    app = create_app(upstream, Limits(max_body=1000))

    async def answer(
        *events: dict[str, Any], then: asyncio.Event | None = None, kind: str = "http"
    ) -> int:
        """Serve a request whose body comes in these events.

        After the last it is silent until ``then``.
        """
        coming, sent = list(events), []

        async def receive() -> dict[str, Any]:
            if not coming and then is not None:
                await then.wait()
            return coming.pop(0) if coming else {"type": "http.disconnect"}

        async def send(event: dict[str, Any]) -> None:
            sent.append(event)

        await app({**SCOPE, "type": kind, "raw_path": PUSH.encode()}, receive, send)
        return sent[0].get("status", 0) if sent else 0

    async def scenario() -> list[int]:
        gone = asyncio.Event()
        part = {"type": "http.request", "body": bytes(1000), "more_body": True}
        held = [asyncio.ensure_future(answer(part, then=gone)) for _ in range(16)]
        await asyncio.sleep(0.01)
        small = {"type": "http.request", "body": b"x"}
        full = await answer(small)
        gone.set()
        statuses = [full, *await asyncio.gather(*held), await answer(small)]
        await answer({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}, kind="lifespan")
        return statuses

    assert asyncio.run(scenario()) == [503, *[0] * 16, 200]


def test_stalled_body_is_cut_and_its_sender_may_come_again(
    front: FrontProcess, super_link: FakeSuperLink
) -> None:
    start = time.monotonic()
    answer = say(
        front, f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc".encode()
    )
    assert (status_of(answer), b"connection: close" in answer) == (503, True)
    assert STALL_S / 2 < time.monotonic() - start < STALL_S + 2
    assert super_link.seen == []


def test_trickling_body_is_cut(front: FrontProcess, super_link: FakeSuperLink) -> None:
    start = time.monotonic()
    with front.raw() as connection:
        connection.sendall(
            f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n".encode()
        )
        connection.settimeout(STALL_S / 5)
        answer = b""
        while not answer and time.monotonic() - start < PATIENCE_S:
            connection.sendall(b"a")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(1024)
    assert status_of(answer) == 503
    assert time.monotonic() - start < STALL_S + 2
    assert super_link.seen == []


@pytest.mark.parametrize("head", [b"", b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHos"])
def test_stalled_head_is_cut(front: FrontProcess, head: bytes) -> None:
    start = time.monotonic()
    assert say(front, head) == b""
    assert STALL_S / 2 < time.monotonic() - start < STALL_S + 2


def test_trickling_head_is_cut_after_a_first_request_too(
    front: FrontProcess, super_link: FakeSuperLink
) -> None:
    head = f"POST {PULL} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n".encode()
    start = time.monotonic()
    with front.raw() as connection, contextlib.suppress(OSError):
        connection.sendall(head + b"\r\n" + head + b"X: ")
        while time.monotonic() - start < PATIENCE_S:
            connection.sendall(b"x")
            time.sleep(STALL_S / 5)
    assert time.monotonic() - start < STALL_S + 2
    assert len(super_link.seen) == 1


def test_client_that_does_not_read_is_cut(front: FrontProcess, super_link: FakeSuperLink) -> None:
    super_link.answer_fn = lambda handler, _: handler.answer(200, bytes(16 * MIB))
    with front.raw() as connection:
        connection.sendall(f"POST {PULL} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        eventually(lambda: "without completing response" in front.log.read_text(), front.log)


def test_connections_above_the_limit_are_closed_and_those_that_stand_are_served(
    front: FrontProcess, super_link: FakeSuperLink
) -> None:
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(front.client())
        assert client.post(PULL, content=b"").status_code == 200
        idle = [stack.enter_context(front.raw()) for _ in range(MAX_CONNECTIONS + 5)]
        time.sleep(0.1)
        assert client.post(PULL, content=b"").status_code == 200
        for connection in idle:
            connection.settimeout(0.02)
        assert sum(is_closed(connection) for connection in idle) >= 5
    with front.client() as client:
        eventually(lambda: served(client))
