"""Workloads on a pretrained encoder: tuned under its head, or a head on features that are kept."""

from collections.abc import Callable
from pathlib import Path

import numpy
import torch
from datasets import Dataset
from torch import Tensor

from confide.config.tunings.table import TUNINGS
from confide.models.encoders.features import FeatureCache, features_of
from confide.models.memory import within_memory
from confide.models.networks import Head, OnEncoder, apply_tuning
from confide.models.workload import Order, Workload
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.tabular import FEATURES
from confide.tasks.task import LABELS, Batch, Examples, Task


def tuned_encoder(
    task: Task, loaded: OnEncoder, order: Order, *, numbers: int, longest: int | None = None
) -> Workload:
    """Tune a pretrained encoder under its head.

    Args:
        task: encodes records.
        loaded: encoder and head, on the CPU.
        order: how it is tuned, and where.
        numbers: that its operations give of one record.
        longest: most tokens of a text; None if records have none, or any number may come.
    """
    model = apply_tuning(loaded, order.tuning).to(order.compute.device)
    beside = TUNINGS[order.tuning.kind].folder

    def save_beside(target: Path) -> None:
        model.encoder.save_pretrained(target / beside)

    return Workload(
        task,
        model,
        task.encode,
        task.synthetic,
        within_memory(order.compute, numbers),
        longest=longest,
        save_beside=save_beside if beside else None,
    )


def head_on_features(
    task: Task,
    encode_fn: Callable[[Batch], Tensor],
    order: Order,
    *,
    width: int,
    row_norm: float | None,
    cache: FeatureCache | None,
) -> Workload:
    """Build a head on features that a frozen encoder computes once a record.

    Args:
        task: encodes records for the encoder.
        encode_fn: columns of records -> features [b, d]; called only where the cache has none.
        order: outputs, and where to compute.
        width: d.
        row_norm: norm that the head scales features to; None leaves them as they are.
        cache: where features are kept, None for nowhere.
    """
    compute, outcome = order.compute, outcome_of(order.task)

    def prepare(records: Dataset) -> Examples:
        examples = task.encode(records)
        features = features_of(
            examples,
            encode_fn,
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

    head = Head(width, order.task.num_outputs, row_norm=row_norm).to(compute.device)
    return Workload(task, head, prepare, synthetic, compute)


__all__ = ["head_on_features", "tuned_encoder"]
