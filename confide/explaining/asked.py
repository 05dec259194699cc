"""What may be asked of explanations, checked before anything is computed."""

from collections.abc import Sequence
from dataclasses import dataclass

from confide.config.custom import implementation
from confide.config.spelling import nearest
from confide.config.tasks.table import TASKS
from confide.errors import ConfigError
from confide.explaining.case import Explainer
from confide.explaining.methods.table import METHODS
from confide.explaining.parts import PARTS
from confide.explaining.target import TargetFn, target_fn
from confide.inference.predictor import Predictor

_OF_RECORDS = ("attributions",)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked for.

    Attributes:
        parts: names of :data:`PARTS`; None for all that apply.
        records: numbers of the records to explain, from 1; () for the first RECORDS.
        method: of attribution; None for the first that the model allows.
        target: what is explained; None for what was predicted.
        baseline: what records are compared with; None for the kind's first.
        goal: of counter-examples: a class, or ">NUMBER", "<NUMBER"; None for any other class.
        change: columns that may change; () for all.
        fixed: columns that may not.
    """

    parts: Sequence[str] | None = None
    records: Sequence[int] = ()
    method: str | None = None
    target: str | None = None
    baseline: str | None = None
    goal: str | None = None
    change: Sequence[str] = ()
    fixed: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Answerable:
    """What is asked for, as far as a model can answer it.

    Attributes:
        explainer: dotted name's class of the kind of records.
        target_fn: finds what is explained.
        baseline: name.
        parts: names, in their order.
        columns: that counter-examples may change; () for records that are no rows of a table.
    """

    explainer: type[Explainer]
    target_fn: TargetFn
    baseline: str
    parts: Sequence[str]
    columns: Sequence[str]


def answerable(predictor: Predictor, asked: Asked) -> Answerable:
    """Check what is asked for against a model.

    Raises:
        ConfigError: naming all that the model cannot answer.
    """
    task = predictor.plan.task
    kind = TASKS[task.kind]
    found_fn = target_fn(predictor)
    if kind.explainer is None:
        raise ConfigError(
            f"{predictor.folder}: records of task.kind={task.kind} are not taken apart for"
            " explanations; explain a model of another kind of records."
        )
    explainer: type[Explainer] = implementation(kind.explainer)
    problems = [
        *_named("--method", asked.method, list(METHODS)),
        *_named("--baseline", asked.baseline, list(explainer.baselines)),
        *(it for name in asked.parts or () for it in _named("--parts", name, list(PARTS))),
        *_table_problems(asked, list(task.table_columns)),
    ]
    if problems:
        raise ConfigError(problems)
    columns = list(task.table_columns)
    able = list(PARTS) if columns else list(_OF_RECORDS)
    return Answerable(
        explainer=explainer,
        target_fn=found_fn,
        baseline=asked.baseline or next(iter(explainer.baselines)),
        parts=[name for name in able if asked.parts is None or name in asked.parts],
        columns=[name for name in asked.change or columns if name not in asked.fixed],
    )


def _table_problems(asked: Asked, columns: Sequence[str]) -> list[str]:
    wanted = [name for name in asked.parts or () if name in PARTS and name not in _OF_RECORDS]
    idle = [
        option
        for option, value in (
            ("--change", asked.change),
            ("--fix", asked.fixed),
            ("--to", asked.goal),
            (f"--parts {','.join(wanted)}", wanted),
        )
        if value
    ]
    if not columns:
        return [f"{it}: only rows of a table have columns; leave it out." for it in idle]
    problems = [
        *(it for name in asked.change for it in _named("--change", name, columns)),
        *(it for name in asked.fixed for it in _named("--fix", name, columns)),
    ]
    if set(asked.change) & set(asked.fixed):
        both = ", ".join(name for name in asked.change if name in asked.fixed)
        problems.append(f"--fix {both}: --change names it too; leave one out.")
    elif not set(asked.change or columns) - set(asked.fixed):
        problems.append("--fix names every column; leave one out that may change.")
    return problems


def _named(option: str, name: str | None, known: Sequence[str]) -> list[str]:
    if name is None or name in known:
        return []
    near = nearest(name, known)
    return [f"{option} {name}: expected one of {', '.join(known)}.{f' {near}.' if near else ''}"]


__all__ = ["Answerable", "Asked", "answerable"]
