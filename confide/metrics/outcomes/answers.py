"""Metrics of answers, from what each record adds: sums over tokens and over answers.

All are of the tokens that a model finds likeliest one by one, each after the right ones before it
(teacher forcing). ROUGE-L is none of them: a model that repeats what it was just told would share
nearly all of an answer with it. It is told of answers that a model has written by itself, by
``confide predict``.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import replace

from confide.metrics.metric import Metric, table
from confide.metrics.pooling import geometric_mean, total
from confide.metrics.sums import Figures, Sums, ratio

FIGURES = ("answers", "nll", "tokens", "right", "exact")
"""What a record adds: 1; its negative log-likelihood, in nats; tokens, and those that are right;
whether all are."""
_STATISTIC = "answers"
_NATS = 6.0
"""Nats a token that a record adds at most once sums leave with noise: more than any language model
that has learnt the language takes on average."""
_LARGEST_NLL = 100.0


@functools.lru_cache(maxsize=64)
def answer_metrics(most_tokens: int) -> Mapping[str, Metric]:
    """Return the metrics of answers of at most so many tokens, by name; perplexity decides."""
    most = {
        "answers": 1.0,
        "nll": _NATS * most_tokens,
        "tokens": float(most_tokens),
        "right": float(most_tokens),
        "exact": 1.0,
    }
    figures = Figures(most=most)
    # One statistic for all of them: a second one would double what a record moves
    make = functools.partial(figures.metric, of=FIGURES, statistic=_STATISTIC)
    by_tokens = functools.partial(make, weighed_by="answer_tokens")
    return table(
        replace(
            by_tokens("perplexity", "min", perplexity, largest=math.exp(_LARGEST_NLL)),
            pool_fn=geometric_mean,
        ),
        by_tokens("nll", "min", ratio({"nll": 1}, {"tokens": 1}), largest=math.inf),
        by_tokens("token_accuracy", "max", ratio({"right": 1}, {"tokens": 1})),
        make("exact_match", "max", ratio({"exact": 1}, {"answers": 1})),
        # So that institutions' values count by their tokens
        replace(
            make("answer_tokens", "max", lambda sums: max(sums["tokens"], 0.0), largest=2.0**53),
            pool_fn=total,
        ),
    )


def perplexity(sums: Sums) -> float | None:
    """Return e to the mean negative log-likelihood of a token; None where there is no token.

    >>> perplexity({"nll": 0.0, "tokens": 4.0})
    1.0
    """
    mean = ratio({"nll": 1}, {"tokens": 1})(sums)
    return None if mean is None else math.exp(min(mean, _LARGEST_NLL))


__all__ = ["FIGURES", "answer_metrics", "perplexity"]
