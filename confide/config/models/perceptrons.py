"""Models of rows that start at random: linear, additive, multi-layer."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from confide.config.fields import setting
from confide.config.models.backbone import BackboneConfig
from confide.config.tunings.tuning import TuningConfig

# A plan may come from anybody: a model that it describes by its widths has to have some bound.
_MOST_LAYERS, _WIDEST_LAYER, _MOST_PAIRS = 64, 10_000_000, 64


@dataclass
class LogisticConfig(BackboneConfig):
    """Multinomial logistic regression on the encoded columns."""

    is_linear: ClassVar[bool] = True

    kind: str = setting("logistic", "Kind of backbone.", choices=("logistic",))

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model."""
        return "a logistic regression"


@dataclass
class AdditiveConfig(LogisticConfig):
    """A sum of one curve a column, and of one surface for each pair of columns that is named.

    A logistic regression that starts at zero, and whose pairs are products of the columns' inputs
    (generalised additive models with pairwise interactions: Lou et al., KDD 2013).
    """

    kind: str = setting("additive", "Kind of backbone.", choices=("additive",))
    pairs: list[list[str]] = setting(
        list,
        "Pairs of columns that have a surface beside their two curves, such as [[age, sex]]: their"
        " inputs multiplied, as long as the geometric mean of both.",
    )

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model and its pairs."""
        surfaces = f" and {len(self.pairs)} pairs of columns" if self.pairs else ""
        return f"an additive model, a sum of one curve a column{surfaces}"

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        for pair in self.pairs:
            if len(pair) != 2 or pair[0] == pair[1]:
                yield f"pairs={pair}: expected two columns."
        if len({frozenset(pair) for pair in self.pairs}) < len(self.pairs):
            yield f"pairs={self.pairs}: two of them are one pair; leave one out."
        if len(self.pairs) > _MOST_PAIRS:
            yield f"pairs: expected at most {_MOST_PAIRS}, got {len(self.pairs)}."


@dataclass
class MlpConfig(BackboneConfig):
    """A multi-layer perceptron on the encoded columns, ReLU between layers."""

    kind: str = setting("mlp", "Kind of backbone.", choices=("mlp",))
    hidden: list[int] = setting(lambda: [32], "Width of each hidden layer.")

    def describe(self, tuning: TuningConfig) -> str:
        """Name the model and its widths."""
        widths = [str(width) for width in self.hidden]
        # "64", "64 and 32", "64, 32 and 16"
        listed = " and ".join(filter(None, (", ".join(widths[:-1]), widths[-1])))
        return f"a perceptron with hidden layers of {listed}"

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if not self.hidden or not 1 <= min(self.hidden) <= max(self.hidden) <= _WIDEST_LAYER:
            yield (
                f"hidden={self.hidden}: expected widths of 1 to {_WIDEST_LAYER}; for none choose"
                " backbone=logistic."
            )
        if len(self.hidden) > _MOST_LAYERS:
            yield f"hidden: expected at most {_MOST_LAYERS} layers, got {len(self.hidden)}."


__all__ = ["AdditiveConfig", "LogisticConfig", "MlpConfig"]
