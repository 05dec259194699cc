"""A workload: the task, the model and the way from records to tensors that a plan names, ready to train."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn

from confide.config.model import (
    BackboneConfig,
    LogisticConfig,
    MlpConfig,
    TransformerConfig,
    TuningConfig,
)
from confide.config.task import TabularConfig, TaskConfig, TextClassificationConfig
from confide.errors import ConfigError
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
from confide.models.networks import Head, Mlp, TextClassifier, apply_tuning, trainable
from confide.protocol.tensors import Shapes
from confide.tasks.custom import table_task, text_task
from confide.tasks.tabular import FEATURES
from confide.tasks.task import LABELS, Examples, TableTask, Task


@dataclass(frozen=True)
class Workload:
    """Everything between records and an update.

    Attributes:
        task: schema, loss, metrics.
        model: on the compute device; its trainable tensors are what travels.
        prepare: records -> what the model takes.
        synthetic: invents ``count`` records in the model's terms, for the privacy preflight.
        compute: where and how.
        custom_task: dotted path of the task, if it is one's own.
    """

    task: Task
    model: nn.Module
    prepare: Callable[[Dataset], Examples]
    synthetic: Callable[[int, torch.Generator], Examples]
    compute: Compute
    custom_task: str | None = None


def build_workload(
    task: TaskConfig,
    backbone: BackboneConfig,
    tuning: TuningConfig,
    *,
    compute: Compute,
    seed: int,
    custom_tasks: Sequence[str] = (),
) -> Workload:
    """Build what a plan names.

    Args:
        task: schema of the records.
        backbone: where the model starts.
        tuning: what of it is trained.
        compute: where and how.
        seed: of tensors that start at random; only the coordinator's matter, institutions overwrite
            theirs.
        custom_tasks: dotted paths of tasks of one's own that may be imported; no other is, whatever
            ``task`` names.

    Raises:
        ModelError: if the backbone cannot be used.
        DeniedError: if the task is one that may not be imported.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(task, TabularConfig) and isinstance(backbone, LogisticConfig | MlpConfig):
            return replace(
                _tabular(task, backbone, compute, custom_tasks), custom_task=task._target_
            )
        if isinstance(task, TextClassificationConfig) and isinstance(backbone, TransformerConfig):
            folder = find_backbone(backbone)
            texts = text_task(task, functools.partial(load_tokenizer, folder), custom_tasks)
            made = (
                _head_only(texts, backbone, folder, compute)
                if tuning.kind == "head"
                else _text(texts, backbone, tuning, folder, compute)
            )
            return replace(made, custom_task=task._target_)
    raise ConfigError(f"backbone.kind={backbone.kind} does not fit task.kind={task.kind}.")


def _tabular(
    config: TabularConfig,
    backbone: LogisticConfig | MlpConfig,
    compute: Compute,
    custom_tasks: Sequence[str],
) -> Workload:
    task = table_task(config, custom_tasks)
    model = _table_model(task, backbone).to(compute.device)
    return Workload(task, model, task.encode, task.synthetic, compute)


def _table_model(task: TableTask, backbone: LogisticConfig | MlpConfig) -> Mlp:
    hidden = backbone.hidden if isinstance(backbone, MlpConfig) else []
    return Mlp([task.num_inputs, *hidden, len(task.labels)])


def shapes_without_weights(
    task: TaskConfig, backbone: BackboneConfig, *, custom_tasks: Sequence[str] = ()
) -> Shapes:
    """Return the shapes of a model that a plan describes by its widths alone, without the memory that it would take.

    Args:
        task: schema of the records.
        backbone: where the model starts.
        custom_tasks: as for :func:`build_workload`.

    Returns:
        Name -> shape; {} for a pretrained backbone, whose size is that of its files.
    """
    if not isinstance(task, TabularConfig) or not isinstance(backbone, LogisticConfig | MlpConfig):
        return {}
    table = table_task(task, custom_tasks)
    with torch.device("meta"):
        return {
            name: tuple(p.shape) for name, p in trainable(_table_model(table, backbone)).items()
        }


def _text(
    task: Task, backbone: TransformerConfig, tuning: TuningConfig, folder: Path, compute: Compute
) -> Workload:
    model = _classifier(task, backbone, folder)
    return Workload(
        task, apply_tuning(model, tuning).to(compute.device), task.encode, task.synthetic, compute
    )


def _classifier(task: Task, backbone: TransformerConfig, folder: Path) -> TextClassifier:
    return TextClassifier(
        load_encoder(folder, backbone), num_classes=len(task.labels), pooling=backbone.pooling
    )


def _head_only(task: Task, backbone: TransformerConfig, folder: Path, compute: Compute) -> Workload:
    """Build a head on features that the frozen backbone computes once a record."""
    width = _hidden_size(folder)
    loaded: list[Any] = []

    def encoder() -> TextClassifier:
        if not loaded:  # only when a record's features are not in the cache
            loaded.append(_classifier(task, backbone, folder).to(compute.device).eval())
        classifier: TextClassifier = loaded[0]
        return classifier

    identity = (
        content_hash(folder),
        str(backbone.num_hidden_layers),
        backbone.pooling,
        str(compute.autocast),
    )
    cache = FeatureCache(compute.feature_cache, identity) if compute.feature_cache else None

    def prepare(records: Dataset) -> Examples:
        examples = task.encode(records)
        features = features_of(
            examples,
            encoder,
            width=width,
            device=compute.device,
            autocast=compute.autocast,
            cache=cache,
        )
        return Examples({FEATURES: features, LABELS: examples.labels})

    def synthetic(count: int, generator: torch.Generator) -> Examples:
        labels = torch.randint(0, len(task.labels), (count,), generator=generator)
        return Examples(
            {FEATURES: torch.randn((count, width), generator=generator), LABELS: labels}
        )

    return Workload(
        task, Head(width, len(task.labels)).to(compute.device), prepare, synthetic, compute
    )


def _hidden_size(folder: Path) -> int:
    settings = load_settings(folder)
    with loading(folder):
        return int(settings.hidden_size)


__all__ = ["Workload", "build_workload", "shapes_without_weights"]
