"""What the generators of made-up populations have in common: a seed, and how many records."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.fields import setting

CHOSEN = "Chosen by its group: data/generator=NAME."
INSTITUTION_COLUMN = "institution"
"""Column of a made record that names who holds it."""
LABEL_COLUMN = "label"
"""Column of a made record that holds what is to be predicted."""


@dataclass
class GeneratorConfig:
    """A population made of a seed, whose institutions' records are made when they are asked for."""

    kind: str = setting("???", CHOSEN)
    seed: int = setting(
        0,
        "Seed of the population, whatever simulation.seed is: another one is other records.",
        ge=0,
        lt=2**63,
    )
    num_features: int = setting(10, "Number of columns x0, x1, ... of a record.", ge=1, le=10_000)
    num_records: int | None = setting(
        None,
        "Number of records of each institution; null: log-normal, another for each.",
        ge=1,
        le=10_000_000,
    )
    log_mean: float = setting(
        4.0, "Mean of the logarithm of the number of records above least.", ge=0, le=20
    )
    log_deviation: float = setting(1.0, "Standard deviation of that logarithm.", ge=0, le=10)
    least: int = setting(20, "Smallest number of records of an institution.", ge=1, le=10_000_000)
    most: int = setting(1000, "Largest number of records of an institution.", ge=1, le=10_000_000)

    @property
    def feature_columns(self) -> tuple[str, ...]:
        """Names of the columns of a record beside its label and its institution."""
        return tuple(f"x{i}" for i in range(self.num_features))

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.num_records is None and self.most < self.least:
            yield f"most={self.most} is below least={self.least}; raise it."


__all__ = ["CHOSEN", "INSTITUTION_COLUMN", "LABEL_COLUMN", "GeneratorConfig"]
