"""Serves a model on one socket until a signal; what was taken by then is answered first."""

import contextlib
import logging
import socket
import ssl
import sys
import threading
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from confide.deployment.lifetime import stop_signals
from confide.monitoring.address import listening, shown
from confide.serving.app import Served, make_app
from confide.serving.connections import Patience
from confide.serving.limits import Limits
from confide.serving.tls import Tls

log = logging.getLogger(__name__)

_IDLE_S = 75
_BACKLOG = 1024
_REFUSED_S = 0.3
"""Seconds after a signal in which whoever still asks is told, and not cut off."""
_CLOSING_S = 5
_SWITCH_S = 0.0005
"""Seconds after which a thread that computes in Python lets the one that answers on; 5 ms, which is
Python's own, would be longer than most answers take."""


def serve(served: Served, address: str, tls: Tls | None) -> int:
    """Serve until SIGTERM or SIGINT; a second one ends it at once.

    Args:
        served: the model.
        address: HOST:PORT or unix:PATH.
        tls: how TLS is spoken; None: it is not.

    Returns:
        How many requests that were taken have no answer: 0, unless a limit of time was reached.

    Raises:
        ConfigError: if the address or the certificate cannot be used.
        KeyboardInterrupt: at a second signal.
    """
    context = None if tls is None else tls.context()
    before = sys.getswitchinterval()
    with stop_signals() as stop, listening(address, anywhere=True, backlog=_BACKLOG) as listener:
        server = uvicorn.Server(_config(make_app(served), served.limits, tls, context))
        # In a thread of its own uvicorn leaves signals alone, which are `stop`'s
        thread = threading.Thread(target=server.run, args=([listener],), name="http", daemon=True)
        sys.setswitchinterval(_SWITCH_S)
        try:
            thread.start()
            _tell(served, listener, is_tls=tls is not None)
            while thread.is_alive() and not stop.wait(0.2):
                pass
            if not stop.is_set():
                raise RuntimeError("The thread that answers has ended by itself.")
            with _ended_by_another():
                return _stop(served, server, thread)
        finally:
            sys.setswitchinterval(before)
            served.batcher.end()


def _config(
    app: ASGIApp, limits: Limits, tls: Tls | None, context: ssl.SSLContext | None
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        # Called as the class would be
        http=Patience(most=limits.connections, read_s=limits.read_s),  # type: ignore[arg-type]
        log_config=None,
        # Not even its errors: their tracebacks may quote a record
        log_level=logging.CRITICAL,
        access_log=False,
        ws="none",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_CLOSING_S,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
        ssl_context_factory=None if context is None else lambda *_: context,
    )


def _tell(served: Served, listener: socket.socket, *, is_tls: bool) -> None:
    one = served.identity
    where = shown(listener, scheme="https" if is_tls else "http")
    log.info("Serving %s, version %s, on %s.", one.name, one.version, where)


def _stop(served: Served, server: uvicorn.Server, thread: threading.Thread) -> int:
    served.stopping.stop()
    log.info("Stopping: what was taken is answered, no more is taken.")
    # Connections that are open, and those that wait to be accepted, get an answer that says so
    thread.join(_REFUSED_S)
    left = served.stopping.wait(served.limits.stop_s)
    server.should_exit = True
    thread.join(2 * _CLOSING_S)
    log.info("Answered %d requests; %d were not answered.", served.stopping.answered, left)
    return left


@contextlib.contextmanager
def _ended_by_another() -> Iterator[None]:
    """Let a further signal interrupt what is inside."""
    import signal

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {one: signal.signal(one, interrupt) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


__all__ = ["serve"]
