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


def test_concordance_is_pooled_by_pairs_and_pairs_add_up() -> None:
    large = {"c_index": 0.6, "comparable_pairs": 900.0, "num_examples": 50}
    small = {"c_index": 1.0, "comparable_pairs": 100.0, "num_examples": 50}
    none = {"comparable_pairs": 0.0, "num_examples": 50}
    pooled = mean_metrics({"a": large, "b": small, "c": none})
    # 540 and 100 concordant pairs of 1,000
    assert pooled["c_index"] == pytest.approx(0.64)
    assert pooled["comparable_pairs"] == 1000
    # One institution keeps its pairs to itself: then all are weighed by their records
    pooled = mean_metrics({"a": large, "b": {"c_index": 1.0, "num_examples": 50}})
    assert pooled["c_index"] == pytest.approx(0.8)


def test_noise_of_a_total_adds_up_and_that_of_concordance_is_weighed_by_pairs() -> None:
    one = {"c_index": 0.6, "c_index_noise": 0.03, "comparable_pairs": 900.0}
    other = {"c_index": 1.0, "c_index_noise": 0.2, "comparable_pairs": 100.0}
    noise = {"comparable_pairs_noise": 30.0, "num_examples": 50}
    other_noise = {"comparable_pairs_noise": 40.0, "num_examples": 50}
    pooled = mean_metrics({"a": one | noise, "b": other | other_noise})
    assert pooled["comparable_pairs_noise"] == pytest.approx(50)
    assert pooled["c_index_noise"] == pytest.approx(math.hypot(0.027, 0.02))
