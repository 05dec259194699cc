"""Whether a coordinator can be reached.

Its name, its port, its certificate, what its front answers, and by which clock.
"""

import datetime
import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

from cryptography import x509

from confide.deployment.checks import Finding, Status, ok, validity
from confide.security import certificates

TIMEOUT_S = 5.0
_PATH = "/v1/fleet/pull-messages"
_CLOCK_WARNING_S, _CLOCK_ERROR_S, _CLOCK_BEHIND_S = 2.0, 5.0, 300.0
_RENEW = "the coordinator runs `confide provision` and starts again."


def reach(address: str, ca: Path) -> Iterator[Finding]:
    """Knock at a coordinator's front as a SuperNode would, without a key.

    The first thing that fails ends it.

    Args:
        address: HOST:PORT.
        ca: file of the authority's certificate.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        yield Finding(
            "name",
            "error",
            f"{host} has no address ({error.strerror})",
            "correct coordinator.address, or the DNS.",
        )
        return
    yield ok("name", f"{host} is {', '.join(sorted({str(entry[4][0]) for entry in found}))}")
    try:
        connection = socket.create_connection((host, int(port)), timeout=TIMEOUT_S)
    except OSError as error:
        fix = (
            "if no `confide server` runs there now, that is to be expected; else open the way out"
            " in the firewall."
        )
        # Refused: somebody is there, and no server runs now. Silence: something is in the way.
        status: Status = "warning" if isinstance(error, ConnectionRefusedError) else "error"
        yield Finding(
            "port",
            status,
            f"{address} does not accept connections ({error.strerror or error})",
            fix,
        )
        return
    yield ok("port", f"{address} accepts connections")
    with connection:
        yield from _speak(connection, host, ca)


def _speak(connection: socket.socket, host: str, ca: Path) -> Iterator[Finding]:
    try:
        context = ssl.create_default_context(cafile=ca)
        secured = context.wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        yield _unfit(error, host)
        return
    except OSError as error:
        yield Finding(
            "certificate",
            "error",
            f"no TLS: {error}",
            "correct coordinator.address: something else listens there.",
        )
        return
    with secured:
        certificate = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
        yield ok(
            "certificate", f"signed by ca.crt, for {', '.join(certificates.hosts_of(certificate))}"
        )
        yield validity("certificate", certificate, _RENEW)
        yield from _ask(secured, host)


def _unfit(error: ssl.SSLCertVerificationError, host: str) -> Finding:
    told = str(error.verify_message)
    if "expired" in told:
        fix = f"{_RENEW} Or this machine's clock is ahead: set it (NTP)."
    elif "not yet valid" in told:
        fix = "this machine's clock is behind: set it (NTP)."
    elif "mismatch" in told:
        fix = f"correct coordinator.address, or the coordinator adds {host} to hosts and {_RENEW}"
    else:
        fix = (
            "another server answers there, or ca.crt is another federation's: compare fingerprints"
            " by telephone."
        )
    return Finding("certificate", "error", told, fix)


def _ask(secured: ssl.SSLSocket, host: str) -> Iterator[Finding]:
    """Ask the front on one of SuperNode's paths, without a key.

    How it refuses tells what stands behind.
    """
    request = (
        f"POST {_PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    try:
        asked = time.time()
        secured.sendall(request.encode())
        answer = http.client.HTTPResponse(secured, method="POST")
        answer.begin()
        halfway = (asked + time.time()) / 2
    except (OSError, http.client.HTTPException) as error:
        told = f"no answer in HTTP ({type(error).__name__})"
        yield Finding(
            "front", "error", told, "correct coordinator.address: something else listens there."
        )
        return
    yield _front(answer.status)
    yield clock(answer.getheader("date"), halfway)


def _front(status: int) -> Finding:
    if status == 503:
        told, fix = (
            "reached; no SuperLink behind it now (503)",
            "wait: the coordinator is starting, or ends.",
        )
        return Finding("front", "warning", told, fix)
    if status == 404:
        told = "no front of confide's answers (404)"
        return Finding(
            "front", "error", told, "correct coordinator.address: another web server listens there."
        )
    return ok("front", f"reached, and a SuperLink behind it ({status} to a knock without a key)")


def clock(date: str | None, now: float) -> Finding:
    """Compare this machine's clock with the coordinator's.

    Args:
        date: what the other side's HTTP says, in whole seconds; None: nothing.
        now: seconds since 1970 here, when that was said.
    """
    try:
        theirs = parsedate_to_datetime(date or "").replace(tzinfo=datetime.UTC).timestamp() + 0.5
    except ValueError:
        return Finding(
            "clock",
            "warning",
            "cannot be compared: the coordinator tells no date",
            "see that NTP runs.",
        )
    ahead = now - theirs
    side = "ahead of" if ahead > 0 else "behind"
    told = f"{abs(ahead):.1f} s {side} the coordinator's, to half a second"
    if ahead > _CLOCK_ERROR_S or ahead < -_CLOCK_BEHIND_S:
        return Finding(
            "clock",
            "error",
            told,
            "set the clock (NTP): Flower refuses one more than 5 s ahead, or 300 s behind.",
        )
    if abs(ahead) > _CLOCK_WARNING_S:
        return Finding(
            "clock", "warning", told, "set the clock (NTP): Flower refuses one more than 5 s ahead."
        )
    return ok("clock", told)


__all__ = ["TIMEOUT_S", "clock", "reach"]
