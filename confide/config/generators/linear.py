"""Settings of a population of numbers with one true linear model, shifted at each institution."""

from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.generators.generator import CHOSEN, GeneratorConfig


@dataclass
class LinearGeneratorConfig(GeneratorConfig):
    """A number, by one true linear model that each institution shifts a little, and noise."""

    kind: str = setting("linear", CHOSEN, choices=("linear",))
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
    noise: float = setting(0.5, "Standard deviation of what no model can know.", ge=0, le=1000)


__all__ = ["LinearGeneratorConfig"]
