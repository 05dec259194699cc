"""A page is for the user who runs it; what monitoring agents ask for is for every user."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from boards_made import coordinator, institution, serving
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from confide.client.monitoring.site import make as make_institution
from confide.errors import ConfigError
from confide.monitoring import peer
from confide.monitoring.address import listening
from confide.server.monitoring.site import make as make_coordinator

NOBODY = 65534
ASK = """import http.client, sys
for path in sys.argv[2:]:
    asked = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
    asked.request("GET", path)
    answer = asked.getresponse()
    print(path, answer.status, answer.read().decode()[:60].replace("\\n", " "))
"""


def told(request: Request) -> Response:
    return PlainTextResponse(str(peer.asker(request)))


def test_the_kernel_tells_who_asks() -> None:
    with serving(Starlette(routes=[Route("/", told)])) as address:
        assert httpx.get(address).text == str(os.geteuid())


def test_the_kernel_tells_who_asks_by_ipv6() -> None:
    try:
        with listening("[::1]:0"):
            pass
    except ConfigError:
        pytest.skip("this machine has no IPv6")
    with serving(Starlette(routes=[Route("/", told)]), "[::1]:0") as address:
        assert httpx.get(address).text == str(os.geteuid())


def test_where_the_kernel_tells_nothing_the_page_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "_TABLES", {4: tmp_path / "none", 6: tmp_path / "none"})
    kit = institution(tmp_path / "kit")
    with serving(make_institution(kit.folder, [])) as address:
        answer = httpx.get(address)
        assert answer.status_code == 403
        assert "is for the user" in answer.text
        assert httpx.get(f"{address}/metrics").status_code == 200


def test_a_socket_that_its_user_alone_may_use_shows_the_page(tmp_path: Path) -> None:
    kit = institution(tmp_path / "kit")
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    with (
        serving(make_institution(kit.folder, []), f"unix:{folder}/page.sock"),
        httpx.Client(transport=httpx.HTTPTransport(uds=f"{folder}/page.sock")) as client,
    ):
        assert client.get("http://localhost/").status_code == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed: only root can be one")
def test_another_user_reads_metrics_and_no_page(tmp_path: Path) -> None:
    sides = (
        make_institution(institution(tmp_path / "kit").folder, []),
        make_coordinator(coordinator(tmp_path).folder, []),
    )
    for app in sides:
        with serving(app) as address:
            port = address.rpartition(":")[2]
            python = shutil.which("python3", path="/usr/bin") or sys.executable
            asked = subprocess.run(
                [python, "-c", ASK, port, "/", "/runs/0123", "/metrics", "/style.css"],
                user=NOBODY,
                group=NOBODY,
                cwd="/",
                env={},
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            page, report, metrics, style = asked.stdout.splitlines()
            assert page.startswith("/ 403 This page is for the user root")
            assert report.split()[1] in ("403", "404")
            assert metrics.split()[1] == style.split()[1] == "200"
