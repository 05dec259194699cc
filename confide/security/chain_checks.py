"""Checks of a server's chain: will institutions recognise the coordinator by it?

What TLS would only refuse is told in sentences, each with the name, the value and the fix. Then
OpenSSL itself verifies the chain as an institution will, by a handshake in memory, names that its
authorities may not sign for included.
"""

import contextlib
import datetime
import ipaddress
import os
import ssl
from collections.abc import Iterator, Sequence
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from confide.security import certificate_hosts, certificates
from confide.security.client_tls import in_memory
from confide.security.ec_keys import PrivateKey, kind_of, private_pem
from confide.security.server_chain import ServerChain, told

_LEAST_RSA_BITS, _LEAST_EC_BITS = 2048, 256
_ASK = "ask your authority for another"

E = TypeVar("E", bound=x509.ExtensionType)


def chain_problems(
    chain: ServerChain,
    hosts: Sequence[str],
    key: PrivateKey,
    *,
    now: datetime.datetime | None = None,
) -> list[str]:
    """Check that institutions will recognise a server by its chain.

    Args:
        chain: the chain.
        hosts: DNS names and IP addresses that institutions connect to.
        key: private key of the server.
        now: current time, with its time zone.

    Returns:
        One sentence for each mistake.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    problems = [*_leaf_problems(chain.leaf, hosts)]
    for place, authority in enumerate(chain.authorities):
        between = chain.authorities[:place]
        below = sum(it.subject != it.issuer for it in between)
        problems += _authority_problems(authority, below)
    for certificate in (chain.leaf, *chain.authorities):
        problems += _time_problems(certificate, now)
        problems += _strength_problems(certificate)
    # What was told already would be told once more, in OpenSSL's words
    return problems or [it for host in hosts for it in _handshake_problems(chain, host, key)][:1]


def chain_notes(chain: ServerChain, *, now: datetime.datetime | None = None) -> list[str]:
    """Return what is worth knowing of a chain that is sound, one sentence each."""
    notes = []
    days, end = certificates.days_left(chain.leaf, now=now), chain.leaf.not_valid_after_utc
    if days < certificates.RENEW_DAYS:
        notes.append(
            f"server.crt ends on {end:%Y-%m-%d}, in {days} days: have server.csr signed again."
        )
    for authority in chain.authorities:
        # Many authorities end a certificate with their own, to the second or nearly
        if authority.not_valid_after_utc.date() < end.date():
            notes.append(
                f"{told(authority)} ends on {authority.not_valid_after_utc:%Y-%m-%d}, before"
                f" server.crt ({end:%Y-%m-%d}); renew by then."
            )
    if chain.left_out:
        notes.append(f"Left out, as no part of the chain: {', '.join(map(told, chain.left_out))}.")
    return notes


# --- one certificate


def _leaf_problems(leaf: x509.Certificate, hosts: Sequence[str]) -> Iterator[str]:
    missing = [host for host in hosts if not _covers(leaf, host)]
    if missing:
        yield (
            f"{told(leaf)} is for {', '.join(certificate_hosts.hosts_of(leaf)) or 'no host'} by its"
            f" subject alternative names, and lacks {', '.join(missing)} of hosts;"
            f" {_ASK} with all names in server.csr."
        )
    constraints, usage = _of(leaf, x509.BasicConstraints), _of(leaf, x509.KeyUsage)
    if constraints is not None and constraints.ca:
        yield f"{told(leaf)} is an authority's (basic constraints CA=true); {_ASK} of a server."
    if usage is not None and not usage.digital_signature:
        yield f"{told(leaf)} lacks the key usage digitalSignature; {_ASK} with it."
    if not _serves(leaf):
        yield f"{told(leaf)} lacks the extended key usage serverAuth; {_ASK} with it."


def _authority_problems(authority: x509.Certificate, below: int) -> Iterator[str]:
    """Check one that signs, with the number of authorities between it and the leaf."""
    constraints, usage = _of(authority, x509.BasicConstraints), _of(authority, x509.KeyUsage)
    if constraints is None or not constraints.ca:
        yield (
            f"{told(authority)} may sign no certificate (no basic constraints CA=true); {_ASK} of"
            " one that may."
        )
    elif constraints.path_length is not None and constraints.path_length < below:
        yield (
            f"{told(authority)} allows {constraints.path_length} authorities below it (path"
            f" length), and the chain has {below}; {_ASK} from one nearer to the root."
        )
    if usage is not None and not usage.key_cert_sign:
        yield f"{told(authority)} lacks the key usage keyCertSign; {_ASK} from one that has it."
    if _of(authority, x509.ExtendedKeyUsage) is not None and not _serves(authority):
        yield f"{told(authority)} may not sign for servers (extended key usage); {_ASK}."


def _time_problems(certificate: x509.Certificate, now: datetime.datetime) -> Iterator[str]:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end < now:
        yield f"{told(certificate)} has expired on {end:%Y-%m-%d}; {_ASK}."
    if begin > now:
        yield (
            f"{told(certificate)} is valid from {begin:%Y-%m-%d %H:%M}Z, and now it is"
            f" {now:%Y-%m-%d %H:%M}Z; wait, or set the clock (NTP)."
        )


def _strength_problems(certificate: x509.Certificate) -> Iterator[str]:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        yield (
            f"{told(certificate)} has an RSA key of {key.key_size} bits, expected at least"
            f" {_LEAST_RSA_BITS}; {_ASK}."
        )
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size < _LEAST_EC_BITS:
        yield (
            f"{told(certificate)} has a key on {kind_of(key)}, expected at least {_LEAST_EC_BITS}"
            f" bits; {_ASK}."
        )


def _of(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _serves(certificate: x509.Certificate) -> bool:
    uses = _of(certificate, x509.ExtendedKeyUsage)
    return uses is not None and ExtendedKeyUsageOID.SERVER_AUTH in uses


def _covers(leaf: x509.Certificate, host: str) -> bool:
    """Return whether TLS takes a certificate for that of a host."""
    names = _of(leaf, x509.SubjectAlternativeName)
    if names is None:
        return False
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    # A wildcard stands for one label, the first
    accepted = {host.lower(), f"*.{host.lower().partition('.')[2]}"}
    return any(name.lower() in accepted for name in names.get_values_for_type(x509.DNSName))


# --- the chain, as OpenSSL sees it


def _handshake_problems(chain: ServerChain, host: str, key: PrivateKey) -> Iterator[str]:
    try:
        _shake_hands(chain, host, key)
    except ssl.SSLCertVerificationError as error:
        reason = str(error.verify_message)
        if "subtree" not in reason:
            yield (
                f"The chain of {told(chain.leaf)} is refused for {host} by OpenSSL ({reason});"
                f" {_ASK}."
            )
            return
        listed = [
            f"{told(it)}: {', '.join(permitted)}"
            for it in chain.authorities
            if (permitted := certificate_hosts.permitted_hosts(it)) is not None
        ]
        yield (
            f"{told(chain.leaf)} is for {', '.join(certificate_hosts.hosts_of(chain.leaf))}, and an"
            f" authority of the chain may not sign for all of these ({reason}; permitted by"
            f" {'; '.join(listed)}); {_ASK} from one that may, or take another name in hosts."
        )
    except OSError as error:
        yield f"The chain of {told(chain.leaf)} cannot be used by OpenSSL ({error}); {_ASK}."


def _shake_hands(chain: ServerChain, host: str, key: PrivateKey) -> None:
    """Have a client that trusts the root alone connect to a server with the chain, in memory.

    Strictly, as Python 3.13 verifies and earlier releases do not: an institution may have either.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    memory = in_memory(chain.served() + private_pem(key))
    try:
        server.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)
    client = ssl.create_default_context(cadata=certificates.certificate_pem(chain.root))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(back, there, server_hostname=host)
    other = server.wrap_bio(there, back, server_side=True)
    for side in (one, other):  # hello, and the answer with the chain
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    one.do_handshake()


__all__ = ["chain_notes", "chain_problems"]
