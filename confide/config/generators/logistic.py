"""Settings of a population of two classes with one true model, shifted at each institution."""

from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.generators.generator import CHOSEN, GeneratorConfig


@dataclass
class LogisticGeneratorConfig(GeneratorConfig):
    """Two classes, drawn by one true logistic regression that each institution shifts a little."""

    kind: str = setting("logistic", CHOSEN, choices=("logistic",))
    shift: float = setting(
        0.5,
        "How much an institution differs: the standard deviation of each coefficient, and of the"
        " centre of its records, around everybody's.",
        ge=0,
        le=1000,
    )
    signal: float = setting(
        2.0, "Length of everybody's coefficients: with 0 nothing can be learnt.", ge=0, le=1000
    )


__all__ = ["LogisticGeneratorConfig"]
