"""BLEU and chrF as functions of sums, beside sacrebleu."""

import random

import numpy
import pytest
import sacrebleu

from confide.metrics.outcomes.texts import (
    TEXT_FIGURES,
    bleu_counts,
    chrf_counts,
    text_metrics,
    words_of,
)
from confide.metrics.outcomes.transcripts import edit_counts

WORDS = ("the", "cat", "sat", "on", "mat.", "12,5", "3-4", "a&amp;b", "he said:", "(x)", "grün", "")
METRICS = text_metrics(32)


def drawn_texts(seed: int, count: int) -> tuple[list[str], list[str]]:
    """Draw texts to be written and what was written in their place."""
    draw = random.Random(seed)
    wanted = [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(count)]
    written = [
        " ".join(word for word in text.split() if draw.random() < 0.8)
        + draw.choice(("", " mat.", " ..."))
        for text in wanted
    ]
    return written, wanted


def tallies(written: list[str], wanted: list[str]) -> numpy.ndarray:
    rows = [
        [1, 2.0, 4, 3, 0, *bleu_counts(*pair), *chrf_counts(*pair), *edit_counts(*pair)]
        for pair in zip(written, wanted, strict=True)
    ]
    return numpy.array(rows, dtype=float)


def score(name: str, rows: numpy.ndarray) -> float | None:
    return METRICS[name].score_fn(rows, numpy.zeros(len(rows)))


@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("seed", range(8))
def test_scores_are_those_of_sacrebleu(seed: int, count: int) -> None:
    written, wanted = drawn_texts(seed, count)
    rows = tallies(written, wanted)
    assert rows.shape[1] == len(TEXT_FIGURES)
    bleu, chrf = (
        function(written, [wanted]).score
        for function in (sacrebleu.corpus_bleu, sacrebleu.corpus_chrf)
    )
    assert score("bleu", rows) == pytest.approx(bleu, abs=1e-9)
    assert score("chrf", rows) == pytest.approx(chrf, abs=1e-9)


@pytest.mark.parametrize(
    "text", ["a-b 3-4", "It's 1,200.50, no?", "x&quot;y <skipped>", "-\nz", ""]
)
def test_words_are_those_of_mteval(text: str) -> None:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    assert words_of(text) == Tokenizer13a()(text.rstrip()).split()


@pytest.mark.parametrize("name", ["bleu", "chrf", "target_nll", "exact_match"])
def test_sums_of_parts_score_as_all_together_and_a_mean_of_parts_does_not(name: str) -> None:
    rows = tallies(*drawn_texts(3, 30))
    parts = [rows[:5], rows[5:12], rows[12:]]
    summed = numpy.stack([part.sum(axis=0) for part in parts])
    assert score(name, summed) == pytest.approx(score(name, rows))
    if name in ("bleu", "chrf"):
        mean = sum((score(name, part) or 0.0) * len(part) for part in parts) / len(rows)
        assert mean != pytest.approx(score(name, rows), abs=1e-3)


@pytest.mark.parametrize("name", METRICS)
def test_noise_of_any_size_leaves_scores_in_their_range(name: str) -> None:
    metric = METRICS[name]
    assert metric.statistic is not None
    assert metric.estimate_fn is not None
    rows = tallies(*drawn_texts(0, 20))
    usable, targets = metric.statistic.usable_fn(rows, numpy.zeros(len(rows)))
    exact = metric.statistic.rows_fn(usable, targets)
    assert (numpy.linalg.norm(exact, axis=1) <= 1 + 1e-12).all()
    draw = numpy.random.default_rng(1)
    for scale in (0.0, 0.1, 10.0, 1e6):
        found = metric.estimate_fn(exact.sum(axis=0) + scale * draw.normal(size=exact.shape[1]))
        assert found is None or numpy.isfinite(found)
        if name in ("bleu", "chrf") and found is not None:
            assert 0 <= found <= 100


@pytest.mark.parametrize("name", METRICS)
def test_sums_of_any_institution_are_a_score_or_none(name: str) -> None:
    metric = METRICS[name]
    assert metric.statistic is not None
    assert metric.estimate_fn is not None
    # Smallest and largest that a tally may hold: their ratios are rounded to 0, or have no bound
    kinds = [0.0, 5e-324, 1e-300, 1.0, 2.0**53, -(2.0**53)]
    draw = random.Random(0)
    width = len(metric.statistic.counts_fn(0))
    for _ in range(3000):
        found = metric.estimate_fn(numpy.array(draw.choices(kinds, k=width)))
        assert found is None or not numpy.isnan(found)
        if name in ("bleu", "chrf") and found is not None:
            assert 0 <= found <= 100


def test_nothing_written_scores_nothing() -> None:
    rows = tallies([""], ["a b c d e"])
    assert (score("bleu", rows), score("chrf", rows)) == (0.0, 0.0)
