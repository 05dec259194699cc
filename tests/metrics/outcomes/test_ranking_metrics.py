"""Ranks of a whole catalogue: ties shared, sums exact, a diverged model worst."""

import math

import numpy
import pytest
import torch

from confide.metrics.outcomes.ranking import RANKING, RANKS
from confide.tasks.item_ranks import expected_ranks, place_figures


def tallies(scores: torch.Tensor, targets: torch.Tensor) -> numpy.ndarray:
    figures = place_figures(expected_ranks(scores, targets))
    ones = torch.ones((len(figures), 1))
    return torch.cat([ones, figures, ones], dim=1).double().numpy()


def test_a_rank_is_the_number_of_items_above_and_half_of_those_alike() -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0], [1.0, 1.0, 0.0], [5.0, 5.0, 5.0]])
    assert expected_ranks(scores, torch.tensor([1, 0, 2])).tolist() == [1.0, 0.5, 1.0]


def test_metrics_are_those_of_the_definitions() -> None:
    scores = torch.randn((50, 40), generator=torch.Generator().manual_seed(0))
    targets = torch.arange(50) % 40
    pairs = zip(scores, targets, strict=True)
    places = [(row.argsort(descending=True) == t).nonzero().item() for row, t in pairs]
    told = tallies(scores, targets)
    values = {name: RANKING[name].score_fn(told, numpy.zeros(50)) for name in RANKING}
    hits = [place < 10 for place in places]
    assert values["hit_rate_10"] == pytest.approx(numpy.mean(hits))
    assert values["ndcg_10"] == pytest.approx(
        numpy.mean([hit / math.log2(place + 2) for hit, place in zip(hits, places, strict=False)])
    )
    assert values["mrr"] == pytest.approx(numpy.mean([1 / (place + 1) for place in places]))


def test_a_model_that_scores_all_alike_hits_nothing() -> None:
    told = tallies(torch.zeros(20, 1000), torch.arange(20))
    assert RANKING["hit_rate_10"].score_fn(told, numpy.zeros(20)) == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_model_ranks_last(value: float) -> None:
    scores = torch.zeros(1, 30)
    scores[0, 3] = value
    assert expected_ranks(scores, torch.tensor([3])).tolist() == [30.0]


def test_sums_of_halves_add_up_to_the_whole_and_noise_sees_short_rows() -> None:
    told = tallies(torch.randn(31, 12), torch.arange(31) % 12)
    whole, parts = RANKS.named(told), [RANKS.named(told[:7]), RANKS.named(told[7:])]
    assert whole == {name: pytest.approx(sum(one[name] for one in parts)) for name in whole}
    for metric in RANKING.values():
        statistic = metric.statistic
        assert statistic is not None
        usable, _ = statistic.usable_fn(told, numpy.zeros(31))
        rows = statistic.rows_fn(usable, numpy.zeros(31))
        assert numpy.linalg.norm(rows, axis=1).max() <= 1 + 1e-9
        assert metric.estimate_fn is not None
        assert metric.estimate_fn(rows.sum(axis=0)) == pytest.approx(
            metric.score_fn(told, numpy.zeros(31))
        )
