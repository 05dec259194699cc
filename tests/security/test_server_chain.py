"""Chains of the coordinator's certificate: each mistake of an authority is told in a sentence."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from outside_authority import Signer, root, write

from confide.errors import ConfigError, UnreadableError
from confide.security import certificate_hosts, ec_keys
from confide.security.chain_checks import chain_notes, chain_problems
from confide.security.server_chain import first_to_end, read_chain, read_root
from confide.security.signing_requests import make_server_request

HOSTS = ("fed.example.org", "10.0.0.5")
KEY = ec_keys.make_key()
TOP = root()
MIDDLE = TOP.authority("Trust Issuing")
CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])


def server(signer: Signer = MIDDLE, hosts: tuple[str, ...] = HOSTS, **more: Any) -> Any:
    return signer.server(KEY.public_key(), hosts, **more)


def problems(folder: Path, top: Signer, *chain: x509.Certificate) -> str:
    path = write(folder / "chain.pem", *chain)
    found = read_chain(path, top.certificate, KEY.public_key())
    return "\n".join(chain_problems(found, HOSTS, KEY))


def test_a_sound_chain_in_any_order_is_put_in_order(tmp_path: Path) -> None:
    leaf = server()
    path = write(tmp_path / "chain.pem", TOP.certificate, MIDDLE.certificate, leaf)
    chain = read_chain(path, TOP.certificate, KEY.public_key())
    assert chain_problems(chain, HOSTS, KEY) == []
    assert chain_notes(chain) == []
    served = x509.load_pem_x509_certificates(chain.served().encode())
    assert served == [leaf, MIDDLE.certificate]


def test_a_wildcard_and_more_names_than_needed_are_taken(tmp_path: Path) -> None:
    leaf = server(hosts=("*.example.org", "10.0.0.5", "other.org"))
    assert problems(tmp_path, TOP, leaf, MIDDLE.certificate) == ""


def test_what_is_no_chain_of_ours_is_told(tmp_path: Path) -> None:
    other = MIDDLE.server(ec_keys.make_key().public_key(), HOSTS)
    with pytest.raises(ConfigError, match=r"no certificate for server\.key"):
        problems(tmp_path, TOP, other, MIDDLE.certificate)
    with pytest.raises(ConfigError, match="lacks the certificate of 'CN=Trust Issuing'"):
        problems(tmp_path, TOP, server())
    namesake = root()
    with pytest.raises(ConfigError, match="did not sign it; ask for the root"):
        problems(tmp_path, namesake, server(), MIDDLE.certificate)
    (tmp_path / "der").write_bytes(b"\x30\x82")
    with pytest.raises(UnreadableError, match=r"openssl x509 -inform der"):
        read_chain(tmp_path / "der", TOP.certificate, KEY.public_key())


def test_a_signature_that_can_be_forged_is_told(tmp_path: Path) -> None:
    # By openssl: cryptography signs nothing with SHA-1 any more
    (tmp_path / "csr").write_text(make_server_request(KEY, HOSTS))
    (tmp_path / "key").write_text(ec_keys.private_pem(MIDDLE.key))
    issuer = write(tmp_path / "ca", MIDDLE.certificate)
    words = f"x509 -req -sha1 -days 9 -in csr -CA {issuer} -CAkey key -CAcreateserial -out leaf"
    subprocess.run(["openssl", *words.split()], cwd=tmp_path, check=True, capture_output=True)
    leaf = x509.load_pem_x509_certificate((tmp_path / "leaf").read_bytes())
    with pytest.raises(ConfigError, match="signed with sha1, which can be forged"):
        problems(tmp_path, TOP, leaf, MIDDLE.certificate)


def test_a_root_is_one_certificate_signed_by_itself(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"expected one certificate.*got 2"):
        read_root(write(tmp_path / "two.pem", TOP.certificate, MIDDLE.certificate))
    with pytest.raises(UnreadableError, match="'CN=Trust Issuing' is no root"):
        read_root(write(tmp_path / "middle.pem", MIDDLE.certificate))
    assert read_root(write(tmp_path / "root.pem", TOP.certificate)) == TOP.certificate


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"hosts": ("fed.example.org",)}, "lacks 10.0.0.5 of hosts"),
        ({"extensions": []}, "is for no host by its subject alternative names"),
        ({"extensions": [certificate_hosts.server_names(HOSTS)]}, "usage serverAuth"),
        ({"extensions": [certificate_hosts.server_names(HOSTS), CLIENT]}, "usage serverAuth"),
        ({"ca": True, "usage": False}, "is an authority's"),
        ({"usage": True}, "lacks the key usage digitalSignature"),
        ({"end": 0, "begin": -9}, "has expired on"),
        ({"begin": 2}, "wait, or set the clock"),
    ],
)
def test_a_mistake_of_the_server_certificate_is_told(
    tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    assert words in problems(tmp_path, TOP, server(**more), MIDDLE.certificate)


def test_a_mistake_of_an_authority_is_told(tmp_path: Path) -> None:
    def by(**more: Any) -> str:
        middle = TOP.authority("Middle", **more)
        return problems(tmp_path, TOP, server(middle), middle.certificate)

    assert "may sign no certificate" in by(ca=False, usage=True)
    assert "lacks the key usage keyCertSign" in by(usage=False)
    assert "may not sign for servers" in by(extensions=[CLIENT])
    assert "has expired on" in by(begin=-9, end=0)
    weak = rsa.generate_private_key(65537, 1024)
    assert "RSA key of 1024 bits, expected at least 2048" in by(key=weak)
    short = root(path_length=0)
    middle = short.authority("Middle")
    told = problems(tmp_path, short, server(middle), middle.certificate)
    assert "allows 0 authorities below it (path length), and the chain has 1" in told


def test_an_authority_that_may_not_sign_for_a_host_is_told(tmp_path: Path) -> None:
    limit = x509.NameConstraints([x509.DNSName("elsewhere.org")], None)
    middle = TOP.authority("Limited", extensions=[limit])
    told = problems(tmp_path, TOP, server(middle), middle.certificate)
    assert "may not sign for all of these" in told
    assert "permitted by 'CN=Limited': elsewhere.org" in told


def test_ends_that_are_near_are_told(tmp_path: Path) -> None:
    middle = TOP.authority("Short", end=9)
    path = write(tmp_path / "c", server(middle, end=20), middle.certificate, MIDDLE.certificate)
    chain = read_chain(path, TOP.certificate, KEY.public_key())
    assert chain_problems(chain, HOSTS, KEY) == []
    ends, before, left = chain_notes(chain)
    assert "in 19 days: have server.csr signed again" in ends
    assert "'CN=Short' ends on" in before
    assert left == "Left out, as no part of the chain: 'CN=Trust Issuing'."
    assert first_to_end(path) == middle.certificate
