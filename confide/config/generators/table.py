"""The table of generators.

``GENERATORS`` is the one place that lists kinds; see docs/design/0055-generated-populations.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confide.config.generators.generator import GeneratorConfig
from confide.config.generators.linear import LinearGeneratorConfig
from confide.config.generators.logistic import LogisticGeneratorConfig
from confide.config.generators.synthetic import SyntheticConfig


@dataclass(frozen=True, kw_only=True)
class GeneratorKind:
    """A kind of generator: an entry of :data:`GENERATORS`.

    Attributes:
        schema: dataclass of its settings, ``kind`` among them.
        maker: dotted name of a function of the schema and of what institutions share
            (:data:`~confide.simulations.generators.source.MakerFn`); imported when first used.
        experiment: what is learnt of it where nothing else is said.
    """

    schema: type[GeneratorConfig]
    maker: str
    experiment: str


GENERATORS: dict[str, GeneratorKind] = {
    "synthetic": GeneratorKind(
        schema=SyntheticConfig,
        maker="confide.simulations.generators.synthetic.synthetic",
        experiment="synthetic",
    ),
    "logistic": GeneratorKind(
        schema=LogisticGeneratorConfig,
        maker="confide.simulations.generators.logistic.logistic",
        experiment="synthetic_logistic",
    ),
    "linear": GeneratorKind(
        schema=LinearGeneratorConfig,
        maker="confide.simulations.generators.linear.linear",
        experiment="synthetic_linear",
    ),
}
"""Kinds of generator, by name."""


def read_generator(plain: Mapping[str, Any]) -> GeneratorConfig:
    """Make a generator's settings of plain values, as ``RUN/config.yaml`` holds them.

    Args:
        plain: name of a setting -> its value, ``kind`` among them.
    """
    return GENERATORS[plain["kind"]].schema(**plain)


__all__ = ["GENERATORS", "GeneratorKind", "read_generator"]
