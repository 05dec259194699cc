"""Which tensors a run keeps, and when it stops for want of a better score."""

import math
from typing import Any

import pytest
from fake_institutions import Fake, Listener, Score, accuracy, end, loss, make_job, run

from confide.server.rounds.state import mean_metric

pytestmark = pytest.mark.usefixtures("identity")


def test_validation_of_a_round_belongs_to_the_tensors_it_began_with() -> None:
    outcome = run([Fake("a", score=loss)], rounds=4)
    assert [record.validation["a"]["log_loss"] for record in outcome.state.history] == [
        4.0,
        1.0,
        0.0,
        1.0,
    ]


@pytest.mark.parametrize(
    ("metric", "score", "value"), [("log_loss", loss, 0.0), ("accuracy", accuracy, 1.0)]
)
def test_best_model_follows_the_metrics_direction(metric: str, score: Score, value: float) -> None:
    best = run([Fake("a", score=score)], rounds=5, job=make_job(metric)).state.best
    assert best is not None
    assert (best.server_round, best.value) == (2, value)
    assert best.params["w"].tolist() == [2.0, 2.0]


def test_last_tensors_may_be_the_best() -> None:
    best = run([Fake("a", score=loss)], rounds=2).state.best
    assert best is not None
    assert best.server_round == 2


def test_keep_best_returns_and_tests_the_best_tensors() -> None:
    fake, listener = Fake("a", score=loss), Listener()
    job = make_job(keep="best", observers=[listener])
    outcome = run([fake], rounds=4, job=job)
    assert outcome.kept_round == 2
    assert outcome.kept["w"].tolist() == [2.0, 2.0]
    assert end(outcome) == [4.0, 4.0]
    assert outcome.test == {"a": {"log_loss": 0.0, "num_examples": 4}}
    assert [(split, r) for split, r, _ in listener.scores] == [("validation", 4), ("test", 2)]


def test_keep_last_returns_and_tests_the_last_tensors() -> None:
    job = make_job(keep="last")
    outcome = run([Fake("a", score=loss)], rounds=4, job=job)
    assert outcome.kept_round == 4
    assert outcome.kept["w"].tolist() == [4.0, 4.0]
    assert outcome.test == {"a": {"log_loss": 4.0, "num_examples": 4}}


def test_keep_best_without_validation_keeps_the_last() -> None:
    job = make_job(keep="best")
    assert run([Fake("a")], rounds=3, job=job).kept["w"].tolist() == [3.0, 3.0]


@pytest.mark.parametrize(("patience", "rounds"), [(1, 4), (2, 5)])
def test_run_stops_when_patience_runs_out(patience: int, rounds: int) -> None:
    # Round 3 finds the best, those of round 2; rounds 4 and 5 find worse.
    outcome = run([Fake("a", score=loss)], rounds=10, job=make_job(patience=patience))
    assert outcome.stopped_early
    assert outcome.state.server_round == rounds
    assert outcome.state.best is not None
    assert outcome.state.best.server_round == 2


def test_better_score_renews_patience() -> None:
    scores = [5.0, 6.0, 4.0, 5.0, 6.0, 7.0]
    fake = Fake("a", score=lambda tensors: {"log_loss": scores[int(tensors["w"][0])]})
    assert run([fake], rounds=10, job=make_job(patience=2)).state.server_round == 5


def test_run_without_patience_goes_on_to_the_end() -> None:
    outcome = run([Fake("a", score=loss)], rounds=10)
    assert not outcome.stopped_early
    assert outcome.state.server_round == 10


def test_nan_is_never_best_and_uses_up_patience() -> None:
    outcome = run(
        [Fake("a", score=lambda t: {"log_loss": math.nan})], rounds=10, job=make_job(patience=3)
    )
    assert outcome.state.best is None
    assert outcome.state.server_round == 3


def test_mean_metric_is_weighted_by_support() -> None:
    scores = {
        "b": {"auc": 0.5, "num_examples": 1},
        "a": {"auc": 0.9, "num_examples": 3},
        "c": {"num_examples": 100},
    }
    assert mean_metric(scores, "auc") == pytest.approx(0.8)
    assert mean_metric(scores, "accuracy") is None
    assert mean_metric({"a": {"auc": 0.9, "num_examples": 0}}, "auc") is None


@pytest.mark.parametrize("settings", [{"keep": "best"}, {"patience": 2}])
def test_metric_that_nobody_can_tell_is_named_once_and_ends_no_run(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody has both classes: there are accuracies, and no AUC."""
    outcome = run([Fake("a", score=accuracy)], rounds=5, job=make_job("auc", **settings))
    assert outcome.state.server_round == 5
    assert outcome.kept["w"].tolist() == [5.0, 5.0]
    told = [text for text in caplog.messages if "task.primary_metric=auc: no institution's" in text]
    assert len(told) == 1
    assert f"server.{next(iter(settings))}" in told[0]


def test_metric_that_one_institution_can_tell_is_no_lack(caplog: pytest.LogCaptureFixture) -> None:
    fakes = [Fake("a", score=accuracy), Fake("b", score=lambda _: {"auc": 0.5, "accuracy": 1.0})]
    run(fakes, rounds=2, job=make_job("auc", keep="best"))
    assert "primary_metric" not in caplog.text
