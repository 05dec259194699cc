"""What ``confide dashboard`` serves of a coordinator's kit."""

import threading
from collections.abc import Sequence
from pathlib import Path

from starlette.types import ASGIApp

from confide.errors import ConfigError
from confide.monitoring.app import Side, make_app
from confide.monitoring.board_routes import board_routes
from confide.monitoring.cached import Cached
from confide.pages.board import Board
from confide.server.monitoring.convergence import Convergence
from confide.server.monitoring.judge import health, ready
from confide.server.monitoring.metrics import metrics
from confide.server.monitoring.page import board
from confide.server.monitoring.reports import report_routes
from confide.server.monitoring.snapshot import CoordinatorWatch


def make(folder: Path, overrides: Sequence[str]) -> ASGIApp:
    """Return the application of a kit.

    Args:
        folder: folder of the kit.
        overrides: must be empty: a coordinator's kit takes none.

    Raises:
        ConfigError: if there are overrides.
    """
    if overrides:
        raise ConfigError(
            f"confide dashboard: a coordinator's kit takes no overrides, got {' '.join(overrides)}."
        )
    snapshot_fn = Cached(CoordinatorWatch(folder))
    snapshot_fn()  # an audit log of years is read before anybody asks
    draw_fn, alone = Convergence(), threading.Lock()

    def shown() -> Board:
        with alone:
            return board(snapshot_fn(), draw_fn)

    side = Side(
        snapshot_fn=snapshot_fn,
        metrics_fn=metrics,
        health_fn=health,
        ready_fn=ready,
        routes=[*board_routes(shown), *report_routes(lambda: snapshot_fn().runs)],
    )
    return make_app(side)


__all__ = ["make"]
