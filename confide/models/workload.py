"""A workload: what a plan names, ready to train: task, model, and the way to them from records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn

from confide.config.custom import implementation
from confide.config.models.backbone import BackboneConfig
from confide.config.models.kind import Network
from confide.config.models.table import BACKBONES
from confide.config.tasks.media.augmentation import Augmentation
from confide.config.tasks.table import TASKS
from confide.config.tasks.task import TaskConfig
from confide.config.tunings.tuning import TuningConfig
from confide.errors import ConfigError
from confide.models.compute import Compute
from confide.models.networks import trainable
from confide.protocol.tensors import Shapes, Tensors
from confide.tasks.build import build_task
from confide.tasks.media.views import Views
from confide.tasks.outcomes.outcome import UNLABELLED
from confide.tasks.task import LABELS, Assets, Batch, Examples, TalliedTask, Task


@dataclass(frozen=True)
class Workload:
    """Everything between records and an update.

    Attributes:
        task: encodes records; loss, scores, metrics.
        model: on the compute device; its trainable tensors are what travels.
        prepare: records -> what the model takes.
        synthetic: invents ``count`` records in the model's terms, for the privacy preflight.
        compute: where and how.
        custom_task: dotted path of the task, if it is custom.
        longest: largest number of tokens of a record; None if records have none.
        target_columns: columns that hold what is to be predicted.
        save_beside: writes into a saved model's folder what transformers loads of the model; None
            for nothing.
        whole_fn: makes the whole network with the trained tensors, adapters apart, of a model of
            which a part alone is trained on what the rest computed; None where it is the model.
        insight_fn: from trained tensors, what a summary tells of the model: name -> part -> number;
            None for nothing.
        augmentation: how views of records are made in training; None where records stand for
            themselves.
        self_trains: whether records may have no label (``task.self_training``).
    """

    task: Task
    model: nn.Module
    prepare: Callable[[Dataset], Examples]
    synthetic: Callable[[int, torch.Generator], Examples]
    compute: Compute
    custom_task: str | None = None
    longest: int | None = None
    target_columns: tuple[str, ...] = ()
    save_beside: Callable[[Path], None] | None = None
    whole_fn: Callable[[], nn.Module] | None = None
    insight_fn: Callable[[Tensors], Mapping[str, Mapping[str, float]]] | None = None
    augmentation: Augmentation | None = None
    self_trains: bool = False

    def rows_of(self, group_size: int | None) -> int | None:
        """Return the most rows of a unit; None where each unit is one row.

        Args:
            group_size: most records of a unit; None where records are units.
        """
        if self.augmentation is None:
            return group_size
        return self.augmentation.views * (group_size or 1)

    def invent(self, count: int) -> Examples:
        """Return invented records, the same ones each time, on the device of the model."""
        return self.synthetic(count, torch.Generator().manual_seed(0)).to(self.compute.device)

    def views(self, seed: int) -> Views | None:
        """Return what makes views of records in a training; None where there are none."""
        return None if self.augmentation is None else Views(self.augmentation, seed)

    def measures(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return what metrics are worked out from, of each record: tallies or scores, [b, ...]."""
        if isinstance(self.task, TalliedTask):
            return self.task.tally(outputs, batch)
        return self.task.scores(outputs)

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return what the model, or what wraps it, makes of a batch, whatever its labels."""
        # A copy: the caller's batch keeps its labels, which the loss reads.
        inputs = batch.copy()
        del inputs[LABELS]
        autocast = self.compute.autocast
        if autocast is None:
            outputs: torch.Tensor = model(**inputs)
            return outputs
        with torch.autocast(self.compute.device.type, dtype=autocast):
            outputs = model(**inputs)
        return outputs

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the loss of each record of a batch, shape [b]; 0 of one that has no label."""
        outputs = self.outputs(model, batch)
        if not self.self_trains:
            return self.task.loss(outputs, batch)
        labels = batch[LABELS]
        # Any class stands in, so that a task's loss, also one's own, knows of classes alone
        losses = self.task.loss(outputs, {**batch, LABELS: labels.clamp(min=0)})
        return torch.where(labels != UNLABELLED, losses, 0.0)

    @property
    def exact(self) -> "Workload":
        """The same in float32, for checks that rounding would blur."""
        return replace(self, compute=replace(self.compute, autocast=None))


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a backbone's builder is asked for.

    Attributes:
        task: schema of the records.
        task_fn: makes the task, of what lies beside the backbone's weights; called before weights
            are loaded, so that a task that is not allowed costs nothing.
        tuning: what of the model is trained.
        compute: where and how.
    """

    task: TaskConfig
    task_fn: Callable[[Assets], Task]
    tuning: TuningConfig
    compute: Compute


BuildFn = Callable[[Any, Order], Workload]
"""Schema of a backbone, what is asked for -> workload; random tensors are drawn from torch's global
generator, which the caller has seeded."""


def network_of(task: TaskConfig, backbone: BackboneConfig) -> Network:
    """Return what implements the model of a task on a backbone.

    Raises:
        ConfigError: if they do not go together.
    """
    kind = TASKS[task.kind]
    # An institution has a plan's word only, and has not composed a config that was checked.
    if backbone.kind not in kind.backbones:
        raise ConfigError(f"backbone.kind={backbone.kind} does not fit task.kind={task.kind}.")
    problem = kind.outcome_problem(task.outcome.kind)
    if problem is not None:
        raise ConfigError(problem)
    predicted = BACKBONES[backbone.kind].outcomes
    if predicted is not None and task.outcome.kind not in predicted:
        raise ConfigError(
            f"backbone.kind={backbone.kind} does not predict task.outcome.kind="
            f"{task.outcome.kind}, but {' or '.join(predicted)}."
        )
    return kind.networks.get(backbone.kind, BACKBONES[backbone.kind].network)


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
        custom_tasks: dotted paths of custom tasks that may be imported; no other is, whatever
            ``task`` names.

    Raises:
        ModelError: if the backbone cannot be used.
        DeniedError: if the task is one that may not be imported.
        ConfigError: if the backbone does not fit the task, or this gives no probabilities of
            classes for records without a label.
    """
    build: BuildFn = implementation(network_of(task, backbone).builder)
    order = Order(
        task=task,
        task_fn=lambda assets: build_task(task, assets, custom_tasks),
        tuning=tuning,
        compute=compute,
    )
    # The caller's random numbers are left as they were.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = build(backbone, order)
    if task.self_training is not None and isinstance(made.task, TalliedTask):
        raise ConfigError(
            f"task.self_training={task.self_training:g}: task._target_={task._target_} tallies what"
            " a model gives and has no probabilities of classes; leave it out."
        )
    return replace(
        made,
        custom_task=task._target_,
        target_columns=task.target_columns,
        augmentation=task.augmentation,
        self_trains=task.self_training is not None,
    )


def shapes_without_weights(
    task: TaskConfig, backbone: BackboneConfig, *, custom_tasks: Sequence[str] = ()
) -> Shapes:
    """Return the shapes of a model that a plan describes by its widths alone, without its memory.

    Args:
        task: schema of the records.
        backbone: where the model starts.
        custom_tasks: as for :func:`build_workload`.

    Returns:
        Name -> shape; {} for a pretrained backbone, whose size is that of its files.
    """
    if BACKBONES[backbone.kind].has_weights:
        return {}
    # A plan may name widths that no memory holds; on this device tensors have shapes only.
    nowhere = torch.device("meta")
    with nowhere:
        workload = build_workload(
            task,
            backbone,
            TuningConfig(kind="full"),
            compute=Compute(device=nowhere),
            seed=0,
            custom_tasks=custom_tasks,
        )
    return {name: tuple(p.shape) for name, p in trainable(workload.model).items()}


__all__ = ["BuildFn", "Order", "Workload", "build_workload", "network_of", "shapes_without_weights"]
