"""Asks an ASGI application in this process, as a client on this machine would."""

import asyncio
from collections.abc import Mapping

import httpx
from starlette.types import ASGIApp

BASE = "http://localhost:9108"


def asked(
    app: ASGIApp, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None
) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(ask())
