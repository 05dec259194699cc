"""Invented profiles of records, for tests of drift."""

import numpy

from confide.client.drift.kept import Categories, numbers_of
from confide.client.drift.profile import Profile


def profile(seed: int, records: int = 300, *, shift: float = 0.0, ill: float = 0.3) -> Profile:
    """Invent records of two columns and a model's answers."""
    rng = numpy.random.default_rng(seed)
    sick = int(rng.binomial(records, ill))
    lacking = records // 50
    scored = min(records, 300)
    stated = rng.uniform(0.5, 1, size=(scored, 1))
    return Profile(
        model_sha256="ab" * 32,
        source="invented",
        made=0.0,
        records=records,
        columns={
            "age": numbers_of(rng.normal(size=records - lacking) + shift, rng, missing=lacking),
            "sex": Categories({"f": records // 2, "m": records - records // 2}),
        },
        predictions={"score": numbers_of(rng.uniform(size=records), rng)},
        labels={"state": Categories({"ill": sick, "well": records - sick})},
        features=rng.normal(size=(scored, 4)),
        losses=rng.exponential(size=scored),
        stated=stated,
        came_true=(rng.random((scored, 1)) < stated).astype(float),
        metrics={"accuracy": 0.8},
        primary_metric="accuracy",
    )


__all__ = ["profile"]
