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
from confide.privacy.accounting import Schedule
from confide.privacy.budget import Budget, Charge


def _load_accountant() -> None:
    one = Schedule(noise_multiplier=1.0, sampling_rate=1.0, steps=1)
    charge = Charge.of(one, unit="record", budget_unit="record")
    Budget.declare(1.0, 1e-5).spent([charge])


def make(folder: Path, overrides: Sequence[str]) -> ASGIApp:
    """Return the application of a kit.

    Args:
        folder: folder of the kit.
        overrides: changes of ``client.yaml``, as the kit is run with.
    """
    # Before anybody asks: the accountant takes seconds to load, an audit log of years to read
    _load_accountant()
    snapshot_fn = Cached(InstitutionWatch(folder, overrides))
    snapshot_fn()
    side = Side(
        snapshot_fn=snapshot_fn,
        metrics_fn=metrics,
        health_fn=health,
        ready_fn=ready,
        routes=board_routes(lambda: board(snapshot_fn())),
    )
    return make_app(side)


__all__ = ["make"]
