"""The HTTP side of a snapshot: ``/metrics``, ``/health``, ``/ready``, and pages that others add.

Nothing can be changed by a request, and nothing is asked of anybody else. There is no password:
who can reach the address may read it, so that it is this machine alone (:mod:`.address`). A page
that a browser on this machine has open must not read it either: a name that a stranger's DNS points
to loopback is refused, and answers belong to no other origin.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client.metrics_core import Metric
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from confide.deployment.checks import Finding
from confide.monitoring.guarding import HEADERS, names_loopback
from confide.monitoring.samples import exposition
from confide.terminal import plain

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)

_METHODS = ("GET", "HEAD")


@dataclass(frozen=True, kw_only=True)
class Side(Generic[S]):
    """What is shown of one side.

    Attributes:
        snapshot_fn: returns what there is now; called for each request, by any thread.
        metrics_fn: returns its metrics.
        health_fn: returns what keeps its processes from running.
        ready_fn: returns what keeps it from taking part, or from beginning a run.
        routes: pages beside.
    """

    snapshot_fn: Callable[[], S]
    metrics_fn: Callable[[S], Iterable[Metric]]
    health_fn: Callable[[S], Iterable[Finding]]
    ready_fn: Callable[[S], Iterable[Finding]]
    routes: Sequence[BaseRoute] = ()


def make_app(side: Side[S]) -> ASGIApp:
    """Return the application that shows a side."""

    # Not coroutines: Starlette calls them in threads, where reading files keeps nobody waiting
    def metrics(request: Request) -> Response:
        accept = request.headers.get("accept", "")
        text, content_type = exposition(side.metrics_fn(side.snapshot_fn()), accept)
        return Response(text, headers={"content-type": content_type})

    def health(request: Request) -> Response:
        return _judged(side.health_fn(side.snapshot_fn()))

    def ready(request: Request) -> Response:
        return _judged(side.ready_fn(side.snapshot_fn()))

    routes = [
        Route("/metrics", metrics),
        Route("/health", health),
        Route("/ready", ready),
        *side.routes,
    ]
    return _Guard(Starlette(routes=routes))


def _judged(findings: Iterable[Finding]) -> Response:
    """Answer 200, or 503 where something is wrong; with what is wrong, and what soon will be."""
    told = list(findings)
    errors, warnings = (
        [plain(f"{it.check}: {it.message}") for it in told if it.status == status]
        for status in ("error", "warning")
    )
    body = {"status": "failing" if errors else "ok", "reasons": errors, "warnings": warnings}
    return JSONResponse(body, status_code=503 if errors else 200)


class _Guard:
    """Refuses what no reader on this machine asks, and says how answers may be used."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        app = self._app if scope["type"] != "http" else _refusal(scope) or self._app
        await app(scope, receive, send_guarded)


def _refusal(scope: Scope) -> Response | None:
    """Return the answer to a request that is not let through; None for one that is."""
    if not names_loopback(Headers(scope=scope)):
        return PlainTextResponse(
            "This page answers to the names 127.0.0.1, localhost and [::1] alone; a proxy before it"
            " has to send one of them as Host.\n",
            status_code=400,
        )
    if scope["method"] not in _METHODS:
        return PlainTextResponse(
            "Nothing can be changed here.\n",
            status_code=405,
            headers={"allow": ", ".join(_METHODS)},
        )
    return None


__all__ = ["Side", "make_app"]
