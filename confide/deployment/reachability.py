"""Checks whether a coordinator can be reached: name, port, certificate, front and clock."""

import contextlib
import datetime
import http.client
import os
import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from confide.deployment.checks import Finding, Status, ok, validity
from confide.errors import words_of
from confide.security import certificate_hosts
from confide.security.client_tls import load_pair
from confide.security.parsing import DAMAGED, certificate_of
from confide.security.proxies import proxy_of, split_address, tunnel
from confide.security.redaction import redact

TIMEOUT_S = 5.0
_PATH = "/v1/fleet/pull-messages"
_CLOCK_WARNING_S = 2.0
# Flower signs requests with a timestamp, and refuses one 5 s in the future or 300 s in the past.
_CLOCK_ERROR_S = 5.0
_CLOCK_BEHIND_S = 300.0
_RENEW = "the coordinator runs `confide provision` and starts again."
# Part of OpenSSL's reason -> the fix; the first that fits counts, and the last fits always.
_CERTIFICATE_FIXES = {
    "expired": f"{_RENEW} Or this machine's clock is ahead: set it (NTP).",
    "not yet valid": "this machine's clock is behind: set it (NTP).",
    "mismatch": (
        "correct coordinator.address, or the coordinator adds {host} to hosts and " + _RENEW
    ),
    "permitted subtree": (
        "the authority does not vouch for that host: its key may be stolen, so tell the coordinator"
        " by telephone."
    ),
    "": (
        "another server answers there, or {ca} belongs to another federation or is of another"
        " authority: compare fingerprints by telephone."
    ),
}
_NOT_LISTENING = (
    "if no `confide server` is running there now, this is normal; otherwise open the firewall for"
    " outgoing connections."
)
# Status of the answer -> finding: 503 is nginx's own, 404 that of a server without SuperLink's API.
_WRONG_FRONTS: dict[int, tuple[Status, str, str]] = {
    503: (
        "warning",
        "reached; no SuperLink behind it now (503)",
        "wait: the coordinator is starting or ending.",
    ),
    404: (
        "error",
        "the server there is not confide's (404)",
        "correct coordinator.address: another web server listens there.",
    ),
}


def check_reachable(
    address: str, ca: Path, shown: tuple[Path, Path] | None = None
) -> Iterator[Finding]:
    """Connect to a coordinator's front as a SuperNode would, by the same proxy, but without a key.

    The first check that fails is the last.

    Args:
        address: HOST:PORT of the coordinator.
        ca: file of the root of the coordinator's certificate.
        shown: files of the certificate that is shown, and of its key; None if there is none.
    """
    host, port = split_address(address)
    proxy = proxy_of(address, os.environ)
    if proxy is not None:
        yield from _check_through(proxy, address, ca, shown)
        return
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        reason = f"{host} has no address ({error.strerror})"
        yield Finding("name", "error", reason, "correct coordinator.address, or the DNS.")
        return
    yield ok("name", f"{host} is {', '.join(sorted({str(entry[4][0]) for entry in entries}))}")
    try:
        connection = socket.create_connection((host, port), timeout=TIMEOUT_S)
    except OSError as error:
        # Refused: the machine is there, and no server is running. Silence: something is in the way.
        status: Status = "warning" if isinstance(error, ConnectionRefusedError) else "error"
        reason = f"{address} does not accept connections ({error.strerror or error})"
        yield Finding("port", status, reason, _NOT_LISTENING)
        return
    yield ok("port", f"{address} accepts connections")
    with connection:
        yield from _check_tls(connection, host, ca, shown)


def _check_through(
    proxy: str, address: str, ca: Path, shown: tuple[Path, Path] | None
) -> Iterator[Finding]:
    """Connect by way of a proxy, which alone has to know the coordinator's name."""
    told, host = redact(proxy), split_address(address)[0]
    otherwise = f"ask for {address} to be let through, or add {host} to NO_PROXY."
    if urlsplit(proxy).scheme != "http":
        reason = f"{told} leads to {host}, by a kind of proxy that is not looked at"
        yield Finding("proxy", "warning", reason, "an HTTP proxy can be checked, http://HOST:PORT.")
        return
    try:
        connection = tunnel(proxy, address, timeout_s=TIMEOUT_S)
    except (OSError, ValueError) as error:
        reason = f"{told} (HTTPS_PROXY) does not lead to {address}: {error}"
        yield Finding("proxy", "error", reason, otherwise)
        return
    yield ok("proxy", f"{told} (HTTPS_PROXY) leads to {address}")
    with contextlib.closing(connection):
        yield from _check_tls(connection.sock, host, ca, shown)


def _check_tls(
    connection: socket.socket, host: str, ca: Path, shown: tuple[Path, Path] | None
) -> Iterator[Finding]:
    try:
        context = ssl.create_default_context(cafile=ca)
        if shown is not None:
            load_pair(context, *shown)
        secured = context.wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        reason = str(error.verify_message)
        fix = next(fix for part, fix in _CERTIFICATE_FIXES.items() if part in reason)
        yield Finding("certificate", "error", reason, fix.format(host=host, ca=ca.name))
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
        try:
            certificate = certificate_of(secured.getpeercert(binary_form=True) or b"")
        except DAMAGED as error:
            yield Finding("certificate", "error", f"cannot be read ({words_of(error)})", _RENEW)
            return
        yield ok(
            "certificate",
            f"signed by {ca.name}, for {', '.join(certificate_hosts.hosts_of(certificate))}",
        )
        yield validity("certificate", certificate, _RENEW)
        yield from _check_front(secured, host)


def _check_front(secured: ssl.SSLSocket, host: str) -> Iterator[Finding]:
    # On one of SuperNode's paths and without a key: the front passes the request on, and the
    # status with which it is refused shows what is behind.
    request = (
        f"POST {_PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    try:
        sent = time.time()
        secured.sendall(request.encode())
        answer = http.client.HTTPResponse(secured, method="POST")
        answer.begin()
        # The other side wrote its date somewhere in between: the middle halves the error.
        halfway = (sent + time.time()) / 2
    except ssl.SSLError as error:
        # A server tells only now what it thinks of the certificate that it was shown
        message = f"the coordinator refuses this side's certificate ({error.reason})"
        fix = "put node.crt, which the coordinator sends, into the kit; ask for it by telephone."
        yield Finding("front", "error", message, fix)
        return
    except (OSError, http.client.HTTPException) as error:
        message = f"no answer in HTTP ({type(error).__name__})"
        yield Finding(
            "front", "error", message, "correct coordinator.address: something else listens there."
        )
        return
    if answer.status in _WRONG_FRONTS:
        yield Finding("front", *_WRONG_FRONTS[answer.status])
    else:
        message = (
            f"reached, with a SuperLink behind it ({answer.status} to a request without a key)"
        )
        yield ok("front", message)
    yield check_clock(answer.getheader("date"), halfway)


def check_clock(date: str | None, now: float) -> Finding:
    """Compare this machine's clock with the coordinator's.

    Args:
        date: date header of the coordinator's answer, in whole seconds; None if there is none.
        now: this machine's time when the answer was given, in seconds since 1970.
    """
    try:
        # Half a second is added, because a date in whole seconds is that much early on average.
        theirs = parsedate_to_datetime(date or "").replace(tzinfo=datetime.UTC).timestamp() + 0.5
    except (ValueError, OverflowError):
        return Finding(
            "clock",
            "warning",
            "cannot be compared: the coordinator sends no date",
            "make sure that NTP is running.",
        )
    ahead = now - theirs
    side = "ahead of" if ahead > 0 else "behind"
    message = f"{abs(ahead):.1f} s {side} the coordinator's, to half a second"
    fix = "set the clock (NTP): Flower refuses one more than 5 s ahead"
    if ahead > _CLOCK_ERROR_S or ahead < -_CLOCK_BEHIND_S:
        return Finding("clock", "error", message, f"{fix}, or 300 s behind.")
    if abs(ahead) > _CLOCK_WARNING_S:
        return Finding("clock", "warning", message, f"{fix}.")
    return ok("clock", message)


__all__ = ["TIMEOUT_S", "check_clock", "check_reachable"]
