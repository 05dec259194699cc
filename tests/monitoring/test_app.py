"""Who may read a page, with what, and how often files are read for it."""

import threading
from collections.abc import Iterable, Iterator

import pytest
from asgi_asked import asked
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from confide.deployment.checks import Finding, ok
from confide.monitoring.app import Side, make_app
from confide.monitoring.cached import Cached
from confide.monitoring.samples import Metered, Sample, exposition, families

TABLE = {
    "confide_a": Metered("gauge", "a state", ("name",)),
    "confide_b_total": Metered("counter", "a sum"),
}
SOUND = [ok("a", "runs"), Finding("b", "warning", "is slow")]


def metrics(value: float) -> Iterable[Metric]:
    samples: list[Sample] = [
        ("confide_a", ('odd "name"\n',), value),
        ("confide_b_total", (), None),
    ]
    return families(TABLE, samples)


def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse("x", headers={"content-security-policy": "default-src 'self'"})


def app(findings: list[Finding] = SOUND) -> ASGIApp:
    side = Side(
        snapshot_fn=lambda: 3.0,
        metrics_fn=metrics,
        health_fn=lambda _: findings,
        ready_fn=lambda _: findings,
        routes=[Route("/page", page)],
    )
    return make_app(side)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9108", "[::1]:9108", "LOCALHOST"])
def test_names_of_loopback_are_answered(host: str) -> None:
    assert asked(app(), "/metrics", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example:9108", "localhost.", "10.0.0.5:9108", "", ":80"],
)
def test_any_other_name_is_refused_on_every_path(host: str) -> None:
    for path in ("/metrics", "/health", "/ready", "/page", "/none"):
        answer = asked(app(), path, headers={"host": host})
        assert answer.status_code == 400
        assert "localhost" in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_but_reading_is_let_through(method: str) -> None:
    for path in ("/metrics", "/page"):
        answer = asked(app(), path, method=method)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_a_head_has_no_body() -> None:
    answer = asked(app(), "/metrics", method="HEAD")
    assert (answer.status_code, answer.content) == (200, b"")


def test_no_answer_may_be_kept_framed_or_read_by_another_origin() -> None:
    answers = [asked(app(), path) for path in ("/metrics", "/health", "/none")]
    answers.append(asked(app(), "/metrics", method="POST"))
    answers.append(asked(app(), "/metrics", headers={"host": "evil.example"}))
    for answer in answers:
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "access-control-allow-origin" not in answer.headers


def test_a_page_may_have_a_policy_of_its_own() -> None:
    answer = asked(app(), "/page")
    assert answer.headers.get_list("content-security-policy") == ["default-src 'self'"]


def test_metrics_are_text_that_prometheus_reads() -> None:
    answer = asked(app(), "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    (family,) = text_string_to_metric_families(answer.text)
    (sample,) = family.samples
    assert (family.type, sample.labels, sample.value) == ("gauge", {"name": 'odd "name"\n'}, 3.0)
    newer = asked(app(), "/metrics", headers={"accept": "application/openmetrics-text"})
    assert newer.headers["content-type"].startswith("application/openmetrics-text")
    assert newer.text.endswith("# EOF\n")


def test_a_value_that_no_table_has_is_a_mistake() -> None:
    with pytest.raises(KeyError, match="confide_c"):
        exposition(families(TABLE, [("confide_c", (), 1.0)]), "")


def test_warnings_leave_the_status_and_errors_change_it() -> None:
    body = {"status": "ok", "reasons": [], "warnings": ["b: is slow"]}
    for path in ("/health", "/ready"):
        answer = asked(app(), path)
        assert (answer.status_code, answer.json()) == (200, body)
        answer = asked(app([*SOUND, Finding("c", "error", "is down", "start it")]), path)
        assert answer.status_code == 503
        assert answer.json()["status"] == "failing"
        assert answer.json()["reasons"] == ["c: is down"]


def test_a_snapshot_is_read_once_a_second_for_however_many() -> None:
    reads: list[int] = []
    now = [0.0]

    def read() -> int:
        reads.append(1)
        return len(reads)

    cached = Cached(read, for_s=1.0, now_fn=lambda: now[0])
    readers = [threading.Thread(target=cached) for _ in range(50)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert cached() == 1
    now[0] = 0.99
    assert cached() == 1
    now[0] = 1.0
    assert (cached(), len(reads)) == (2, 2)


def test_a_reading_that_fails_is_tried_again() -> None:
    tries: Iterator[int | OSError] = iter([OSError("gone"), 7])

    def read() -> int:
        found = next(tries)
        if isinstance(found, OSError):
            raise found
        return found

    cached = Cached(read)
    with pytest.raises(OSError, match="gone"):
        cached()
    assert cached() == 7


def test_a_reason_with_a_path_that_is_no_text_is_told() -> None:
    answer = asked(app([Finding("log", "error", "/srv/k\udcff\x9b is damaged")]), "/ready")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["log: /srv/k\\udcff\\x9b is damaged"]
