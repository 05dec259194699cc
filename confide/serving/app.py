"""The HTTP side of a served model: what is asked, checked and answered.

Every refusal is ``{"error": REASON}``. The reason may quote what was sent, and goes to its sender
alone: no part of a request is in a log or in a metric.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import pandas
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from confide.errors import ConfideError, DataError
from confide.monitoring.guarding import HEADERS
from confide.serving import plain_records, protocol
from confide.serving.access import Access
from confide.serving.answering import Answerer, Asked, Columns
from confide.serving.batching import Batcher
from confide.serving.counted import Counted
from confide.serving.identity import Identity
from confide.serving.limits import Limits, Rate, read_body, refuse_announced
from confide.serving.refusal import RefusedError, bad
from confide.serving.signature import Signature
from confide.serving.stopping import Stopping
from confide.version import __version__

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_LARGE = 2**16
"""Bytes of a body from which it is read in a thread, where it holds nobody up."""
_JSON, _BINARY, _CSV = "application/json", "application/octet-stream", "text/csv"


@dataclass(frozen=True, kw_only=True)
class Served:
    """A model, and all that answers for it.

    Attributes:
        identity: what it is.
        signature: what it takes and gives.
        answerer: checks and predicts.
        batcher: lets requests wait and go together.
        limits: what is refused.
        access: who may ask.
        counted: metrics.
        stopping: whether it takes requests still.
    """

    identity: Identity
    signature: Signature
    answerer: Answerer
    batcher: Batcher
    limits: Limits
    access: Access
    counted: Counted
    stopping: Stopping


def make_app(served: Served) -> ASGIApp:
    """Return the application that answers for a model."""
    asked = _Asked(served)
    about = _About(served)
    model = "/v2/models/{model}"
    version = model + "/versions/{version}"
    routes = [
        Route("/v2", about.server),
        Route("/v2/health/live", about.health),
        Route("/v2/health/ready", about.ready),
        *(Route(path, about.model) for path in (model, version)),
        *(Route(f"{path}/ready", about.model_ready) for path in (model, version)),
        *(Route(f"{path}/infer", asked.infer, methods=["POST"]) for path in (model, version)),
        Route("/predict", asked.predict, methods=["POST"]),
        Route("/health", about.health),
        Route("/ready", about.ready),
        Route("/metrics", about.metrics),
    ]
    handlers = {RefusedError: _refused, HTTPException: _not_found, Exception: _failed}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return _Gate(app, served)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return JSONResponse({"error": error.reason}, status_code=error.status, headers=error.headers)


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reasons = {
        404: "There is nothing at this path; /predict and /v2 are asked.",
        405: "Not with this method: /predict and infer take POST, all else GET.",
    }
    return JSONResponse(
        {"error": reasons.get(error.status_code, error.detail)},
        status_code=error.status_code,
        headers=error.headers,
    )


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": _failure(error)}, status_code=500)


def _failure(error: Exception) -> str:
    # Its message, and its traceback, may quote a record
    return f"The model failed ({type(error).__name__})."


class _About:
    """Answers what a model is and whether it works."""

    def __init__(self, served: Served) -> None:
        self._served = served

    async def server(self, request: Request) -> Response:
        return JSONResponse(
            {"name": "confide", "version": __version__, "extensions": list(protocol.EXTENSIONS)}
        )

    async def model(self, request: Request) -> Response:
        refuse_other_model(request, self._served.identity)
        return JSONResponse(protocol.metadata(self._served.signature, self._served.identity))

    async def health(self, request: Request) -> Response:
        is_alive = self._served.batcher.is_alive
        return self._judged({"live": is_alive}, is_well=is_alive)

    async def ready(self, request: Request) -> Response:
        is_ready = self._served.batcher.is_alive and not self._served.stopping.is_stopping
        return self._judged({"ready": is_ready}, is_well=is_ready)

    async def model_ready(self, request: Request) -> Response:
        refuse_other_model(request, self._served.identity)
        is_ready = self._served.batcher.is_alive and not self._served.stopping.is_stopping
        return self._judged({"name": self._served.identity.name, "ready": is_ready}, is_ready)

    async def metrics(self, request: Request) -> Response:
        text, content_type = self._served.counted.exposition(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    def _judged(self, body: dict[str, object], is_well: bool) -> Response:
        return JSONResponse(body, status_code=200 if is_well else 503)


class _Asked:
    """Answers requests for predictions."""

    def __init__(self, served: Served) -> None:
        self._served = served
        rate = served.limits.rate
        self._rate = None if rate is None else Rate(rate)

    async def infer(self, request: Request) -> Response:
        """Answer a request of the Open Inference Protocol."""
        served = self._served
        refuse_other_model(request, served.identity)
        length = request.headers.get(protocol.HEADER_LENGTH)
        # Triton's own client names no type; those that web pages may send unasked are refused
        _refuse_type(request, {_JSON, _BINARY, ""})
        body = await self._body(request)

        def read() -> tuple[protocol.InferRequest, Asked]:
            one = protocol.read_request(
                body, length, served.signature, most_records=served.limits.records
            )
            return one, self._checked(one.columns)

        one, asked = await self._read(read, body)
        frame = await self._predicted(asked, one.timeout_s)
        told = protocol.Told(frame, asked.warnings)
        answer, json_length = protocol.write_answer(told, one, served.signature, served.identity)
        headers = dict(served.identity.headers)
        if json_length is not None:
            headers[protocol.HEADER_LENGTH] = str(json_length)
        kind = _JSON if json_length is None else _BINARY
        return Response(answer, headers={**headers, "content-type": kind})

    async def predict(self, request: Request) -> Response:
        """Answer plain records: JSON or CSV."""
        served = self._served
        kind = _refuse_type(request, {_JSON, _CSV})
        body = await self._body(request)

        def read() -> Asked:
            read_fn = plain_records.read_csv if kind == _CSV else plain_records.read_records
            cells = read_fn(body, served.signature, most_records=served.limits.records)
            return self._checked(plain_records.columns_of(cells, served.signature))

        asked = await self._read(read, body)
        frame = await self._predicted(asked, None)
        answer = plain_records.answer_of(frame, served.signature, served.identity)
        if asked.warnings:
            answer["warnings"] = list(asked.warnings)
        text = json.dumps(answer, ensure_ascii=False, allow_nan=False)
        return Response(text, headers={**served.identity.headers, "content-type": _JSON})

    async def _body(self, request: Request) -> bytes:
        limits = self._served.limits
        if self._rate is not None:
            self._rate.refuse_more("" if request.client is None else request.client.host)
        refuse_announced(request, limits)
        # Before a body is read that could not wait anyway
        self._served.batcher.refuse_full()
        return await read_body(request, limits)

    def _checked(self, columns: Columns) -> Asked:
        return self._served.answerer.asked(columns)

    async def _read(self, read: Callable[[], _T], body: bytes) -> _T:
        try:
            if len(body) < _LARGE and not self._served.signature.is_costly:
                return read()
            return await run_in_threadpool(read)
        except DataError as error:
            raise bad(" ".join(error.problems)) from None

    async def _predicted(self, asked: Asked, own_timeout_s: float | None) -> pandas.DataFrame:
        timeout_s = self._served.limits.timeout_s
        if own_timeout_s is not None:
            timeout_s = min(timeout_s, own_timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._served.batcher.answer(asked)
        except TimeoutError:
            raise RefusedError(
                504, f"No answer within {timeout_s:g} s (--timeout); send fewer records at once."
            ) from None
        if isinstance(answer, pandas.DataFrame):
            return answer
        if isinstance(answer, DataError):
            raise bad(" ".join(answer.problems))
        if isinstance(answer, ConfideError):
            raise RefusedError(500, str(answer))
        log.error("A request was not answered. %s", _failure(answer))
        raise RefusedError(500, _failure(answer))


def refuse_other_model(request: Request, identity: Identity) -> None:
    """Refuse a request for a model or a version that is not served.

    Raises:
        RefusedError: naming what is.
    """
    if request.path_params["model"] != identity.name:
        raise RefusedError(404, f"There is no such model; this serves {identity.name}.")
    if request.path_params.get("version", identity.version) != identity.version:
        raise RefusedError(404, f"There is no such version; this serves {identity.version}.")


def _refuse_type(request: Request, expected: set[str]) -> str:
    """Check the content type, and return it without its parameters."""
    given = request.headers.getlist("content-type")
    kind, _, more = given[0].partition(";") if len(given) == 1 else ("", "", "")
    kind, more = kind.strip().lower(), more.replace(" ", "").replace('"', "").lower()
    if len(given) > 1 or kind not in expected or more not in ("", "charset=utf-8"):
        names = ", ".join(sorted(filter(None, expected)))
        raise RefusedError(415, f"Content-Type: expected one of {names}, in UTF-8.")
    return kind


class _Gate:
    """Lets requests in: who may ask, whether any are taken still; and counts them."""

    def __init__(self, app: ASGIApp, served: Served) -> None:
        self._app, self._served = app, served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request, served, began = Request(scope, receive), self._served, time.perf_counter()
        endpoint, status = _endpoint(scope["path"]), 500

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if served.stopping.is_stopping:
                    headers["connection"] = "close"
            await send(message)

        try:
            if refusal := self._refusal(request, endpoint):
                await (await _refused(request, refusal))(scope, receive, send_marked)
            elif endpoint in _TAKEN:
                with served.stopping.taken(), served.counted.under_way.track_inprogress():
                    await self._app(scope, receive, send_marked)
            else:
                await self._app(scope, receive, send_marked)
        except Exception as error:  # which is answered already
            log.error("A request was not answered. %s", _failure(error))
        finally:
            served.counted.requests.labels(endpoint, str(status)).inc()
            if endpoint in _TAKEN:
                served.counted.seconds.labels(endpoint).observe(time.perf_counter() - began)

    def _refusal(self, request: Request, endpoint: str) -> RefusedError | None:
        try:
            # Not of `request.url`, which a Host that is none would break
            self._served.access.refuse_stranger(request.scope["path"], request.headers)
            if request.method != "POST" and _has_body(request):
                raise RefusedError(
                    400, f"{request.method} has no body here.", {"connection": "close"}
                )
            if endpoint in _TAKEN and self._served.stopping.is_stopping:
                raise RefusedError(503, "This is stopping; ask another.", {"retry-after": "1"})
        except RefusedError as refusal:
            return refusal
        return None


_TAKEN = frozenset({"infer", "predict"})


def _endpoint(path: str) -> str:
    if path.startswith("/v2/models/"):
        return "infer" if path.endswith("/infer") else "metadata"
    known = {
        "/v2": "metadata",
        "/predict": "predict",
        "/metrics": "metrics",
        **dict.fromkeys(("/health", "/ready", "/v2/health/live", "/v2/health/ready"), "health"),
    }
    return known.get(path, "other")


def _has_body(request: Request) -> bool:
    length = request.headers.get("content-length", "0")
    return length != "0" or "transfer-encoding" in request.headers


__all__ = ["Served", "make_app"]
