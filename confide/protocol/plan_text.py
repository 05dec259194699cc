"""How the text of a plan names a task: as the first plans did, wherever it says no more than they.

Approvals, ledgers and the noise on records that are not public know a plan by its text, so that a
setting that is younger than a plan is not in it until it says something.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from confide.config.client import OptimizerConfig
from confide.config.outcomes.outcome import OutcomeConfig
from confide.config.privacy import PrivacyConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.media.image_classification import ImageClassificationConfig
from confide.config.tasks.table import TASKS

_CLASSES: dict[str, Any] = dataclasses.asdict(OutcomeConfig())
_UNSAID = ("pair_column", "self_training", "template")
_IDLE: dict[str, Any] = {
    "drafted": [],
    "subgroups": {},
    "label_smoothing": 0.0,
    **dict.fromkeys(_UNSAID),
}
LINEAR: dict[str, Any] = dataclasses.asdict(NumericConfig(encoding="linear"))
"""What a plan without a word on encoding says."""
_SEEN = ("image_classification", "segmentation")
_ONE_VIEW: dict[str, Any] = {
    name: getattr(ImageClassificationConfig, name) for name in ("views", "flip", "shift", "mixup")
}
"""What a plan of pictures without a word on their views says."""


_CONSTANT: dict[str, Any] = dataclasses.asdict(OptimizerConfig().schedule)
"""What a plan without a word on the learning rates of its rounds says."""


def is_table(kind: object) -> bool:
    """Say whether tasks of a kind have numeric columns, a kind of somebody's own included."""
    entry = TASKS.get(kind) if isinstance(kind, str) else None
    return entry is not None and any(field.name == "numeric" for field in fields(entry.schema))


def leave_out_young(plan: dict[str, Any]) -> None:
    """Take out of a plan what is younger than the first plans, where it says nothing."""
    plainly = dataclasses.asdict(PrivacyConfig())
    young = ("metrics_epsilon", "metrics_every", "edges_epsilon", "trust", "honest_peers")
    for name in young:
        if plan["privacy"][name] == plainly[name]:
            del plan["privacy"][name]
    if plan["client"]["steps_within_s"] is None:
        del plan["client"]["steps_within_s"]
    # One rate for all rounds needs no schedule
    if plan["client"]["optimizer"]["schedule"] == _CONSTANT:
        del plan["client"]["optimizer"]["schedule"]
    if plan["backbone"]["row_norm"] is None:
        del plan["backbone"]["row_norm"]
    for name in ("edges", "releases", "gram", "sums", "parents", "compares"):
        if not plan[name]:
            del plan[name]
    for name in ("upload", "download"):
        if plan[name]["kind"] == "none":
            del plan[name]


def leave_out_idle(task: dict[str, Any]) -> None:
    """Take settings out of a task that plans of earlier releases did not have."""
    if task["_target_"] is None:
        del task["_target_"], task["kwargs"]
    _leave_out(_IDLE, task)
    if task["outcome"] == _CLASSES:
        del task["outcome"]
    if task.get("numeric") == LINEAR:
        del task["numeric"]
    _leave_out(_ONE_VIEW if task["kind"] in _SEEN else {}, task)
    idle = dataclasses.asdict(ColumnConfig())
    for column in task.get("columns", {}).values():
        young = ("encoding", "edges", "mean", "deviation", "unseen")
        _leave_out({name: idle[name] for name in young}, column)


def _leave_out(idle: Mapping[str, Any], settings: dict[str, Any]) -> None:
    """Take out what settings say no more than by default."""
    for name, value in idle.items():
        if name in settings and settings[name] == value:
            del settings[name]


__all__ = ["LINEAR", "is_table", "leave_out_idle", "leave_out_young"]
