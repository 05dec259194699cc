"""Explains in one sentence, with the fix, why a process of Flower ended or what it waits for.

Flower's processes end with status 1 for almost everything, and write the reason to their log in
words for Flower's developers. ``tests/flower/test_explain.py`` checks the texts relied on here.
"""

import json
import re
from importlib.metadata import version

_DOCTOR = "`confide doctor` shows more"
_START = "Starting Flower "
# Tried in this order: what a certificate's error says in particular before "not signed by ca.crt".
_RULES: tuple[tuple[str, str], ...] = (
    (
        r"certificate verify failed: certificate has expired",
        (
            "The coordinator's certificate has expired, or this machine's clock is ahead; the"
            " coordinator renews it with `confide provision` and starts again."
        ),
    ),
    (
        r"certificate verify failed: certificate is not yet valid",
        (
            "The coordinator's certificate is not valid yet: this machine's clock is behind, or the"
            " coordinator's was ahead; set the clock (NTP)."
        ),
    ),
    (
        (
            r"certificate verify failed: (?:IP address|Hostname) mismatch, certificate is not valid"
            r" for (?P<finding>'[^']+')"
        ),
        (
            "The coordinator's certificate is not for {finding}; correct coordinator.address in"
            " client.yaml, or the coordinator adds that host to `hosts` of its federation's YAML"
            " and runs `confide provision`."
        ),
    ),
    (
        r"certificate verify failed: permitted subtree violation",
        (
            "The certificate there is for a host that the federation's authority does not vouch"
            " for: somebody may have stolen the authority's key, so tell the coordinator by"
            " telephone."
        ),
    ),
    (
        r"ALERT_CERTIFICATE_REQUIRED",
        (
            "The coordinator lets those in who show a certificate, and this kit shows none; ask for"
            " node.crt, and put it into the kit."
        ),
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        (
            "The coordinator's certificate is not signed by ca.crt (by server-ca.crt, if the kit"
            " has it): another server answers there, or the kit is of another federation; compare"
            " the file's fingerprint with the coordinator's by telephone."
        ),
    ),
    (
        r"\[SSL: (?:WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE)\]",
        (
            "The server there does not speak TLS, so it is not confide's; correct"
            " coordinator.address in client.yaml."
        ),
    ),
    (
        r"Exit Code: 606\b(?:.|\n){0,4000}?(?P<finding>expected [^\n]{0,200})",
        (
            "The coordinator refuses this release of Flower ({finding}); install the same minor"
            " release of flwr on both sides."
        ),
    ),
    (
        r"\[code: 2004\]",
        (
            "The coordinator does not accept this institution's key: it is not registered there"
            " (compare its fingerprint, `ssh-keygen -lf node.pub`, and let the coordinator register"
            " it), or a SuperNode with this key crashed less than a minute ago: Flower accepts it"
            " again after 60 s, by itself."
        ),
    ),
    (
        r"address already in use",
        (
            "The port of its runtime API on loopback is in use; end the program that listens there,"
            " or set another runtime_port in client.yaml."
        ),
    ),
    (
        r"Exit Code: 302\b",
        (
            "node.key is not a private key that Flower can read; bring back the file that `confide"
            " provision` wrote, EC P-384 in OpenSSH's form, without a passphrase."
        ),
    ),
    (
        r"`--root-certificates` does not point to a file",
        (
            "ca.crt is missing; bring back the file that came with the kit, or correct"
            " coordinator.ca in client.yaml."
        ),
    ),
    (
        r"SuperNode terminated gracefully",
        (
            "It ended by itself, as a SuperNode does if its coordinator answers 401: this machine's"
            " clock differs from the coordinator's (more than 5 s ahead, or minutes behind), or its"
            " key was removed or revoked there; set the clock (NTP), or ask the coordinator."
        ),
    ),
    (
        r"Connection attempt failed",
        (
            "The coordinator does not answer; it will be tried again. Either nothing is running"
            " there, or coordinator.address is wrong, or a firewall is in the way."
        ),
    ),
)
_FAILED = re.compile(r"Connection attempt failed")
# After a break nothing is logged before the next message
_CONNECTED = re.compile(r"SuperNode ID: |Connection successful|(?:Received|Sent) successfully")


def explain(log_tail: str, status: int | None) -> str | None:
    """Explain why a SuperNode ended, or what it waits for.

    Args:
        log_tail: end of its log.
        status: exit status; None while it runs.

    Returns:
        A sentence; None if nothing is wrong or the reason is unknown.
    """
    # Of the last start alone: the log is appended to, and earlier reasons may be fixed.
    text = log_tail[max(0, log_tail.rfind(_START)) :]
    if status is None:
        # A SuperNode that cannot connect tries for ever and keeps running.
        failed, connected = (
            max((match.start() for match in pattern.finditer(text)), default=-1)
            for pattern in (_FAILED, _CONNECTED)
        )
        return _sentence(_RULES[-1]) if failed > connected else None
    for rule in _RULES[:-1]:
        match = re.search(rule[0], text)
        if match is not None:
            return _sentence(rule, **match.groupdict())
    return None


def _sentence(rule: tuple[str, str], **values: str) -> str:
    return f"{rule[1].format(**values)} {_DOCTOR}."


# --- the answer of a front to a node of another release, in Flower's own form

_INCOMPATIBLE = 1001
INCOMPATIBLE_STATUS = 412


def incompatibility(theirs: str | None) -> str | None:
    """Compare a node's release of Flower with the one installed here.

    Args:
        theirs: release that the node names; None if it names none.

    Returns:
        The difference in words; None if the minor releases are the same or the node names none.
    """
    # SuperLink 1.41 compares them too, but lets every release pass, and then messages of different
    # minor releases do not fit each other.
    ours = version("flwr")
    if theirs is None or _minor(theirs) == _minor(ours):
        return None
    return f"expected flwr {'.'.join(_minor(ours))}, got {theirs[:20]!r}"


def incompatibility_body(reason: str) -> bytes:
    """Write the HTTP body that ends a SuperNode with exit code 606 and the reason in its log."""
    detail = "Runtime version compatibility check failed."
    return json.dumps({"code": _INCOMPATIBLE, "detail": detail, "extra": reason}).encode()


def _minor(release: str) -> tuple[str, ...]:
    return tuple(release.split(".")[:2])


__all__ = ["INCOMPATIBLE_STATUS", "explain", "incompatibility", "incompatibility_body"]
