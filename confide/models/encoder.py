"""Backbones of a pretrained encoder: fine-tuned whole or by adapters, or a head on its features."""

import functools
from pathlib import Path

import numpy
import torch
from datasets import Dataset

from confide.config.models.transformer import TransformerConfig
from confide.config.models.tunings import TUNINGS
from confide.models.backbones import (
    content_hash,
    find_backbone,
    load_encoder,
    load_settings,
    load_tokenizer,
    loading,
)
from confide.models.compute import Compute
from confide.models.features import FeatureCache, features_of
from confide.models.networks import Head, TextClassifier, apply_tuning
from confide.models.workload import Order, Workload
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.tabular import FEATURES
from confide.tasks.task import LABELS, Assets, Examples, Task

_INPUTS = "tried"
"""How position ids and token types are chosen: features of another choice are other features."""


def folder_assets(folder: Path) -> Assets:
    """Return what a task may need of a backbone's folder, or of an exported model's."""

    def catalogue() -> object:
        from confide.models.items import read_catalogue  # which imports this module

        return read_catalogue(folder)

    return {"tokenizer": functools.partial(load_tokenizer, folder), "catalogue": catalogue}


def build_encoder(config: TransformerConfig, order: Order) -> Workload:
    """Build a model of texts.

    Args:
        config: the encoder.
        order: with ``tuning.kind=head``, the model is a head and records become features.
    """
    folder = find_backbone(config)
    task = order.task_fn(folder_assets(folder))
    # The task first: one that is not allowed is refused before weights are read.
    longest = max(order.task.text_limits.values(), default=None)
    frozen = FrozenEncoder(config, folder, num_outputs=order.task.num_outputs, longest=longest)
    if order.tuning.kind == "head":
        return _head_on_features(task, frozen, order)
    model = apply_tuning(frozen.load(), order.tuning).to(order.compute.device)
    beside = TUNINGS[order.tuning.kind].folder

    def save_beside(target: Path) -> None:
        model.encoder.save_pretrained(target / beside)

    return Workload(
        task,
        model,
        task.encode,
        task.synthetic,
        order.compute,
        longest=longest,
        save_beside=save_beside if beside else None,
    )


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
        if compute.feature_cache is None:
            return None
        config = self._config
        # Whatever features depend on beside the records; another precision rounds otherwise.
        identity = (
            content_hash(self._folder),
            str(config.num_hidden_layers),
            config.pooling,
            str(compute.autocast),
            _INPUTS,
        )
        return FeatureCache(compute.feature_cache, identity)


def _head_on_features(task: Task, frozen: FrozenEncoder, order: Order) -> Workload:
    """Build a head on features that the frozen encoder computes once a record."""
    compute, cache = order.compute, frozen.cache(order.compute)
    outcome = outcome_of(order.task)
    width = frozen.width  # from config.json: a head is built without the encoder's weights

    @functools.cache
    def encoder() -> TextClassifier:
        # Loaded only when a record's features are not in the cache.
        return frozen.load().to(compute.device).eval()

    def prepare(records: Dataset) -> Examples:
        examples = task.encode(records)
        features = features_of(
            examples,
            lambda batch: encoder().pooled(**batch),
            shape=(width,),
            device=compute.device,
            autocast=compute.autocast,
            cache=cache,
        )
        return Examples({FEATURES: features, LABELS: examples.labels})

    def synthetic(count: int, generator: torch.Generator) -> Examples:
        features = torch.randn((count, width), generator=generator)
        seed = int(torch.randint(2**31, (), generator=generator))
        raw = outcome.invent(count, numpy.random.default_rng(seed))
        labels = torch.from_numpy(outcome.read(raw).values)
        return Examples({FEATURES: features, LABELS: labels})

    head = Head(width, order.task.num_outputs, row_norm=frozen.row_norm).to(compute.device)
    return Workload(task, head, prepare, synthetic, compute)


__all__ = ["build_encoder", "folder_assets"]
