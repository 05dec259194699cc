"""Serves an application on one socket until a signal, or until its parent ends."""

import logging
import threading

import uvicorn
from starlette.types import ASGIApp

from confide.deployment.lifetime import end_with_parent, stop_signals
from confide.monitoring.address import listening, shown
from confide.monitoring.connections import connections

log = logging.getLogger(__name__)

_SHUTDOWN_S = 2
_IDLE_S = 15
_MOST_CONNECTIONS = 64


def serve(app: ASGIApp, address: str, *, with_parent: bool) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        app: the application.
        address: HOST:PORT on loopback, or unix:PATH.
        with_parent: whether to end with the process that started this one.

    Raises:
        ConfigError: if the address cannot be used.
    """
    with stop_signals() as stop, listening(address) as listener:
        if with_parent:
            end_with_parent(stop)
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            http=connections(most=_MOST_CONNECTIONS, idle_s=_IDLE_S),
            ws="none",
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_IDLE_S,
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
        server = uvicorn.Server(config)
        # In a thread of its own uvicorn leaves signals alone, which are `stop`'s
        thread = threading.Thread(target=server.run, args=([listener],), name="http")
        thread.start()
        log.info("Listening on %s.", shown(listener))
        while thread.is_alive() and not stop.wait(0.5):
            pass
        server.should_exit = True
        thread.join()


__all__ = ["serve"]
