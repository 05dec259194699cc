"""Serves the reports of a kit's runs, and no other file.

A run is named by a digest of its folder, which is looked up among the runs that were started from
the kit: nothing of an address becomes part of a path. A report may name institutions as they like,
so that it is shown in a box of its own: it runs no script, and belongs to no origin.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from confide.monitoring.peer import for_own_user
from confide.server.deployment.watched import KnownRun
from confide.server.run_folder import REPORT, STATISTICS_PAGE

_PAGES = {"server": REPORT, "statistics": STATISTICS_PAGE}
_LARGEST = 32 * 2**20
_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)


def report_address(run: KnownRun) -> str:
    """Return the address of a run's report on this page; '' if it has none."""
    file = _file(run)
    try:
        is_there = file is not None and stat.S_ISREG(file.lstat().st_mode)
    except OSError:
        return ""
    return f"/runs/{_digest(run)}" if is_there else ""


def report_routes(runs_fn: Callable[[], Sequence[KnownRun]]) -> list[Route]:
    """Return the route of reports.

    Args:
        runs_fn: returns the runs of the kit.
    """

    def report(request: Request) -> Response:
        asked = request.path_params["digest"]
        run = next((one for one in runs_fn() if _digest(one) == asked), None)
        page = None if run is None else _read(run)
        if page is None:
            return PlainTextResponse("There is no such report here.\n", status_code=404)
        return HTMLResponse(page, headers={"content-security-policy": _POLICY})

    return [Route("/runs/{digest}", for_own_user(report))]


def _file(run: KnownRun) -> Path | None:
    name = _PAGES.get(run.program)
    return None if name is None else Path(run.folder) / name


def _digest(run: KnownRun) -> str:
    return hashlib.sha256(run.folder.encode()).hexdigest()[:16]


def _read(run: KnownRun) -> bytes | None:
    """Read a report; None where it is no file, such as a link to one, or too large."""
    file = _file(run)
    if file is None:
        return None
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as opened:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
                return None
            return opened.read()
    except OSError:
        return None


__all__ = ["report_address", "report_routes"]
