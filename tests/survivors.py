"""Invented people, some of whom have an event and some of whom are censored."""

import numpy
import pandas

K = 5


def people(count: int, seed: int = 0, *, decimals: int = 1) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return survival probabilities [n, K] and labels [n, 2] of people, censored ones among them.

    Some of those who live to the horizon are censored there; few decimals make many ties.
    """
    drawn = numpy.random.default_rng(seed)
    hazards = drawn.beta(1, 6, size=(count, 1)) * drawn.uniform(0.5, 1.5, size=(count, K))
    times = drawn.exponential(1 / (hazards.mean(axis=1) * 1.3)).round(decimals)
    ends = drawn.uniform(0, 2 * K, count).round(decimals)
    seen = times <= numpy.minimum(ends, K)
    at = numpy.minimum(numpy.minimum(times, ends), K)
    return (1 - hazards.clip(0, 0.99)).cumprod(axis=1), numpy.stack([at, seen], axis=1)


def patients(count: int, seed: int = 0) -> pandas.DataFrame:
    """Return patients of three centres, as a table of ``task=dialysis``."""
    drawn = numpy.random.default_rng(seed)
    age, begin = drawn.uniform(30, 90, count), drawn.uniform(0, 40, count)
    disease = drawn.choice(["congen", "diabetes", "hypert", "renal", "other"], count)
    rate = 0.03 * numpy.exp(0.05 * (age - 60) + 0.03 * (begin - 20) + 0.5 * (disease == "diabetes"))
    death, end = drawn.exponential(1 / rate), drawn.uniform(5, 60, count)
    return pandas.DataFrame(
        {
            "fac_disease": disease,
            "num_age": age.round(1),
            "num_begin": begin.round(2),
            "time": numpy.minimum(death, end).round(1),
            "event": (death <= end).astype(int),
            "centre": drawn.choice(["north", "south", "west"], count),
        }
    )
