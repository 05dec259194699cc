"""What ``confide dashboard`` serves of an institution's kit."""

from collections.abc import Sequence
from pathlib import Path

from starlette.types import ASGIApp

from confide.client.monitoring.judge import health, ready
from confide.client.monitoring.metrics import metrics
from confide.client.monitoring.page import board
from confide.client.monitoring.snapshot import InstitutionWatch
from confide.monitoring.app import Side, make_app
from confide.monitoring.board_routes import board_routes
from confide.monitoring.cached import Cached


def make(folder: Path, overrides: Sequence[str]) -> ASGIApp:
    """Return the application of a kit.

    Args:
        folder: folder of the kit.
        overrides: changes of ``client.yaml``, as the kit is run with.
    """
    snapshot_fn = Cached(InstitutionWatch(folder, overrides))
    snapshot_fn()  # an audit log of years is read before anybody asks
    side = Side(
        snapshot_fn=snapshot_fn,
        metrics_fn=metrics,
        health_fn=health,
        ready_fn=ready,
        routes=board_routes(lambda: board(snapshot_fn())),
    )
    return make_app(side)


__all__ = ["make"]
