"""Backbones of a pretrained encoder: fine-tuned whole or by adapters, or a head on its features."""

import functools
from pathlib import Path

import numpy
import torch
from datasets import Dataset

from confide.config.models.transformer import TransformerConfig
from confide.config.models.tunings import TUNINGS
from confide.models.backbones import (
    find_backbone,
)
from confide.models.encoders.assets import folder_assets
from confide.models.encoders.features import features_of
from confide.models.encoders.frozen import FrozenEncoder
from confide.models.networks import Head, TextClassifier, apply_tuning
from confide.models.workload import Order, Workload
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.tabular import FEATURES
from confide.tasks.task import LABELS, Examples, Task


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


__all__ = ["build_encoder"]
