"""Scores with noise at the coordinator: pooled, held against ranges, and shown with their noise."""

import math

import pytest
from fake_institutions import START, Fake, loss, make_job, run

from confide.errors import ProtocolError
from confide.protocol.messages import Reply, pack_reply, unpack_reply
from confide.protocol.tensors import decode, shapes_of
from confide.server.report.intervals import interval, wilson
from confide.server.rounds.state import mean_metrics

A = {"accuracy": 0.5, "accuracy_noise": 0.03, "num_examples": 10}
B = {"accuracy": 0.7, "accuracy_noise": 0.04, "num_examples": 30}


def test_noise_of_a_mean_is_that_of_independent_parts() -> None:
    pooled = mean_metrics({"a": A, "b": B})
    assert pooled == {
        "accuracy": pytest.approx(0.65),
        "accuracy_noise": pytest.approx(math.hypot(0.3, 1.2) / 40),
        "num_examples": 40,
    }


def test_exact_part_has_no_noise_and_counts_all_the_same() -> None:
    exact = {"accuracy": 0.5, "num_examples": 10}
    assert mean_metrics({"a": exact, "b": B})["accuracy_noise"] == pytest.approx(1.2 / 40)
    assert "accuracy_noise" not in mean_metrics({"a": exact})


@pytest.mark.parametrize("noise", [-0.1, 1e300, math.nan])
def test_noise_that_is_none_is_refused(noise: float) -> None:
    reply = Reply(
        institution="a", num_examples=10, evaluations={"validation": A | {"accuracy_noise": noise}}
    )
    with pytest.raises(ProtocolError, match="accuracy_noise"):
        unpack_reply(pack_reply(reply))


def test_interval_covers_noise_and_records() -> None:
    low, high = interval("accuracy", 0.5, 100, 0.05) or (0.0, 0.0)
    assert (low + high) / 2 == pytest.approx(0.5)
    assert (high - low) / 2 == pytest.approx(1.96 * math.hypot(0.05, 0.05), rel=1e-4)
    assert interval("accuracy", 0.5, 100) == wilson(0.5, 100)
    assert interval("accuracy", 0.99, 100, 0.5) == (pytest.approx(0.0, abs=0.1), 1.0)
    assert interval("auc", 0.5, 100, 0.1) == pytest.approx((0.304, 0.696), abs=1e-3)
    assert interval("auc", 0.5, 100) is None


@pytest.mark.usefixtures("identity")
@pytest.mark.parametrize(("keep", "kept"), [("best", 2.0), ("last", 3.0)])
def test_test_records_are_scored_once_by_the_model_that_is_kept(keep: str, kept: float) -> None:
    fake = Fake("a", score=loss)  # 0, 1, 2, 3; 2 is the best
    run([fake], rounds=3, job=make_job(keep=keep))
    tested = [request for kind, request in fake.asked if "test" in request.splits]
    assert len(tested) == 1
    assert tested[0].arrays is not None
    scored = decode(tested[0].arrays, shapes_of(START), max_value=1e6).tensors
    assert scored["w"].tolist() == [kept, kept]


@pytest.mark.usefixtures("identity")
def test_epsilon_of_the_last_scores_is_told() -> None:
    fake = Fake("a", figures={"epsilon": 1.0}, epsilon_of_scores=1.5)
    outcome = run([fake])
    assert outcome.state.history[-1].epsilon == {"a": 1.0}
    assert outcome.epsilon == {"a": 1.5}


@pytest.mark.usefixtures("identity")
def test_best_model_and_patience_say_why_they_cannot_act_without_scores(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcome = run([Fake("a")], job=make_job(keep="best", patience=1))
    assert (outcome.stopped_early, outcome.kept_round) == (False, outcome.state.server_round)
    assert "server.patience cannot act" in caplog.text
    assert "the last model is kept" in caplog.text
