"""``confide serve`` as an operator runs it: a process, its sockets, its end."""

import asyncio
import contextlib
import datetime
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx
import numpy
import pytest
import tritonclient.http as triton
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from served_models import Process, connected, exchange, serving
from small_models import save_table_run
from tritonclient.utils import InferenceServerException

from confide.cli import main
from confide.inference.prediction import predict
from confide.security.certificates import (
    certificate_pem,
    issue_server_certificate,
    make_authority,
)

AGES, PAINS = [30.0, float("nan"), 61.5], ["some", "none", "some"]
ONE = {
    "inputs": [
        {"name": "age", "datatype": "FP64", "shape": [1], "data": [30.0]},
        {"name": "pain", "datatype": "BYTES", "shape": [1], "data": ["some"]},
    ]
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_table_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def one(run: Path) -> Iterator[Process]:
    limits = ["--read-timeout", "0.5", "--max-connections", "20", "--max-body", "0.1"]
    with serving(run, *limits) as process:
        yield process


# --- a client of somebody else's making


def inputs(*, binary: bool) -> list[triton.InferInput]:
    age = triton.InferInput("age", [3], "FP64")
    pain = triton.InferInput("pain", [3, 1], "BYTES")
    # Missing values have no form in the JSON that this client writes
    ages = numpy.array(AGES if binary else [30.0, 1.0, 61.5])
    age.set_data_from_numpy(ages, binary_data=binary)
    words = numpy.array([[word.encode()] for word in PAINS], dtype=object)
    pain.set_data_from_numpy(words, binary_data=binary)
    return [age, pain]


def test_tritons_client_finds_the_model(one: Process) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{one.port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(one.name)
    assert client.is_model_ready(one.name, one.version)
    assert not client.is_model_ready(one.name, "1")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    told = client.get_model_metadata(one.name, one.version)
    assert [(it["name"], it["datatype"]) for it in told["inputs"]] == [
        ("age", "FP64"),
        ("pain", "BYTES"),
    ]


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_gets_what_predict_gives(one: Process, run: Path, binary: bool) -> None:
    import pandas

    client = triton.InferenceServerClient(f"127.0.0.1:{one.port}")
    ages = AGES if binary else [30.0, 1.0, 61.5]
    expected = predict(run, pandas.DataFrame({"age": ages, "pain": PAINS}))
    wanted = [
        triton.InferRequestedOutput(name, binary_data=binary)
        for name in ("prediction", "probability_ill")
    ]
    answer = client.infer(one.name, inputs(binary=binary), outputs=wanted, request_id="7")
    words = [it.decode() if isinstance(it, bytes) else it for it in answer.as_numpy("prediction")]
    assert words == expected["prediction"].tolist()
    found = answer.as_numpy("probability_ill")
    assert numpy.allclose(found, expected["probability_ill"], atol=1e-6)
    assert answer.get_response()["id"] == "7"
    assert answer.get_response()["model_version"] == one.version


def test_tritons_client_gets_reasons(one: Process) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{one.port}")
    with pytest.raises(InferenceServerException, match="expected age, pain, got age alone") as why:
        client.infer(one.name, inputs(binary=True)[:1])
    assert why.value.status() == "400"


# --- connections


def sent(port: int, data: bytes, *, wait_s: float = 5.0) -> bytes:
    """Send bytes, and return what comes until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait_s) as connection:
        connection.sendall(data)
        parts = []
        while part := connection.recv(2**16):
            parts.append(part)
    return b"".join(parts)


def test_headers_that_do_not_come_end_the_connection(one: Process) -> None:
    for data in (b"", b"GET /v2 HT", b"GET /v2 HTTP/1.1\r\nhost: localhost\r\nx: "):
        began = time.monotonic()
        answer = sent(one.port, data)
        assert answer.startswith(b"HTTP/1.1 408 "), answer
        assert b"did not come within 0.5 s" in answer
        assert time.monotonic() - began < 4


def test_a_body_that_does_not_come_ends_the_connection(one: Process) -> None:
    head = (
        f"POST /v2/models/{one.name}/infer HTTP/1.1\r\nhost: localhost\r\n"
        "content-type: application/json\r\ncontent-length: 100\r\n\r\n{"
    )
    answer = sent(one.port, head.encode())
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body did not come within 0.5 s" in answer


def test_a_body_that_nobody_reads_holds_no_connection(one: Process) -> None:
    head = b"POST /nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", one.port)) as connection:
        connection.sendall(head)
        assert connection.recv(4096).startswith(b"HTTP/1.1 404 ")
        assert is_ended(connection, [b"x"] * 40, wait_s=0.1)  # whatever goes on to come


def is_ended(connection: socket.socket, parts: Iterable[bytes], *, wait_s: float = 0.0) -> bool:
    """Send parts, and tell whether the other side ends the connection meanwhile."""
    try:
        for part in parts:
            connection.sendall(part)
            time.sleep(wait_s)
    except OSError:
        return True
    return False


def chunked(rest: bytes) -> bytes:
    """Return a request whose body of one chunk is followed by what is given."""
    return (
        b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[]\r\n" + rest
    )


def test_fields_after_a_body_are_no_headers(one: Process) -> None:
    answer = sent(one.port, chunked(b"0\r\norigin: https://elsewhere\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 400 "), answer  # of the body, and not 403
    assert b"list of JSON objects" in answer


@pytest.mark.parametrize("rest", [b"0\r\nx: ", b"1;x="], ids=["trailers", "extensions"])
def test_what_surrounds_a_body_has_an_end_too(one: Process, rest: bytes) -> None:
    with socket.create_connection(("127.0.0.1", one.port)) as connection:
        assert is_ended(connection, [chunked(rest), *[b"y" * 2**16] * 400])


def test_headers_without_an_end_are_refused(one: Process) -> None:
    answer = sent(one.port, b"GET /v2 HTTP/1.1\r\n" + b"x: " + b"y" * 70_000)
    assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"GET /v2 HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET /v2 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: a\r\ntransfer-encoding: x\r\ncontent-length: 1\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_a_4xx_and_the_next_an_answer(one: Process, data: bytes) -> None:
    assert re.match(rb"HTTP/1.1 4\d\d ", sent(one.port, data))
    assert httpx.get(f"{one.url}/v2").status_code == 200


def test_a_body_in_parts_counts_too(one: Process) -> None:
    parts = (b" " * 10_000 for _ in range(30))
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{one.url}/predict", content=parts, headers=headers)
    assert answer.status_code == 413


def test_connections_beyond_the_limit_are_refused(one: Process) -> None:
    held = [socket.create_connection(("127.0.0.1", one.port)) for _ in range(20)]
    try:
        time.sleep(0.1)
        assert sent(one.port, b"").startswith(b"HTTP/1.1 503 ")
    finally:
        for connection in held:
            connection.close()
    time.sleep(0.2)
    assert httpx.get(f"{one.url}/v2").status_code == 200


# --- where it listens


def test_a_unix_socket_is_this_users_alone(run: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    place = tmp_path / "s"
    with serving(run, "--name", "heart", listen=f"unix:{place}") as process:
        assert process.name == "heart"
        assert place.stat().st_mode & 0o777 == 0o600
        transport = httpx.HTTPTransport(uds=str(place))
        with httpx.Client(transport=transport) as client:
            answer = client.post("http://any/v2/models/heart/infer", json=ONE)
        assert answer.status_code == 200
        process.process.send_signal(signal.SIGINT)
        assert process.process.wait(20) == 0
    assert not place.exists()


@pytest.fixture
def certified(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return an authority's certificate, and a certificate and key of this machine."""
    keys = [ec.generate_private_key(ec.SECP384R1()) for _ in range(2)]
    now = datetime.datetime.now(datetime.UTC)
    authority = make_authority("heart", keys[0], now=now)
    own = issue_server_certificate(
        keys[1].public_key(), ["127.0.0.1"], authority=(authority, keys[0]), days=2, now=now
    )
    files = tmp_path / "ca.crt", tmp_path / "server.crt", tmp_path / "server.key"
    files[0].write_text(certificate_pem(authority))
    files[1].write_text(certificate_pem(own))
    files[2].write_bytes(
        keys[1].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (tmp_path / "federation.json").write_text("{}")
    return files


def token_file(folder: Path) -> Path:
    file = folder / "token"
    file.write_text("0123456789abcdef0123")
    file.chmod(0o600)
    return file


@pytest.mark.parametrize("by", ["kit", "files"])
def test_beyond_loopback_it_takes_a_token_over_tls(
    run: Path, tmp_path: Path, certified: tuple[Path, Path, Path], by: str
) -> None:
    authority, certificate, key = certified
    options = ["--kit", str(tmp_path)]
    if by == "files":
        options = ["--certificate", str(certificate), "--key", str(key)]
    options += ["--token-file", str(token_file(tmp_path))]
    trust = ssl.create_default_context(cafile=authority)
    with serving(run, *options, listen="0.0.0.0:0") as process:
        url = f"https://127.0.0.1:{process.port}/v2"
        with httpx.Client(verify=trust) as client:
            assert client.get(url).status_code == 401
            headers = {"authorization": "Bearer 0123456789abcdef0123"}
            assert client.get(url, headers=headers).status_code == 200
        assert process.url.startswith("https://0.0.0.0:")
        assert sent(process.port, b"GET /v2 HTTP/1.1\r\nhost: localhost\r\n\r\n") == b""


def test_past_conversations_are_not_shown_to_whoever_asks(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(run), "--past", "answered.csv", "--certificate", "c.pem"]) == 2
    err = capsys.readouterr().err
    assert "--past answered.csv: whoever asks over HTTP would be told" in err
    assert "--certificate and --key: expected both" in err  # all mistakes at once


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--listen", "0.0.0.0:0"], "add --token-file FILE and --certificate FILE --key FILE"),
        (["--listen", "[::]:0"], "takes a token and TLS"),
        (["--listen", "example.org:0"], "takes a token and TLS"),
        (["--listen", "9110"], "Expected --listen='9110' as"),
        (["--certificate", "a.pem"], "--certificate and --key: expected both"),
        (["--certificate", "a.pem", "--key", "b.pem"], "certificate=a.pem, key=b.pem cannot be"),
        (["--token-file", "none"], "--token-file none cannot be read"),
        (["--kit", "."], "holds neither of client.yaml and federation.json"),
        (["--name", "a b"], "--name a b: expected 1 to 100 of letters"),
        (["--temperature", "-1"], "temperature"),
    ],
)
def test_a_wrong_command_is_told_before_it_listens(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["serve", str(run), *options]) == 2
    assert reason in capsys.readouterr().err


def test_all_mistakes_are_told_at_once_and_torch_is_not_loaded_for_them() -> None:
    words = ["serve", "RUN", "--listen", "0.0.0.0:1", "--name", "a b", "--key", "k"]
    code = f"import sys; from confide.cli import main; print(main({words}), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["2", "False"]
    assert "3 mistakes" in done.stderr


def test_an_institutions_kit_has_no_certificate_of_a_server(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "client.yaml").write_text("")
    assert main(["serve", str(run), "--kit", str(tmp_path)]) == 2
    assert "name the coordinator's kit" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--max-body", "--max-batch", "--timeout", "--rows"])
def test_a_limit_of_nothing_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert main(["serve", str(run), option, "0"]) == 2
    assert "of at least" in capsys.readouterr().err


def test_an_address_in_use_is_told(run: Path, one: Process) -> None:
    command = [sys.executable, "-m", "confide.cli", "serve", str(run)]
    again = subprocess.run(
        [*command, "--listen", f"127.0.0.1:{one.port}"], capture_output=True, text=True
    )
    assert again.returncode == 2
    assert "cannot be used: Address already in use" in again.stderr


# --- its end


def test_what_was_taken_is_answered_before_it_ends(run: Path) -> None:
    async def talk(process: Process) -> tuple[list[int], int]:
        body, path = json.dumps(ONE).encode(), f"/v2/models/{process.name}/infer"
        async with contextlib.AsyncExitStack() as stack:
            held = [await stack.enter_async_context(connected(process.port)) for _ in range(8)]
            asks = [asyncio.create_task(exchange(it, path, body)) for it in held]
            await asyncio.sleep(0.1)  # a batch waits for more, as it was told to
            process.process.send_signal(signal.SIGTERM)
            statuses = [status for status, _ in await asyncio.gather(*asks)]
        return statuses, await asyncio.to_thread(process.process.wait, 20)

    with serving(run, "--max-delay-ms", "600") as process:
        assert asyncio.run(talk(process)) == ([200] * 8, 0)
        assert "Answered 8 requests; 0 were not answered." in process.log


def test_who_asks_while_it_stops_is_told_so(run: Path) -> None:
    async def talk(process: Process) -> tuple[int, int]:
        body, path = json.dumps(ONE).encode(), f"/v2/models/{process.name}/infer"
        async with connected(process.port) as first:
            taken = asyncio.create_task(exchange(first, path, body))
            await asyncio.sleep(0.1)
            process.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
            async with connected(process.port) as late:
                status, _ = await exchange(late, path, body)
                assert await late[0].read() == b""  # and the connection ends
            return status, (await taken)[0]

    with serving(run, "--max-delay-ms", "2000") as process:
        assert asyncio.run(talk(process)) == (503, 200)


def test_a_second_signal_ends_it_at_once(run: Path) -> None:
    with serving(run, "--max-delay-ms", "60000", "--stop-timeout", "60") as process:
        connection = socket.create_connection(("127.0.0.1", process.port))
        body = json.dumps(ONE).encode()
        head = (
            f"POST /v2/models/{process.name}/infer HTTP/1.1\r\nhost: localhost\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        time.sleep(0.3)
        process.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.process.poll() is None
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(10) == 130
        connection.close()


def test_what_is_not_answered_in_time_fails_the_command(run: Path) -> None:
    with serving(run, "--max-delay-ms", "60000", "--stop-timeout", "0.2") as process:
        connection = socket.create_connection(("127.0.0.1", process.port))
        body = json.dumps(ONE).encode()
        head = (
            f"POST /v2/models/{process.name}/infer HTTP/1.1\r\nhost: localhost\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        time.sleep(0.3)
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(20) == 1
        assert "1 were not answered" in process.log
        connection.close()


def test_nothing_that_was_sent_is_in_the_log(run: Path, one: Process) -> None:
    wrong = [{"age": "a secret", "pain": "a secret"}]
    assert "not numbers" in httpx.post(f"{one.url}/predict", json=wrong).json()["error"]
    assert "secret" not in one.log
