"""Word and character error rates as functions of sums."""

import math
import random

import numpy
import pytest

from confide.config.tasks.table import known_metrics
from confide.metrics.floor import Floor
from confide.metrics.outcomes.transcripts import FIGURES, edits, transcript_metrics
from confide.metrics.tally import ScoreTally
from confide.protocol.messages import Reply, pack_reply, unpack_reply
from confide.tasks.outcomes.transcript import transcript_figures

METRICS = transcript_metrics(40)


def slow_edits(one: str, other: str) -> int:
    """Levenshtein's recursion, cell by cell."""
    row = list(range(len(one) + 1))
    for count, item in enumerate(other, start=1):
        before, row = row, [count]
        for place, own in enumerate(one):
            row.append(min(before[place + 1] + 1, row[-1] + 1, before[place] + (own != item)))
    return row[-1]


def test_edits_are_levenshteins() -> None:
    draw = random.Random(0)
    for _ in range(300):
        pair = ["".join(draw.choices("abc", k=draw.randint(0, 9))) for _ in range(2)]
        assert edits(*pair) == slow_edits(*pair)


def tallies(count: int) -> numpy.ndarray:
    draw = random.Random(1)
    texts = [
        [" ".join(draw.choices(("one", "two", "ten"), k=draw.randint(1, 6))) for _ in range(2)]
        for _ in range(count)
    ]
    return numpy.array([transcript_figures(one, other, 1.5) for one, other in texts], float)


def score(name: str, rows: numpy.ndarray) -> float | None:
    return METRICS[name].score_fn(rows, numpy.zeros(len(rows)))


def test_rates_are_of_all_words_and_not_means_of_rates() -> None:
    rows = numpy.array(
        [transcript_figures("a", "a b c d", 0.0), transcript_figures("b b", "a", 0.0)], float
    )
    assert score("wer", rows) == pytest.approx((3 + 2) / 5)
    assert score("cer", rows) == pytest.approx((6 + 3) / 8)
    assert score("exact_match", rows) == 0


@pytest.mark.parametrize("name", ["wer", "cer", "exact_match", "transcript_loss"])
@pytest.mark.parametrize("cut", [1, 7, 19])
def test_sums_of_any_split_make_the_metric_of_all(name: str, cut: int) -> None:
    rows = tallies(20)
    metric = METRICS[name]
    assert metric.statistic is not None
    assert metric.statistic.exact_fn is not None
    assert metric.estimate_fn is not None
    assert metric.sums_fn is not None
    told = [
        metric.statistic.exact_fn(
            *metric.statistic.usable_fn(part, numpy.zeros(len(part))), Floor()
        )
        for part in (rows[:cut], rows[cut:])
    ]
    assert all(one is not None for one in told)
    sums = numpy.sum([one for one in told if one is not None], axis=0)
    tally = ScoreTally(sums={metric.statistic.name: sums.tolist()})
    found = metric.sums_fn(tally)
    assert found is not None
    assert metric.estimate_fn(found) == pytest.approx(score(name, rows), abs=1e-4)


def test_a_row_of_any_record_is_at_most_one() -> None:
    wild = numpy.full((3, len(FIGURES)), 1e9)
    wild[1] = numpy.nan
    for metric in METRICS.values():
        assert metric.statistic is not None
        rows = metric.statistic.rows_fn(*metric.statistic.usable_fn(wild, numpy.zeros(3)))
        assert numpy.linalg.norm(rows, axis=1).max() <= 1 + 1e-12


@pytest.mark.parametrize(("written", "loss"), [("", 126.4), ("ab" * 400, 1072.0)])
def test_what_a_bad_model_scores_is_a_valid_reply(written: str, loss: float) -> None:
    row = numpy.array([transcript_figures(written, "three", loss)])
    found = {name: metric.score_fn(row, row) for name, metric in METRICS.items()}
    told = {"validation": {**found, "num_examples": 1}}
    reply = Reply(institution="ward", num_examples=1, evaluations=told)
    assert unpack_reply(pack_reply(reply)).evaluations == told


@pytest.mark.parametrize(
    "name", ["log_loss", "token_loss", "next_item_loss", "target_nll", "nll", "transcript_loss"]
)
def test_no_mean_loss_has_an_end(name: str) -> None:
    """An exact one is not cut: with a bound an institution's update would be lost for it."""
    assert known_metrics()[name].largest == math.inf
