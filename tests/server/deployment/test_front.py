"""What passes the front, and what does not."""

import concurrent.futures
import contextlib
import hashlib
import inspect
import json
import re
import socket
import ssl
from importlib.metadata import version

import httpx
import pytest
from front_process import (
    HOST,
    MIB,
    PATIENCE_S,
    PULL,
    PUSH,
    FakeSuperLink,
    FrontProcess,
    say,
    status_of,
)

from confide.server.deployment.fleet_proxy import PATHS, REQUEST_HEADERS

# --- what passes


def test_paths_are_those_of_flowers_client() -> None:
    from flwr.supernode import fleet_http_client

    assert sorted(PATHS) == sorted(
        re.findall(r'path="([^"]+)"', inspect.getsource(fleet_http_client))
    )


def test_headers_are_those_of_flowers_interceptors() -> None:
    from flwr.common.constant import TIMESTAMP_HEADER
    from flwr.supercore import constant

    signed = {
        TIMESTAMP_HEADER,
        constant.FLEET_HTTP_PUBLIC_KEY_HEADER,
        constant.FLEET_HTTP_SIGNATURE_HEADER,
    }
    versions = {
        getattr(constant, f"FLWR_{name}_METADATA_KEY")
        for name in ("PACKAGE_NAME", "PACKAGE_VERSION", "COMPONENT_NAME")
    }
    assert {name.decode() for name in REQUEST_HEADERS} == signed | versions | {
        "accept",
        "content-type",
    }


@pytest.mark.parametrize("path", sorted(PATHS))
def test_fleet_requests_pass(client: httpx.Client, super_link: FakeSuperLink, path: str) -> None:
    answer = client.post(path, content=b"question")
    assert (answer.status_code, answer.content) == (200, hashlib.sha256(b"question").digest())
    assert [seen for seen, _ in super_link.seen] == [path]


def test_only_headers_that_flower_uses_pass(
    client: httpx.Client, super_link: FakeSuperLink
) -> None:
    super_link.answer_fn = lambda handler, _: handler.answer(
        200,
        b"yes",
        [
            ("Content-Type", "application/protobuf"),
            ("Set-Cookie", "a=b"),
            ("X-Made-By", "upstream"),
        ],
    )
    flower = {name.decode(): "value" for name in REQUEST_HEADERS} | {
        "flwr-package-version": version("flwr")
    }
    others = {
        "authorization": "x",
        "cookie": "x",
        "forwarded": "for=x",
        "te": "trailers",
        "x-flwr-client": "x",
    }
    answer = client.post(PULL, content=b"question", headers=flower | others)
    client.post(PULL, content=b"")
    (_, first), (_, second) = super_link.seen
    assert sorted(first) == sorted(
        [*flower.items(), ("host", f"{HOST}:{super_link.server_port}"), ("content-length", "8")]
    )
    assert {name for name, _ in second} == {"accept", "host", "content-length"}
    assert {**answer.headers, "date": ""} == {
        "date": "",
        "content-type": "application/protobuf",
        "content-length": "3",
    }


@pytest.mark.parametrize("status", [400, 401, 403, 404, 412, 415, 500, 502, 503])
def test_answers_of_the_superlink_pass_unchanged(
    client: httpx.Client, super_link: FakeSuperLink, status: int
) -> None:
    body = json.dumps({"detail": "Invalid SuperNode authentication"}).encode()
    super_link.answer_fn = lambda handler, _: handler.answer(
        status, body, [("Content-Type", "application/json")]
    )
    answer = client.post(PULL, content=b"")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (
        status,
        body,
        "application/json",
    )


def test_body_of_unknown_length_passes(client: httpx.Client, super_link: FakeSuperLink) -> None:
    answer = client.post(PUSH, content=iter([b"one", b"two"]))
    assert answer.content == hashlib.sha256(b"onetwo").digest()
    assert ("content-length", "6") in super_link.seen[0][1]


def test_twenty_large_objects_pass_at_once(front: FrontProcess, super_link: FakeSuperLink) -> None:
    objects = [bytes([number]) * (5 * MIB) for number in range(20)]
    with front.client() as client, concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda content: client.post(PUSH, content=content), objects))
    assert [answer.content for answer in answers] == [
        hashlib.sha256(content).digest() for content in objects
    ]


def test_large_answer_passes(client: httpx.Client, super_link: FakeSuperLink) -> None:
    super_link.answer_fn = lambda handler, _: handler.answer(200, bytes(5 * MIB))
    assert client.post(PULL, content=b"").content == bytes(5 * MIB)


# --- what does not


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "*",
        "/v1/control/list-nodes",
        "/v1/runtime/pull-messages",
        "/v1/fleet/",
        "/v1/fleet/pull-messages/",
        "/v1/fleet/pull-messages?a=b",
        "/v1/fleet/pull-messages;a=b",
        "/v1/fleet/pull-messages%00",
        "/v1/fleet/pull-messages#a",
        "/v1/fleet/%70ull-messages",
        "/v1%2Ffleet%2Fpull-messages",
        "/V1/fleet/pull-messages",
        "/v1/fleet/Pull-Messages",
        "//v1/fleet/pull-messages",
        "/v1//fleet/pull-messages",
        "/v1/./fleet/pull-messages",
        "/v1/fleet/../control/list-nodes",
        "/v1/fleet/pull-messages/../../control/list-nodes",
        "/v1/fleet/%2e%2e/control/list-nodes",
        "/v1/fleet/..%2fcontrol/list-nodes",
        "/v1/fleet\\..\\control\\list-nodes",
        "https://127.0.0.1/v1/fleet/pull-messages",
        "https://127.0.0.1:8100/v1/control/list-nodes",
        "v1/fleet/pull-messages",
    ],
)
def test_other_targets_are_not_found(
    front: FrontProcess, super_link: FakeSuperLink, target: str
) -> None:
    answer = say(front, f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
    without_date = re.sub(rb"date: [^\r]*\r\n", b"", answer)
    assert (
        without_date == b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    )
    assert super_link.seen == []


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "post", "PURGE"]
)
def test_other_methods_are_not_found(
    front: FrontProcess, super_link: FakeSuperLink, method: str
) -> None:
    answer = say(front, f"{method} {PULL} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert super_link.seen == []


def test_tunnels_and_websockets_are_not_found(
    front: FrontProcess, super_link: FakeSuperLink
) -> None:
    upgrade = (
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key:"
        b" AAAA\r\nSec-WebSocket-Version: 13\r\n"
    )
    assert (
        status_of(
            say(front, b"GET " + PULL.encode() + b" HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
        )
        == 404
    )
    assert status_of(say(front, b"CONNECT 127.0.0.1:8100 HTTP/1.1\r\nHost: x\r\n\r\n")) == 404
    assert status_of(say(front, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")) == 404
    assert super_link.seen == []


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01 nonsense\r\n\r\n",
        b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        (
            b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\nContent-Length:"
            b" 1\r\nContent-Length: 2\r\n\r\n"
        ),
        b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(
    front: FrontProcess, super_link: FakeSuperLink, request_: bytes
) -> None:
    with contextlib.suppress(
        ssl.SSLError, ConnectionError
    ):  # it may hang up while a long head is still being sent
        assert status_of(say(front, request_)) == 400
    assert super_link.seen == []


def test_second_request_in_a_body_stays_a_body(
    front: FrontProcess, super_link: FakeSuperLink
) -> None:
    inner = b"0\r\n\r\nPOST /v1/control/list-nodes HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    both = f"Transfer-Encoding: chunked\r\nContent-Length: {len(inner)}\r\n\r\n".encode()
    say(front, f"POST {PULL} HTTP/1.1\r\nHost: x\r\n".encode() + both + inner)
    assert [path for path, _ in super_link.seen] in ([], [PULL])


def test_plain_http_and_old_tls_are_refused(front: FrontProcess) -> None:
    with socket.create_connection((HOST, front.port), timeout=PATIENCE_S) as plain:
        plain.sendall(b"POST / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert not plain.recv(1024).startswith(b"HTTP")
    old = front.certificates.client()
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    plain = socket.create_connection((HOST, front.port), timeout=PATIENCE_S)
    with plain, pytest.raises((ssl.SSLError, ConnectionResetError)):
        old.wrap_socket(plain, server_hostname=HOST)
