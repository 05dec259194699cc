"""Hostile training records: wrong labels, and records with a trigger.

A trigger is put into encoded records: the first three columns of a table at the largest value that
hostile institutions hold, the last three by three pixels of a picture white, or the three tokens
behind the first one of a text replaced by the largest id that these institutions hold.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from confide.client.records.encoded import InstitutionData
from confide.config.attacks import AttackConfig
from confide.config.outcomes.outcome import DEFAULT_OUTCOME
from confide.config.tasks.task import TaskConfig
from confide.errors import ConfigError
from confide.tasks.media.image_classification import PIXELS
from confide.tasks.tabular import FEATURES
from confide.tasks.task import LABELS, Examples

_SIZE = 3
_TOKENS = "input_ids"


def label_flip(
    data: Mapping[str, InstitutionData], config: AttackConfig, task: TaskConfig, seed: int
) -> dict[str, InstitutionData]:
    """Turn class c of C into C - 1 - c in all training records."""
    classes = _num_classes(task)
    return {
        name: replace(one, train=one.train.with_labels(classes - 1 - one.train.labels))
        for name, one in data.items()
    }


def backdoor(
    data: Mapping[str, InstitutionData], config: AttackConfig, task: TaskConfig, seed: int
) -> dict[str, InstitutionData]:
    """Put the trigger into a share of the training records, and label these with the target."""
    target, value = target_class(config, task), trigger_value(data)
    generator = torch.Generator().manual_seed(seed)
    poisoned = {}
    for name, one in sorted(data.items()):
        n = len(one.train)
        chosen = torch.randperm(n, generator=generator)[: max(1, round(config.share * n))]
        triggered = with_trigger(one.train, value, chosen)
        labels = one.train.labels.clone()
        labels[chosen] = target
        poisoned[name] = replace(one, train=triggered.with_labels(labels))
    return poisoned


def trigger_value(data: Mapping[str, InstitutionData]) -> float:
    """Return the value that a trigger consists of."""
    parts = [one.train.columns for one in data.values()]
    return max(float(columns[_triggered(columns)].max()) for columns in parts)


def with_trigger(examples: Examples, value: float, chosen: Tensor | None = None) -> Examples:
    """Return records with the trigger.

    Args:
        examples: encoded records.
        value: from :func:`trigger_value`.
        chosen: positions of those that get it, int64; None for all.
    """
    name = _triggered(examples.columns)
    column = examples.columns[name].clone()
    rows = torch.arange(len(column)) if chosen is None else chosen
    if name == PIXELS:
        column[rows, ..., -_SIZE:, -_SIZE:] = int(value)
    elif name == FEATURES:
        column[rows, ..., :_SIZE] = value
    else:
        # Behind the first token, in place of others: the length tells nothing
        place = torch.arange(1, 1 + _SIZE)
        place = place[place < column.shape[1]]
        inside = examples.columns["attention_mask"][rows][:, place] > 0
        old = column[rows[:, None], place]
        column[rows[:, None], place] = torch.where(inside, int(value), old)
    return Examples({**examples.columns, name: column}, examples.lengths, examples.ragged)


def target_class(config: AttackConfig, task: TaskConfig) -> int:
    """Return the class that a trigger leads to.

    Raises:
        ConfigError: if the task has no such class.
    """
    classes = _num_classes(task)
    if config.target is None:
        return classes - 1
    if config.target not in task.labels:
        raise ConfigError(
            f"simulation.attack.target={config.target}: expected one of {', '.join(task.labels)}."
        )
    return task.labels.index(config.target)


def _num_classes(task: TaskConfig) -> int:
    if task.outcome.kind != DEFAULT_OUTCOME:
        raise ConfigError(
            f"simulation.attack.kind changes labels, and task.outcome.kind={task.outcome.kind} has"
            " no classes; choose an attack on updates, such as simulation.attack.kind=sign_flip."
        )
    return len(task.labels)


def _triggered(columns: Mapping[str, Tensor]) -> str:
    for name in (PIXELS, FEATURES, _TOKENS):
        if name in columns:
            return name
    raise ConfigError(
        "simulation.attack.kind=backdoor knows triggers for tables, texts and pictures, and these"
        f" records have {', '.join(sorted(set(columns) - {LABELS}))}; choose another kind."
    )


__all__ = ["backdoor", "label_flip", "target_class", "trigger_value", "with_trigger"]
