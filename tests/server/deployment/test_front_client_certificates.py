"""A front that asks for client certificates: strangers hold none of its connections."""

import contextlib
import resource
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from front_process import (
    HOST,
    PULL,
    Certificates,
    FakeSuperLink,
    FrontProcess,
    eventually,
    is_closed,
    running_front,
)

from confide.deployment.reachability import check_reachable
from confide.security import certificates as made_certificates
from confide.security import ec_keys
from confide.security.client_tls import load_pair
from confide.security.revocations import Revocations, RevokedKey
from confide.server.deployment import handshakes
from confide.server.deployment.handshakes import Handshakes
from confide.storage.files import write_text

STRANGERS = 1000
MOST = 100
Authority = tuple[x509.Certificate, ec_keys.PrivateKey]


@pytest.fixture(scope="module")
def authority() -> Authority:
    key = ec_keys.make_key()
    return made_certificates.make_authority("heart", key, [HOST, "localhost"]), key


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Certificates:
    """Make the coordinator's files as provisioning does."""
    folder, key = tmp_path_factory.mktemp("tls"), ec_keys.make_key()
    issued = made_certificates.issue_server_certificate(
        key.public_key(), [HOST], authority=authority, days=5
    )
    made = Certificates(folder / "ca.crt", folder / "server.crt", folder / "server.key")
    write_text(made.ca, made_certificates.certificate_pem(authority[0]))
    write_text(made.certificate, made_certificates.certificate_pem(issued))
    write_text(made.key, ec_keys.private_pem(key))
    return made


@pytest.fixture(scope="module")
def super_link(files: Certificates) -> Iterator[FakeSuperLink]:
    made = FakeSuperLink(files.server())
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    return tmp_path / "revoked.json"


@pytest.fixture
def front(
    files: Certificates, super_link: FakeSuperLink, tmp_path: Path, listed: Path
) -> Iterator[FrontProcess]:
    options = ["--client-ca", str(files.ca), "--revoked", str(listed)]
    options += ["--max-connections", f"{MOST}"]
    with running_front(files, tmp_path, super_link.server_port, *options) as made:
        yield made


def node(folder: Path, authority: Authority, name: str = "st.mary's") -> tuple[Path, Path]:
    """Make a node's key and certificate, as files."""
    key = ec_keys.make_key()
    issued = made_certificates.issue_node_certificate(
        key.public_key(), name, authority=authority, days=5
    )
    write_text(folder / "node.key", ec_keys.node_key_text(key))
    write_text(folder / "node.crt", made_certificates.certificate_pem(issued))
    return folder / "node.crt", folder / "node.key"


def context_of(files: Certificates, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = files.client()
    if pair is not None:
        load_pair(context, *pair)
    return context


def client(front: FrontProcess, context: ssl.SSLContext) -> httpx.Client:
    return httpx.Client(base_url=front.url, verify=context, trust_env=False, timeout=60.0)


def served(front: FrontProcess, context: ssl.SSLContext) -> bool:
    with client(front, context) as asking, contextlib.suppress(httpx.TransportError):
        return asking.post(PULL, content=b"").status_code == 200
    return False


def test_who_shows_an_institutions_certificate_is_served(
    front: FrontProcess, files: Certificates, authority: Authority, tmp_path: Path
) -> None:
    assert served(front, context_of(files, node(tmp_path, authority)))
    assert not served(front, context_of(files))
    told = "it shows no certificate, which is asked for"
    eventually(lambda: told in front.log.read_text(), front.log)


def test_certificates_of_others_and_servers_are_refused(
    front: FrontProcess, files: Certificates, authority: Authority, tmp_path: Path
) -> None:
    key = ec_keys.make_key()
    other = made_certificates.make_authority("heart", key)
    assert not served(front, context_of(files, node(tmp_path, (other, key))))
    server = files.client()
    server.load_cert_chain(files.certificate, files.key)
    assert not served(front, server)
    told = "it shows a certificate of others, or one that ended"
    eventually(lambda: front.log.read_text().count(told) == 2, front.log)


def test_a_revoked_certificate_is_cut_before_it_asks_anything(
    front: FrontProcess,
    files: Certificates,
    authority: Authority,
    tmp_path: Path,
    listed: Path,
    super_link: FakeSuperLink,
) -> None:
    pair = node(tmp_path, authority)
    context = context_of(files, pair)
    assert served(front, context)
    key = ec_keys.key_fingerprint(ec_keys.read_node_key(pair[1]).public_key())
    entry = RevokedKey(key=key, name="st.mary's", since="2026-11-30")
    write_text(listed, Revocations(authority="any").plus([entry]).to_text())
    super_link.seen.clear()
    assert not served(front, context)
    assert super_link.seen == []
    assert "closed: its key was revoked on 2026-11-30" in front.log.read_text()


def test_doctor_says_that_a_certificate_is_asked_for(
    front: FrontProcess, files: Certificates, authority: Authority, tmp_path: Path
) -> None:
    address = f"{HOST}:{front.port}"
    without = list(check_reachable(address, files.ca))[-1]
    assert (without.check, without.status) == ("front", "error"), without
    assert "the coordinator refuses this side's certificate" in without.message
    assert "put node.crt" in without.fix
    shown = list(check_reachable(address, files.ca, node(tmp_path, authority)))
    assert [it.status for it in shown if it.check == "front"] == ["ok"], shown


def stranger(front: FrontProcess) -> socket.socket:
    """Connect and say nothing."""
    return socket.create_connection((HOST, front.port), timeout=60)


def without_certificate(front: FrontProcess, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Shake hands as far as a stranger comes; with TLS 1.3 it hears of its refusal afterwards."""
    return context.wrap_socket(stranger(front), server_hostname=HOST)


@pytest.mark.timeout(280)
@pytest.mark.parametrize("kind", ["silent", "without a certificate"])
def test_a_thousand_strangers_hold_no_connection(
    kind: str, front: FrontProcess, files: Certificates, authority: Authority, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    pair = node(tmp_path, authority)
    standing = client(front, context_of(files, pair))
    assert standing.post(PULL, content=b"").status_code == 200
    plain = context_of(files)
    with contextlib.ExitStack() as stack:
        strangers: list[socket.socket] = []
        for number in range(STRANGERS):
            with contextlib.suppress(OSError):
                made = stranger(front) if kind == "silent" else without_certificate(front, plain)
                strangers.append(stack.enter_context(made))
            if number % 250 == 0:
                assert served(front, context_of(files, pair)), number
        assert len(strangers) > STRANGERS * 0.9
        # All of them are there, and an institution comes in as before
        assert served(front, context_of(files, pair))
        assert standing.post(PULL, content=b"").status_code == 200
        descriptors = len(list(Path(f"/proc/{front.process.pid}/fd").iterdir()))
        assert descriptors < 2 * MOST + 100
        if kind == "silent":
            assert " given up before it shook hands: others came." in front.log.read_text()
        else:
            assert all(map(is_closed, strangers))  # type: ignore[arg-type]  # of TLS
    standing.close()
    assert front.process.poll() is None


def test_a_handshake_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "HANDSHAKE_S", 0.1)
    waiting = Handshakes(most=10)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        waiting.begin(ours)
        waiting.give_up_late()
        theirs.settimeout(0.05)
        with pytest.raises(TimeoutError):
            theirs.recv(1)
        time.sleep(0.2)
        waiting.give_up_late()
        assert theirs.recv(1) == b""


def test_a_connection_that_shook_hands_is_not_given_up_for_others() -> None:
    waiting = Handshakes(most=2)
    pairs = [socket.socketpair() for _ in range(4)]
    for ours, _ in pairs[:2]:
        waiting.begin(ours)
    waiting.done(pairs[0][0].fileno())
    for ours, _ in pairs[2:]:
        waiting.begin(ours)
    gone = []
    for ours, theirs in pairs:
        theirs.settimeout(0.05)
        try:
            gone.append(theirs.recv(1) == b"")
        except TimeoutError:
            gone.append(False)
        ours.close()
        theirs.close()
    assert gone == [False, True, False, False]


def test_accepting_waits_until_those_that_were_given_up_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handshakes, "_MOST_ENDING", 1)
    waiting = Handshakes(most=1)
    (first, _), (second, _) = pairs = [socket.socketpair(), socket.socketpair()]
    waiting.begin(first)
    assert not waiting.is_behind
    waiting.begin(second)
    assert waiting.is_behind
    first.close()
    assert not waiting.is_behind
    for pair in pairs:
        for end in pair:
            end.close()
