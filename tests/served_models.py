"""Served models: an application in this process, and `confide serve` as a process of its own."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp

from confide.config.client import TrainerConfig
from confide.inference.predictor import Predictor, load_predictor
from confide.models.compute import make_compute
from confide.models.language.writing import WritingOptions
from confide.serving.access import Access
from confide.serving.app import Served, make_app
from confide.serving.build import build_served
from confide.serving.identity import identity_of
from confide.serving.limits import Limits

BASE = "http://localhost"
_STARTS_S = 120


def loaded(run: Path | str) -> Predictor:
    """Load a model as the command does."""
    compute = make_compute(TrainerConfig(device="cpu", feature_cache=None))
    return replace(load_predictor(Path(run), compute=compute), most_rows=1)


def served(run: Path | str, limits: Limits | None = None, *, token: str | None = None) -> Served:
    predictor = loaded(run)
    return build_served(
        predictor,
        identity_of(predictor, Path(run), None),
        limits=limits or Limits(),
        access=Access(token, is_named=True),
        writing=WritingOptions(),
    )


@contextlib.contextmanager
def app_of(run: Path | str, limits: Limits | None = None) -> Iterator[tuple[ASGIApp, Served]]:
    """Give an application; its thread ends with the context."""
    one = served(run, limits)
    try:
        yield make_app(one), one
    finally:
        one.batcher.end()


def asked(app: ASGIApp, *requests: httpx.Request) -> list[httpx.Response]:
    """Send requests to an application, all at once."""

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            return await asyncio.gather(*map(client.send, requests))

    return asyncio.run(ask())


def request(method: str, path: str, **more: Any) -> httpx.Request:
    return httpx.Request(method, BASE + path, **more)


def infer(one: Served, columns: Mapping[str, Sequence[Any]], **more: Any) -> httpx.Request:
    """Ask for predictions by the protocol, each column as the model's metadata tells it."""
    inputs = [
        {"name": it.name, "datatype": it.datatype, "shape": [len(values)], "data": values}
        for it in one.signature.expected(columns)
        if (values := list(columns[it.name]))
    ]
    return request("POST", f"/v2/models/{one.identity.name}/infer", json={"inputs": inputs, **more})


def told(answer: httpx.Response) -> dict[str, list[Any]]:
    """Return the columns of an answer."""
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


class Process:
    """`confide serve` as a process.

    Attributes:
        process: it.
        url: where it answers.
        name: of the model.
        version: of the model.
    """

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process, self._log = process, log
        until = time.monotonic() + _STARTS_S
        while not (found := re.search(r"Serving (\S+), version (\w+), on (\S+)\.\n", self.log)):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(self.log)
            time.sleep(0.05)
        self.name, self.version, url = found.groups()
        self.url = url.rstrip("/")

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextlib.contextmanager
def serving(run: Path | str, *options: str, listen: str = "127.0.0.1:0") -> Iterator[Process]:
    """Run `confide serve`; it is killed at the end, if it still runs."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "confide.cli", "serve", str(run), "--listen", listen]
        with log.open("w") as file:
            process = subprocess.Popen(
                [*command, *options],
                stdout=file,
                stderr=file,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        try:
            yield Process(process, log)
        finally:
            process.kill()
            process.wait()


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    """Give a connection to a port of loopback."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(connection: Connection, path: str, body: bytes) -> tuple[int, Any]:
    """Send one request over a connection that stays, and return the status and the answer."""
    reader, writer = connection
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = re.search(r"content-length: (\d+)", answer)
    assert length is not None
    return int(answer.split()[1]), json.loads(await reader.readexactly(int(length[1])))
