"""What kinds have in common whose units are tokens."""

from collections.abc import Mapping
from typing import ClassVar

from confide.explaining.network import Network
from confide.explaining.vocabulary import Vocabulary
from confide.inference.predictor import Predictor


class OfTokens:
    """Takes records apart by tokens.

    Args:
        predictor: whose task has a tokenizer.
        network: the same, whole.
        baseline: name of the token that stands for those that are left out.

    Raises:
        ConfigError: if a custom task names no tokenizer, or this has no such token.
    """

    baselines: ClassVar[Mapping[str, str]] = Vocabulary.baselines

    def __init__(self, predictor: Predictor, network: Network, baseline: str) -> None:
        self._predictor, self._network = predictor, network
        self._vocabulary = Vocabulary(predictor)
        self._fill = self._vocabulary.fill(baseline)


__all__ = ["OfTokens"]
