"""Invented records of a ward, for tests of drift: the columns of small_models.TABLE."""

import csv
from pathlib import Path

import numpy


def write_ward(path: Path, *, seed: int, count: int = 200, older: float = 0.0) -> Path:
    """Write records of patients, ``older`` years older than others."""
    rng = numpy.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "pain", "state"])
        for age in rng.normal(45, 8, count) + older:
            told = "" if rng.random() < 0.03 else f"{age:.1f}"
            pain = "some" if rng.random() < 0.5 else "none"
            writer.writerow([told, pain, int(rng.random() < 0.4)])
    return path


__all__ = ["write_ward"]
