"""What ended a process of Flower's, or keeps it waiting, in one sentence that ends with the fix.

Flower's processes end with status 1 for nearly everything and tell why in their log, in words for
Flower's own developers. ``tests/flower/test_explain.py`` holds the texts that are relied on.
"""

import json
import re
from importlib.metadata import version

_DOCTOR = "`confide doctor` says more"
_START = "Starting Flower "
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
            r" for (?P<found>'[^']+')"
        ),
        (
            "The coordinator's certificate is not for {found}; correct coordinator.address in"
            " client.yaml, or the coordinator adds that host to `hosts` of its federation's YAML"
            " and runs `confide provision`."
        ),
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        (
            "The coordinator's certificate is not signed by ca.crt: another server answers there,"
            " or the kit is of another federation; compare the fingerprint of ca.crt with the"
            " coordinator's by telephone."
        ),
    ),
    (
        r"\[SSL: (?:WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE)\]",
        (
            "What answers there speaks no TLS, so it is no front of confide's; correct"
            " coordinator.address in client.yaml."
        ),
    ),
    (
        r"Exit Code: 606\b(?:.|\n)*?(?P<found>expected [^\n]*)",
        (
            "The coordinator refuses this release of Flower ({found}); install the same minor"
            " release of flwr on both sides."
        ),
    ),
    (
        r"\[code: 2004\]",
        (
            "The coordinator does not take this institution's key: it is not registered there"
            " (compare its fingerprint, `ssh-keygen -lf node.pub`, and let the coordinator register"
            " it), or a SuperNode with this key crashed less than a minute ago: Flower takes it"
            " back after 60 s, by itself."
        ),
    ),
    (
        r"address already in use",
        (
            "The port of its runtime API on loopback is taken; end what listens there, or set"
            " another runtime_port in client.yaml."
        ),
    ),
    (
        r"Exit Code: 302\b",
        (
            "node.key is no private key that Flower can read; bring back the file that `confide"
            " provision` wrote, EC P-384 in OpenSSH's form, without a passphrase."
        ),
    ),
    (
        r"`--root-certificates` does not point to a file",
        (
            "ca.crt is not there; bring back the file that came with the kit, or correct"
            " coordinator.ca in client.yaml."
        ),
    ),
    (
        r"SuperNode terminated gracefully",
        (
            "It ended by itself, as a SuperNode does where its coordinator answers 401: this"
            " machine's clock differs from the coordinator's (more than 5 s ahead, or minutes"
            " behind), or its key was removed there; set the clock (NTP), or ask the coordinator."
        ),
    ),
    (
        r"Connection attempt failed",
        (
            "The coordinator does not answer; it is asked again. Either no run is going on there,"
            " or coordinator.address is wrong, or a firewall stands between."
        ),
    ),
)
_LAST_WORDS = (
    re.compile(r"Connection attempt failed"),
    re.compile(r"SuperNode ID: |Connection successful"),
)


def explain(log_tail: str, status: int | None) -> str | None:
    """Say why a SuperNode ended, or what it waits for.

    Args:
        log_tail: the end of its log.
        status: its exit status; None while it runs.

    Returns:
        A sentence; None where nothing is wrong or known.
    """
    text = log_tail[max(0, log_tail.rfind(_START)) :]
    if status is None:
        return _told(_RULES[-1]) if _waits(text) else None
    for rule in _RULES[:-1]:
        found = re.search(rule[0], text)
        if found is not None:
            return _told(rule, **found.groupdict())
    return None


def _told(rule: tuple[str, str], **found: str) -> str:
    return f"{rule[1].format(**found)} {_DOCTOR}."


def _waits(text: str) -> bool:
    """Say whether the last that it told of its connection is that there is none."""
    failed, connected = (
        max((match.start() for match in words.finditer(text)), default=-1) for words in _LAST_WORDS
    )
    return failed > connected


# --- what a front tells a node of another release, in Flower's own form

_INCOMPATIBLE = 1001
INCOMPATIBLE_STATUS = 412


def incompatibility(theirs: str | None) -> str | None:
    """Compare the release that a node tells of with the one installed here.

    Flower's fleet API of 1.41 compares and lets every release pass; messages of different minors do
    not fit.

    Returns:
        What differs; None where the minors are the same, or the node tells nothing.
    """
    ours = version("flwr")
    if theirs is None or _minor(theirs) == _minor(ours):
        return None
    return f"expected flwr {'.'.join(_minor(ours))}, got {theirs[:20]!r}"


def incompatibility_body(told: str) -> bytes:
    """Write the answer that ends a SuperNode with exit code 606 and these words."""
    detail = "Runtime version compatibility check failed."
    return json.dumps({"code": _INCOMPATIBLE, "detail": detail, "extra": told}).encode()


def _minor(release: str) -> tuple[str, ...]:
    return tuple(release.split(".")[:2])


__all__ = ["INCOMPATIBLE_STATUS", "explain", "incompatibility", "incompatibility_body"]
