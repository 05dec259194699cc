"""A pretrained encoder that is not trained, and the features it computes of texts."""

import functools
from pathlib import Path

from confide.config.models.transformer import TransformerConfig
from confide.models.backbones import content_hash, load_encoder, load_settings, loading
from confide.models.compute import Compute
from confide.models.encoders.features import FeatureCache
from confide.models.networks import TextClassifier

_INPUTS = "tried"
"""How position ids and token types are chosen: features of another choice are other features."""


class FrozenEncoder:
    """A pretrained encoder under a fresh head, and the features it computes of texts.

    Args:
        config: the encoder.
        folder: where its files are.
        num_outputs: of the head.
        longest: most tokens of a text; None if any number may come.
    """

    def __init__(
        self, config: TransformerConfig, folder: Path, *, num_outputs: int, longest: int | None
    ) -> None:
        self._config, self._folder = config, folder
        self._num_outputs, self._longest = num_outputs, longest

    def load(self) -> TextClassifier:
        """Load encoder and head."""
        return TextClassifier(
            load_encoder(self._folder, self._config),
            num_classes=self._num_outputs,
            pooling=self._config.pooling,
            longest=self._longest,
            row_norm=self._config.row_norm,
        )

    @property
    def row_norm(self) -> float | None:
        """Norm that the head scales features to; cached ones are as they come."""
        return self._config.row_norm

    @functools.cached_property
    def width(self) -> int:
        """Numbers in a text's features."""
        settings = load_settings(self._folder)
        with loading(self._folder):
            return int(settings.hidden_size)

    def cache(self, compute: Compute) -> FeatureCache | None:
        """Return where features are kept; None for nowhere."""
        return feature_cache(self._config, self._folder, compute, of=self._config.pooling)


def feature_cache(
    config: TransformerConfig, folder: Path, compute: Compute, *, of: str
) -> FeatureCache | None:
    """Return where features of an encoder are kept; None for nowhere.

    Args:
        config: the encoder.
        folder: where its files are.
        compute: where and how it computes.
        of: what its token vectors become: a pooling's name, or what else tells features apart.
    """
    if compute.feature_cache is None:
        return None
    # Whatever features depend on beside the records; another precision rounds otherwise.
    identity = (
        content_hash(folder),
        str(config.num_hidden_layers),
        of,
        str(compute.autocast),
        _INPUTS,
    )
    return FeatureCache(compute.feature_cache, identity)


__all__ = ["FrozenEncoder", "feature_cache"]
