"""Metrics of texts that a model writes from others, such as translations.

BLEU: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002,
with words and exponential smoothing as sacrebleu has them by default (Post, "A Call for Clarity in
Reporting BLEU Scores", WMT 2018, arXiv 1804.08771). chrF: Popovic, "chrF: character n-gram F-score
for automatic MT evaluation", WMT 2015. Both are functions of counts of n-grams summed over texts,
so that those of all institutions follow from their sums; a mean of institutions' BLEU is another
number. They are of what a model writes by itself; losses and right tokens are of each token after
the right ones before it.
"""

import functools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from confide.metrics.metric import Metric, table
from confide.metrics.outcomes.answers import FIGURES
from confide.metrics.outcomes.transcripts import EDITS, error_rates, said_metrics
from confide.metrics.pooling import total
from confide.metrics.sums import Figures, Sums, ratio

_WORDS, _LETTERS = 4, 6
"""Longest n-grams: of words in BLEU, of characters in chrF."""
_RECALL = 2.0**2
"""How much more recall counts than precision: beta squared, of chrF2."""
_LARGEST_LOSS = 100.0
_NATS = 6.0
"""Nats a token that a record adds at most once sums leave with noise."""
_LETTERS_A_TOKEN = 6
_BLEU = (
    "written words",
    "wanted words",
    *(f"right {n} words" for n in range(1, _WORDS + 1)),
    *(f"written {n} words" for n in range(1, _WORDS + 1)),
)
_CHRF = tuple(
    f"{figure} {n} letters"
    for n in range(1, _LETTERS + 1)
    for figure in ("written", "wanted", "right")
)
TEXT_FIGURES = (*FIGURES, *_BLEU, *_CHRF, *EDITS)
"""What a record adds: as an answer, then of :func:`bleu_counts`, :func:`chrf_counts` and
:func:`edit_counts`."""

# The words of mteval-v13a, by which sacrebleu counts
_ESCAPED = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}
_APART = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


@functools.lru_cache(maxsize=64)
def text_metrics(most_tokens: int) -> Mapping[str, Metric]:
    """Return the metrics of texts of at most so many tokens, by name; the loss decides."""
    tokens = float(most_tokens)
    of_tokens = dict(zip(FIGURES, (1.0, _NATS * tokens, tokens, tokens, 1.0), strict=True))
    figures = Figures(
        most={
            **of_tokens,
            **dict.fromkeys(_BLEU, tokens),
            **dict.fromkeys(_CHRF, _LETTERS_A_TOKEN * tokens),
            **dict.fromkeys(EDITS[:2], tokens),
            **dict.fromkeys(EDITS[2:], _LETTERS_A_TOKEN * tokens),
        }
    )
    make = functools.partial(figures.metric, of=FIGURES, statistic="texts")
    by_tokens = functools.partial(make, weighed_by="target_tokens")
    loss = ratio({"nll": 1}, {"tokens": 1})
    return table(
        by_tokens("target_nll", "min", loss, largest=math.inf),
        by_tokens("token_accuracy", "max", ratio({"right": 1}, {"tokens": 1})),
        make("exact_match", "max", ratio({"exact": 1}, {"answers": 1})),
        figures.metric("bleu", "max", bleu, of=_BLEU, statistic="bleu", largest=100.0),
        figures.metric("chrf", "max", chrf, of=_CHRF, statistic="chrf", largest=100.0),
        # So that institutions' values count by their tokens
        replace(
            make("target_tokens", "max", lambda sums: max(sums["tokens"], 0.0), largest=2.0**53),
            pool_fn=total,
        ),
        # Of what is said, and for whoever names them
        *(
            replace(metric, reported=False)
            for metric in (*error_rates(figures), *said_metrics(figures))
        ),
    )


def words_of(text: str) -> list[str]:
    """Return the words of a text, and its marks, as BLEU counts them.

    >>> words_of("It cost 1,200, he said.")
    ['It', 'cost', '1,200', ',', 'he', 'said', '.']
    """
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for escaped, mark in _ESCAPED.items():
        text = text.replace(escaped, mark)
    text = f" {text} "
    for pattern, spaced in _APART:
        text = pattern.sub(spaced, text)
    return text.split()


def bleu_counts(written: str, wanted: str) -> list[int]:
    """Return what one text adds to BLEU: its words, those of the right one, and n-grams.

    Returns:
        Words of both texts, n-grams of 1 to 4 words of the written one that the other has too, and
        all of the written one's.
    """
    found, right = words_of(written), words_of(wanted)
    hits, counts = [], []
    for n in range(1, _WORDS + 1):
        mine, other = _ngrams(found, n), _ngrams(right, n)
        hits.append((mine & other).total())
        counts.append(mine.total())
    return [len(found), len(right), *hits, *counts]


def chrf_counts(written: str, wanted: str) -> list[int]:
    """Return what one text adds to chrF: for n-grams of 1 to 6 characters those written, there,
    and both; blanks are left out.
    """  # noqa: D205 - one sentence
    found, right = "".join(written.split()), "".join(wanted.split())
    counts = []
    for n in range(1, _LETTERS + 1):
        mine, other = _ngrams(found, n), _ngrams(right, n)
        # A right text that is shorter says nothing of longer n-grams
        counts += [mine.total() if other else 0, other.total(), (mine & other).total()]
    return counts


def _ngrams(items: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(items[at : at + n]) for at in range(len(items) - n + 1))


def bleu(sums: Sums) -> float | None:
    """Return BLEU, 0 to 100; None where there is no right text.

    >>> sums = dict(zip(_BLEU, bleu_counts("a b c d e", "a b c d e"), strict=True))
    >>> round(bleu(sums), 6)
    100.0
    """
    written, wanted = sums["written words"], sums["wanted words"]
    if not wanted > 0:
        return None
    smooth, logs = 1.0, 0.0
    for n in range(1, _WORDS + 1):
        there, right = sums[f"written {n} words"], sums[f"right {n} words"]
        if n == 1 and not right > 0:
            return 0.0
        if not there > 0:  # noise, or texts that short: sacrebleu says 0
            return 0.0
        # Not of their ratio, which of noisy sums may be rounded to 0
        logs -= math.log(there)
        if right > 0:
            logs += math.log(right)
        else:
            smooth *= 2
            logs -= math.log(smooth)
    # Noise may leave none, or more right words than there are
    brevity = min(0.0, 1 - wanted / written) if written > 0 else -math.inf
    return 100 * math.exp(min(0.0, brevity + logs / _WORDS))


def chrf(sums: Sums) -> float | None:
    """Return chrF2, 0 to 100; None where there is no right text.

    >>> sums = dict(zip(_CHRF, chrf_counts("abcdef", "abcdef"), strict=True))
    >>> chrf(sums)
    100.0
    """
    if not sums["wanted 1 letters"] > 0:
        return None
    shares = [
        (max(0.0, right) / written, max(0.0, right) / wanted)
        for written, wanted, right in (
            tuple(sums[f"{figure} {n} letters"] for figure in ("written", "wanted", "right"))
            for n in range(1, _LETTERS + 1)
        )
        if written > 0 and wanted > 0
    ]
    if not shares:
        return 0.0
    precision, recall = (sum(part) / len(shares) for part in zip(*shares, strict=True))
    if not precision + recall > 0:
        return 0.0
    score: float = (1 + _RECALL) * precision * recall / (_RECALL * precision + recall)
    return min(100.0, 100 * score)


__all__ = [
    "TEXT_FIGURES",
    "bleu",
    "bleu_counts",
    "chrf",
    "chrf_counts",
    "text_metrics",
    "words_of",
]
