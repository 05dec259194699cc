"""Limits of a served model, and who may ask at all."""

import asyncio
from pathlib import Path

import pytest
from served_models import app_of, asked, infer, request, served
from small_models import save_table_run

from confide.errors import ConfigError
from confide.serving.access import Access, read_token
from confide.serving.app import make_app
from confide.serving.limits import Limits, Rate
from confide.serving.refusal import RefusedError

SOUND = {"age": [30.0], "pain": ["some"]}
TOKEN = "a token of twenty-four characters".replace(" ", "-")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_table_run(tmp_path_factory.mktemp("run"))


def test_more_a_second_than_one_address_may_ask_is_refused(run: Path) -> None:
    with app_of(run, Limits(rate=3.0)) as (app, one):
        answers = asked(app, *(infer(one, SOUND) for _ in range(5)))
        (about,) = asked(app, request("GET", "/v2"))
    statuses = [answer.status_code for answer in answers]
    assert statuses == [200, 200, 200, 429, 429]
    assert answers[-1].headers["retry-after"] == "1"
    assert about.status_code == 200  # only predictions are counted


def test_each_address_has_its_own_rate_and_a_bucket_fills_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("confide.serving.limits.time.monotonic", lambda: now[0])
    rate = Rate(2.0)
    for address in ("a", "b", "a", "b"):
        rate.refuse_more(address)
    with pytest.raises(RefusedError, match="More than 2 requests a second"):
        rate.refuse_more("a")
    now[0] = 0.5
    rate.refuse_more("a")
    with pytest.raises(RefusedError):
        rate.refuse_more("a")


def test_a_request_without_an_answer_in_time_is_told_so(run: Path) -> None:
    with app_of(run, Limits(timeout_s=0.02)) as (app, one):
        vars(one.batcher)["_answer_fn"] = lambda batch: asyncio.run(asyncio.sleep(0.2))
        (answer,) = asked(app, infer(one, SOUND))
    assert answer.status_code == 504
    assert "No answer within 0.02 s (--timeout)" in answer.json()["error"]


def test_a_sender_may_wait_for_less(run: Path) -> None:
    with app_of(run) as (app, one):
        vars(one.batcher)["_answer_fn"] = lambda batch: asyncio.run(asyncio.sleep(0.2))
        (answer,) = asked(app, infer(one, SOUND, parameters={"timeout": 10_000}))
    assert "No answer within 0.01 s" in answer.json()["error"]


def test_a_full_queue_is_told_before_the_body_is_read(run: Path) -> None:
    with app_of(run, Limits(waiting=1)) as (app, one):
        vars(one.batcher)["_most_waiting"] = 0
        (answer,) = asked(app, infer(one, SOUND))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


def test_one_that_stops_refuses_and_says_that_it_is_not_ready(run: Path) -> None:
    with app_of(run) as (app, one):
        before = asked(app, *(request("GET", path) for path in ("/ready", "/v2/health/ready")))
        one.stopping.stop()
        sent = [infer(one, SOUND), *(request("GET", path) for path in ("/ready", "/health"))]
        refused, ready, health = asked(app, *sent)
    assert [answer.status_code for answer in before] == [200, 200]
    assert (refused.status_code, ready.status_code, health.status_code) == (503, 503, 200)
    assert refused.headers["connection"] == "close"


def test_metrics_count_by_what_was_asked_and_its_status(run: Path) -> None:
    with app_of(run) as (app, one):
        asked(app, infer(one, SOUND), infer(one, {"age": [1.0], "pain": ["sharp"]}))
        asked(app, request("GET", "/secret-path"))
        (metrics,) = asked(app, request("GET", "/metrics"))
    for line in [
        'confide_serve_requests_total{endpoint="infer",status="200"} 1.0',
        'confide_serve_requests_total{endpoint="infer",status="400"} 1.0',
        'confide_serve_requests_total{endpoint="other",status="404"} 1.0',
        "confide_serve_batch_records_sum 2.0",
        'confide_serve_model_info{model="tabular-logistic",version="'
        f'{one.identity.version}"}} 1.0',
    ]:
        assert line in metrics.text.splitlines()
    assert "secret" not in metrics.text


# --- a token


def test_without_the_token_only_health_is_told(run: Path) -> None:
    one = served(run, token=TOKEN)
    app = make_app(one)
    paths = ["/health", "/ready", "/v2/health/live", "/v2/health/ready"]
    closed = ["/v2", "/metrics", f"/v2/models/{one.identity.name}", "/none"]
    answers = asked(app, *(request("GET", path) for path in [*paths, *closed]))
    assert [answer.status_code for answer in answers] == [200] * 4 + [401] * 4
    for given in ("", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"):
        (answer,) = asked(app, request("GET", "/v2", headers={"authorization": given}))
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    sent = infer(one, SOUND)
    sent.headers["authorization"] = f"Bearer {TOKEN}"
    sent.headers["host"] = "any.example"  # the token says who asks
    assert asked(app, sent)[0].status_code == 200
    one.batcher.end()


def test_two_tokens_are_none() -> None:
    from starlette.datastructures import Headers

    two = Headers(raw=[(b"authorization", f"Bearer {TOKEN}".encode())] * 2)
    with pytest.raises(RefusedError, match="Expected Authorization"):
        Access(TOKEN, is_named=True).refuse_stranger("/v2", two)


def test_a_token_is_read_from_a_file_of_this_user_alone(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    assert read_token(file) == TOKEN
    for mode in (0o640, 0o604, 0o660):
        file.chmod(mode)
        with pytest.raises(ConfigError, match=f"mode={mode:o}.*chmod 600"):
            read_token(file)


@pytest.mark.parametrize("content", ["", "short", "two words of some length each", "é" * 30])
def test_what_is_no_token_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="expected one word of 20 to 4096 ASCII"):
        read_token(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(tmp_path / "none")
