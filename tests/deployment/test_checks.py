"""What a doctor finds out on either side: each finding provoked once."""

import contextlib
import datetime
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

from confide.cli import main
from confide.deployment.checks import (
    Finding,
    disk,
    gather,
    memory,
    ok,
    private_file,
    private_folder,
    releases,
    show,
    validity,
)
from confide.deployment.reachability import check_clock, check_reachable
from confide.errors import ConfigError
from confide.security import certificates, ec_keys

NOW = datetime.datetime.now(datetime.UTC)
HOST = "127.0.0.1"


def statuses(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.status for finding in findings}


def test_show_prints_fingerprints_as_they_are_and_counts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    findings = [ok("ca.crt", "12:AB:[bold]:34"), Finding("disk", "warning", "little", "free some.")]
    assert show(findings, as_json=False) == 0
    printed = capsys.readouterr().out
    assert "12:AB:[bold]:34" in printed
    assert "0 errors, 1 warning." in printed
    assert show([*findings, Finding("port", "error", "taken", "x")], as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["ready"] is False


def test_errors_of_ours_are_findings_and_keep_what_was_found() -> None:
    def fails() -> Iterator[Finding]:
        yield ok("first", "fine")
        raise ConfigError(["one", "two"])

    found = [(f.check, f.status, f.message) for f in gather(("second", fails))]
    assert found == [
        ("first", "ok", "fine"),
        ("second", "error", "one"),
        ("second", "error", "two"),
    ]


def test_releases_and_room(tmp_path: Path) -> None:
    assert "flwr" in next(releases()).message
    assert next(disk(tmp_path / "not" / "there")).check == "disk"
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 1000 kB\n")
    assert next(memory(tmp_path / "meminfo")).status == "warning"
    assert list(memory(tmp_path / "gone")) == []


def test_secrets_that_others_may_read_are_found(tmp_path: Path) -> None:
    secret, folder = tmp_path / "node.key", tmp_path / "state"
    secret.write_text("x")
    secret.chmod(0o640)
    folder.mkdir(mode=0o755)
    assert [f.fix for f in private_file("node.key", secret)] == [f"chmod 600 {secret}"]
    assert [f.status for f in private_folder("folders", folder)] == ["warning"]
    secret.chmod(0o600)
    folder.chmod(0o700)
    assert list(private_file("node.key", secret)) == []
    assert [f.status for f in private_folder("folders", folder)] == ["ok"]


@pytest.mark.parametrize(("days", "status"), [(-1, "error"), (10, "warning"), (100, "ok")])
def test_validity_warns_in_time(days: int, status: str) -> None:
    certificate = certificates.make_authority(
        "a",
        ec_keys.make_key(),
        now=NOW - datetime.timedelta(days=certificates.AUTHORITY_DAYS - days),
    )
    assert validity("ca.crt", certificate, "renew.", now=NOW).status == status


def test_a_certificate_of_the_future_means_a_wrong_clock() -> None:
    certificate = certificates.make_authority(
        "a", ec_keys.make_key(), now=NOW + datetime.timedelta(days=1)
    )
    assert "clock" in validity("ca.crt", certificate, "renew.", now=NOW).fix


@pytest.mark.parametrize(
    ("ahead_s", "status"),
    [(0, "ok"), (-1, "ok"), (3, "warning"), (60, "error"), (-60, "warning"), (-900, "error")],
)
def test_clocks_are_compared(ahead_s: float, status: str) -> None:
    assert check_clock(formatdate(1_000_000, usegmt=True), 1_000_000.5 + ahead_s).status == status


@pytest.mark.parametrize(
    "date",
    [
        *(None, "", "soon", "9" * 5000),
        "Mon, 1 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 1 Jan 2026 00:00:00 +99999999999999",
    ],
)
def test_without_a_date_clocks_cannot_be_compared(date: str | None) -> None:
    assert "cannot be compared" in check_clock(date, 0.0).message


# --- a coordinator


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make certificates.

    One that fits, one that has expired, one for another host, and a second authority.
    """
    folder = tmp_path_factory.mktemp("tls")
    key = ec_keys.make_key()
    for name, began, hosts in (
        ("good", 0, [HOST]),
        ("old", 90, [HOST]),
        ("elsewhere", 0, ["fed.example.org"]),
    ):
        now = NOW - datetime.timedelta(days=began)
        authority = certificates.make_authority("a", key, now=NOW - datetime.timedelta(days=100))
        issued = certificates.issue_server_certificate(
            key.public_key(), hosts, authority=(authority, key), days=60, now=now
        )
        (folder / f"{name}.crt").write_text(certificates.certificate_pem(issued))
    (folder / "ca.crt").write_text(certificates.certificate_pem(authority))
    (folder / "key").write_text(ec_keys.private_pem(key))
    (folder / "other.crt").write_text(
        certificates.certificate_pem(certificates.make_authority("a", ec_keys.make_key()))
    )
    return folder


@contextmanager
def answering(federation: Path, certificate: str, answer: bytes) -> Iterator[str]:
    """Serve one TLS connection with one answer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(federation / f"{certificate}.crt", federation / "key")

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                with context.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(4096)
                    secured.sendall(answer)
            except OSError:
                return

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"{HOST}:{listener.getsockname()[1]}"
        thread.join(5)


def test_a_front_that_answers_is_reached(federation: Path) -> None:
    date = formatdate(usegmt=True)
    with answering(
        federation, "good", f"HTTP/1.1 401 No\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode()
    ) as address:
        found = list(check_reachable(address, federation / "ca.crt"))
    assert {finding.status for finding in found} == {"ok"}
    assert [finding.check for finding in found] == [
        "name",
        "port",
        "certificate",
        "certificate",
        "front",
        "clock",
    ]


@pytest.mark.parametrize(
    ("status", "expected", "words"),
    [(503, "warning", "no SuperLink"), (404, "error", "not confide")],
)
def test_what_the_front_answers_is_told(
    federation: Path, status: int, expected: str, words: str
) -> None:
    with answering(
        federation, "good", f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()
    ) as address:
        front = next(
            f for f in check_reachable(address, federation / "ca.crt") if f.check == "front"
        )
    assert front.status == expected
    assert words in front.message


@pytest.mark.parametrize(
    ("certificate", "ca", "words"),
    [
        ("old", "ca.crt", "expired"),
        ("elsewhere", "ca.crt", "mismatch"),
        ("good", "other.crt", "certificate"),
    ],
)
def test_a_certificate_that_does_not_fit_is_an_error_with_its_mend(
    federation: Path, certificate: str, ca: str, words: str
) -> None:
    with answering(federation, certificate, b"") as address:
        found = list(check_reachable(address, federation / ca))[-1]
    assert (found.check, found.status) == ("certificate", "error")
    assert words in found.message
    assert found.fix


@contextmanager
def relaying(status: str, heard: list[str]) -> Iterator[str]:
    """Be a proxy for one connection; yield its HOST:PORT."""

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            head = client.recv(65536).decode()
            heard.append(head)
            client.sendall(f"HTTP/1.1 {status}\r\n\r\n".encode())
            if not status.startswith("200"):
                return
            port = head.split()[1].rpartition(":")[2]
            with socket.create_connection((HOST, int(port))) as server:
                back = threading.Thread(target=_pump, args=(server, client))
                back.start()
                _pump(client, server)
                back.join(5)

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"{HOST}:{listener.getsockname()[1]}"
        thread.join(5)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_a_front_is_knocked_at_through_the_proxy(
    federation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    answer = f"HTTP/1.1 401 No\r\nDate: {formatdate(usegmt=True)}\r\nContent-Length: 0\r\n\r\n"
    with (
        answering(federation, "good", answer.encode()) as address,
        relaying("200 Go on", heard) as proxy,
    ):
        port = address.rpartition(":")[2]
        monkeypatch.setenv("https_proxy", f"http://ann:secret@{proxy}")
        monkeypatch.setattr("confide.security.proxies._LOOPBACK", ())
        found = list(check_reachable(f"{HOST}:{port}", federation / "ca.crt"))
    assert statuses(found)["proxy"] == "ok"
    assert statuses(found)["front"] == "ok"
    assert found[0].message == f"http://ann:***@{proxy} (HTTPS_PROXY) leads to {HOST}:{port}"
    assert heard[0].startswith(f"CONNECT {HOST}:{port} ")
    assert "Proxy-Authorization: Basic YW5uOnNlY3JldA==" in heard[0]


@pytest.mark.parametrize("status", ["403 Forbidden", "407 Proxy Authentication Required"])
def test_a_proxy_that_lets_nobody_through_is_an_error_that_names_it(
    status: str, federation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with relaying(status, []) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy}")
        found = list(check_reachable("fl.bank.example:8443", federation / "ca.crt"))
    assert statuses(found) == {"proxy": "error"}
    assert status in found[0].message
    assert "add fl.bank.example to NO_PROXY" in found[0].fix


def test_a_proxy_that_is_not_there_is_an_error_that_names_it(
    federation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://nobody.invalid:3128")
    found = list(check_reachable("fl.bank.example:8443", federation / "ca.crt"))
    assert statuses(found) == {"proxy": "error"}


def test_something_that_is_no_http_is_an_error(federation: Path) -> None:
    with answering(federation, "good", b"SSH-2.0\r\n") as address:
        assert statuses(list(check_reachable(address, federation / "ca.crt")))["front"] == "error"


def test_nobody_there_is_an_error(federation: Path) -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    assert statuses(list(check_reachable(f"{HOST}:{port}", federation / "ca.crt"))) == {
        "name": "ok",
        "port": "warning",
    }
    assert statuses(list(check_reachable("nobody.invalid:1", federation / "ca.crt"))) == {
        "name": "error"
    }


# --- the command


def test_a_folder_without_a_kit_is_a_wrong_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", str(tmp_path)]) == 2
    assert "neither of client.yaml and federation.json" in capsys.readouterr().err
    assert main(["doctor", "--loud"]) == 2
    assert main(["doctor", "--help"]) == 0
