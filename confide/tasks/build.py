"""From a schema to its task: the built-in one of its kind, or a custom one by dotted path.

Either class is made of the schema, of the assets that the kind needs of a backbone (a tokenizer)
and, if custom, of the plan's ``kwargs``. A plan comes from another side: what may be imported for
it is an exact list that this side brings (an institution's ``policy.tasks``, a simulation's own
config), held against the plan's word before anything is imported.
"""

from collections.abc import Sequence
from typing import Any

from confide.config.custom import implementation, make_part, require
from confide.config.tasks.table import TASKS
from confide.config.tasks.task import TaskConfig
from confide.errors import ConfigError, DeniedError
from confide.tasks.task import Assets, Task

_KEY = "task"
_NEEDED = (
    "labels",
    "encode",
    "check",
    "content_columns",
    "synthetic",
    "loss",
    "scores",
    "metrics",
)


def build_task(config: TaskConfig, assets: Assets, custom_tasks: Sequence[str] = ()) -> Task:
    """Make a task.

    Args:
        config: the schema.
        assets: of the backbone; loaded only once the task is allowed.
        custom_tasks: dotted paths that may be imported.

    Raises:
        DeniedError: if it is custom and not listed; nothing was imported or loaded.
        ConfigError: if it cannot be made, or is no task.
    """
    kind = TASKS[config.kind]
    # Before anything is imported or loaded: a plan's word alone runs no code and reads no weights.
    if config._target_ is not None and config._target_ not in custom_tasks:
        raise DeniedError(
            f"task._target_={config._target_}: nothing is imported on a plan's word; list it in"
            " policy.tasks once its code has been read.",
            code="policy_tasks",
        )
    loaded = {name: assets[name]() for name in kind.assets_for(config.outcome.kind)}
    if config._target_ is not None:
        return _custom(config, loaded, (*_NEEDED, *kind.members))
    task: Task = implementation(kind.task)(config, **loaded)
    return task


def _custom(config: TaskConfig, loaded: dict[str, Any], needed: Sequence[str]) -> Task:
    path = str(config._target_)
    # An argument of the config would silently take the place of the backbone's tokenizer.
    reserved = sorted(loaded.keys() & config.kwargs.keys())
    if reserved:
        raise ConfigError(
            f"{_KEY}.kwargs names {', '.join(reserved)}, which {path} gets anyway; leave it out."
        )
    task: Task = make_part(path, config, key=_KEY, kwargs={**config.kwargs, **loaded})
    require(task, needed, path=path, key=_KEY, expected="a Task")
    # Metrics and predictions are named by them.
    if list(task.labels) != list(config.labels):
        raise ConfigError(
            f"{_KEY}._target_={path} has labels={list(task.labels)}, expected"
            f" task.labels={config.labels}."
        )
    return task


__all__ = ["build_task"]
