"""From a schema to its task: the built-in one of its kind, or one's own by dotted path.

The class is made with the schema (and, for texts, the backbone's tokenizer) and the plan's
``kwargs``. A plan comes from another side: what may be imported for it is an exact list that this
side brings (an institution's ``policy.tasks``, a simulation's own config), held against the plan's
word before anything is imported.
"""

from collections.abc import Callable, Sequence
from typing import Any

from confide.config.custom import make_part, require
from confide.config.task import TabularConfig, TaskConfig, TextClassificationConfig
from confide.errors import ConfigError, DeniedError
from confide.tasks.tabular import Tabular
from confide.tasks.task import TableTask, Task
from confide.tasks.text_classification import TextClassification

_KEY = "task"
_NEEDED = (
    "labels",
    "encode",
    "check",
    "content_columns",
    "label_column",
    "synthetic",
    "loss",
    "scores",
    "metrics",
)


def _refuse_unlisted(config: TaskConfig, custom_tasks: Sequence[str]) -> None:
    """Check that a task may be imported here.

    Raises:
        DeniedError: if it is not listed; nothing was imported.
    """
    if config._target_ not in custom_tasks:
        raise DeniedError(
            f"task._target_={config._target_}: nothing is imported on a plan's word; list it in"
            " policy.tasks once its code has been read.",
            code="policy_tasks",
        )


def table_task(config: TabularConfig, custom_tasks: Sequence[str] = ()) -> TableTask:
    """Make the task of a table: the built-in one, or one's own.

    Raises:
        DeniedError: if it is one's own and not listed.
        ConfigError: if it cannot be made, or is none.
    """
    if config._target_ is None:
        return Tabular(config)
    task: TableTask = _made(config, custom_tasks, (*_NEEDED, "num_inputs"))
    return task


def text_task(
    config: TextClassificationConfig,
    tokenizer_fn: Callable[[], Any],
    custom_tasks: Sequence[str] = (),
) -> Task:
    """Make the task of texts: the built-in one, or one's own.

    Args:
        config: the schema.
        tokenizer_fn: loads the backbone's tokenizer; called only once the task is allowed.
        custom_tasks: dotted paths that may be imported.

    Raises:
        DeniedError: if it is one's own and not listed.
        ConfigError: if it cannot be made, or is none.
    """
    if config._target_ is None:
        return TextClassification(config, tokenizer=tokenizer_fn())
    _refuse_unlisted(config, custom_tasks)  # before the tokenizer is loaded
    task: Task = _made(config, custom_tasks, _NEEDED, tokenizer=tokenizer_fn())
    return task


def _made(
    config: TaskConfig, custom_tasks: Sequence[str], needed: Sequence[str], **given: Any
) -> Any:
    _refuse_unlisted(config, custom_tasks)
    path = str(config._target_)
    reserved = sorted(given.keys() & config.kwargs.keys())
    if reserved:
        raise ConfigError(
            f"{_KEY}.kwargs names {', '.join(reserved)}, which {path} gets anyway; leave it out."
        )
    made = make_part(path, config, key=_KEY, kwargs={**config.kwargs, **given})
    require(made, needed, path=path, key=_KEY, expected="a Task")
    if list(made.labels) != list(config.labels):
        raise ConfigError(
            f"{_KEY}._target_={path} has labels={list(made.labels)}, expected"
            f" task.labels={config.labels}."
        )
    return made


__all__ = ["table_task", "text_task"]
