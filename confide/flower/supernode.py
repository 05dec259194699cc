"""Starts a SuperNode that looks often while messages come, and seldom otherwise.

Flower's own looks for messages every 3 s and for its executor's replies every 0.5 s, whatever
comes, and has no setting for either. Both pauses are the ``time.sleep`` of one module of Flower.
Here that module's ``time`` is another one, and what it calls to receive a message is wrapped, so
that a message begins a wait anew. Nothing else of Flower is touched.

That holds of the module's text, which is compared with the one that is known: of any other, Flower
keeps its own pauses, and the log says so. ``tests/flower/test_supernode.py`` checks what is relied
on here.
"""

import hashlib
import importlib.util
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from logging import WARN
from pathlib import Path
from types import ModuleType
from typing import Any

from flwr.supercore import log
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError

from confide.errors import ConfideError, FlowerError
from confide.flower.pace import FAR, PATIENCE_S, Pace, part_pace
from confide.security.client_tls import in_memory, load_pair
from confide.security.ec_keys import is_encrypted, node_key_text, read_node_key

MODULE = "flwr.supernode.start_client_internal"
KNOWN = frozenset({"d6342f743fdf768f63305b88414ae2654e9a21bda153739da19c608e8d375067"})
"""SHA-256 of the module's text in flwr 1.41.0 and 1.42.0."""
UNKNOWN = (
    "The SuperNode of this release of flwr is not the one that is known; it keeps its own pauses of"
    " 3 s and 0.5 s, so that each message takes seconds longer. `pip install 'flwr~=1.41.0'` brings"
    " a known one."
)
CERTIFICATE_FLAG = "--client-certificate"
"""This module's own; all others are Flower's."""
KEY_FLAG = "--auth-supernode-private-key"
IDLE_S, REPLY_S = 3.0, 0.5
"""Flower's own pauses: between looks for a message, and for the executor's reply or its parts."""

Sleep = Callable[[float], None]


class Waits:
    """Stands in for ``time`` in Flower's module: its pauses follow what came last.

    Args:
        clock: function that returns the time in seconds.
        sleep: function that pauses for so many seconds.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Sleep = time.sleep
    ) -> None:
        self._sleep = sleep
        self._paces = {
            IDLE_S: Pace(0.2, IDLE_S, share=FAR, clock=clock),
            REPLY_S: Pace(0.02, REPLY_S, clock=clock),
        }

    def sleep(self, longest_s: float) -> None:
        """Pause for at most so many seconds, which are ``IDLE_S`` or ``REPLY_S``."""
        self._sleep(self._paces[longest_s].pause_s)

    def begin(self) -> None:
        """Begin all waits anew, since a message came or its reply was sent."""
        for pace in self._paces.values():
            pace.begin()


def is_known(module: str = MODULE) -> bool:
    """Return whether a module is the one of Flower's whose pauses can be replaced."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return False
    try:
        text = Path(spec.origin).read_bytes()
    except OSError:  # an installation without sources
        return False
    return hashlib.sha256(text).hexdigest() in KNOWN


def quicken(module: ModuleType, waits: Waits) -> None:
    """Replace the pauses of Flower's module."""
    receive = module._pull_and_store_message
    was_message = False

    def received(*, pull_object: Callable[[int, str], bytes], **rest: Any) -> int | None:
        nonlocal was_message
        if was_message:  # whose reply was sent just now
            waits.begin()
        run_id: int | None = receive(pull_object=_patient(pull_object), **rest)
        was_message = run_id is not None
        if was_message:
            waits.begin()
        return run_id

    module.__dict__.update(time=waits, _pull_and_store_message=received)


def _patient(
    pull_object: Callable[[int, str], bytes],
    clock: Callable[[], float] = time.monotonic,
    sleep: Sleep = time.sleep,
) -> Callable[[int, str], bytes]:
    """Return a function that waits for a part that is still on its way to the SuperLink.

    A message is announced before its parts are there, and who looks often comes between. Flower
    would ask for such a part again after 1 s.
    """

    def pull(run_id: int, object_id: str) -> bytes:
        pace = part_pace(clock)
        while True:
            try:
                return pull_object(run_id, object_id)
            except ObjectUnavailableError:
                if pace.waited_s > PATIENCE_S:
                    raise
            sleep(pace.pause_s)

    return pull


def with_readable_key(words: Sequence[str]) -> list[str]:
    """Return the words of a SuperNode that can read its key, which may be encrypted.

    Flower reads a key that is not. So it is decrypted into memory that this process alone can open,
    by a path of its own.

    Raises:
        UnreadableError: if the passphrase is missing, or another.
    """
    words = list(words)
    if KEY_FLAG not in words[:-1]:
        return words
    at = words.index(KEY_FLAG) + 1
    path = Path(words[at])
    if is_encrypted(path):
        memory = in_memory(node_key_text(read_node_key(path)))
        words[at] = f"/proc/self/fd/{memory}"
    return words


def taken(words: list[str], flag: str) -> str | None:
    """Take a flag of this module's own out of a SuperNode's words, and return its value."""
    if flag not in words[:-1]:
        return None
    at = words.index(flag)
    words.pop(at)
    return words.pop(at)


def show_certificate(certificate: Path, key: Path) -> None:
    """Have this process show a certificate to the coordinator that asks for one.

    Flower has no setting for it. Its one client of a coordinator is replaced by a subclass, to
    which it hands the TLS context that the certificate goes into. Where a later release does
    neither, the coordinator's front refuses the SuperNode at the handshake: nothing goes on
    without.

    Raises:
        ConfideError: if certificate or key cannot be read.
        FlowerError: if this release of flwr has another client.
    """
    from flwr.supernode import fleet_http_connection

    plain = getattr(fleet_http_connection, "FleetHttpClient", None)
    if plain is None:
        raise FlowerError(
            "The SuperNode of this release of flwr takes no client certificate, which the"
            " coordinator asks for; `pip install 'flwr~=1.41.0'` brings one that does."
        )

    load_pair(ssl.create_default_context(), certificate, key)  # told now, if they do not fit

    class Certified(plain):  # type: ignore[misc,valid-type]  # Flower's, found above
        def __init__(self, base_url: str, *, verify: ssl.SSLContext, **rest: Any) -> None:
            load_pair(verify, certificate, key)
            super().__init__(base_url, verify=verify, **rest)

    fleet_http_connection.__dict__["FleetHttpClient"] = Certified


def main() -> None:
    """Run ``flower-supernode``, with the words of this process."""
    # Here, since these load a web server, and whoever starts this process asks only what is known.
    from flwr.supernode import start_client_internal
    from flwr.supernode.cli import flower_supernode

    if is_known():
        quicken(start_client_internal, Waits())
    else:
        log(WARN, UNKNOWN)
    try:
        words = list(sys.argv[1:])
        certificate = taken(words, CERTIFICATE_FLAG)
        if certificate is not None:
            show_certificate(Path(certificate), Path(words[words.index(KEY_FLAG) + 1]))
        sys.argv[1:] = with_readable_key(words)
    except ConfideError as error:
        sys.exit(str(error))
    flower_supernode()


__all__ = [
    "CERTIFICATE_FLAG",
    "IDLE_S",
    "KEY_FLAG",
    "KNOWN",
    "MODULE",
    "REPLY_S",
    "UNKNOWN",
    "Waits",
    "is_known",
    "main",
    "quicken",
    "show_certificate",
    "taken",
    "with_readable_key",
]

if __name__ == "__main__":
    main()
