"""One task from several institutions' drafts: what all of them can be encoded with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from confide.client.records.drafting.values import folded, sort_key
from confide.config.outcomes.outcome import OutcomeConfig
from confide.config.outcomes.regression import RegressionConfig
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.task import TaskConfig
from confide.config.tasks.text_classification import TextClassificationConfig


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A merged task.

    Attributes:
        task: the task; None if the drafts have nothing in common.
        conflicts: sentences about what the drafts say differently, and somebody has to decide.
    """

    task: TaskConfig | None
    conflicts: Sequence[str]


def merge_tasks(drafts: Mapping[str, TaskConfig]) -> Merged:
    """Merge drafts: union of labels and categories, widest ranges.

    Args:
        drafts: name of each draft -> its task; at least one.
    """
    names, tasks = list(drafts), list(drafts.values())
    first = tasks[0]
    conflicts = [
        f"{key}: {_listed({name: getattr(task, key) for name, task in drafts.items()})}"
        for key in ("kind", "label_column", "label_values", "_target_", "primary_metric")
        if any(getattr(task, key) != getattr(first, key) for task in tasks)
    ]
    if any(type(task) is not type(first) for task in tasks):
        return Merged(task=None, conflicts=conflicts)
    outcome = _merge_outcomes([task.outcome for task in tasks])
    if outcome is None:
        differ = {name: _outcome_text(task) for name, task in drafts.items()}
        return Merged(task=None, conflicts=[*conflicts, f"outcome: {_listed(differ)}"])
    labels = _union([task.labels for task in tasks])
    for name, task in drafts.items():
        lacking = [label for label in labels if label not in task.labels]
        if lacking:
            conflicts.append(f"labels: {name} has no record of {', '.join(lacking)}")
    merged = replace(first, labels=labels, outcome=outcome)
    unconfirmed = {column for task in tasks for column in task.drafted}
    merged.drafted = [name for name in merged.target_columns if name in unconfirmed]
    if isinstance(merged, TextClassificationConfig):
        texts = {name: getattr(task, "text_column", "") for name, task in drafts.items()}
        if len(set(texts.values())) > 1:
            conflicts.append(f"text_column: {_listed(texts)}")
        merged.max_tokens = max(getattr(task, "max_tokens", 0) for task in tasks)
    if isinstance(merged, TabularConfig):
        tables = {name: task.table_columns for name, task in drafts.items()}
        merged.columns, told = _merge_columns(tables)
        conflicts += told
        named = [name for name in merged.columns if name in unconfirmed]
        merged.drafted = [*named, *merged.drafted]
        if not merged.columns:
            return Merged(task=None, conflicts=conflicts)
    assert names
    return Merged(task=merged, conflicts=conflicts)


def _merge_outcomes(outcomes: Sequence[OutcomeConfig]) -> OutcomeConfig | None:
    """Return one outcome with the widest range; None if they differ in anything else."""
    numbers = [one for one in outcomes if isinstance(one, RegressionConfig)]
    if len(numbers) == len(outcomes):
        low = [one.minimum for one in numbers if one.minimum is not None]
        high = [one.maximum for one in numbers if one.maximum is not None]
        bottom, top = min(low, default=None), max(high, default=None)
        outcomes = [replace(one, minimum=bottom, maximum=top) for one in numbers]
    return outcomes[0] if all(one == outcomes[0] for one in outcomes) else None


def _outcome_text(task: TaskConfig) -> str:
    return f"{task.outcome.kind} of {', '.join(task.target_columns)}"


def _merge_columns(
    tables: Mapping[str, Mapping[str, ColumnConfig]],
) -> tuple[dict[str, ColumnConfig], list[str]]:
    merged: dict[str, ColumnConfig] = {}
    conflicts = []
    for name in dict.fromkeys(name for table in tables.values() for name in table):
        lacking = [draft for draft, table in tables.items() if name not in table]
        columns = {draft: table[name] for draft, table in tables.items() if name in table}
        if lacking:
            conflicts.append(f"columns.{name}: {', '.join(lacking)} lacks it; it is left out")
        elif len({column.kind for column in columns.values()}) > 1:
            kinds = {draft: column.kind for draft, column in columns.items()}
            conflicts.append(f"columns.{name}: {_listed(kinds)}; it is left out")
        else:
            merged[name] = _merge_column(list(columns.values()))
            spellings = _differ_by_case(merged[name].categories)
            conflicts += [
                f"columns.{name}: categories that differ by case alone: {', '.join(words)}"
                for words in spellings
            ]
            conflicts += _marked_differently(name, columns)
    return merged, conflicts


def _merge_column(columns: Sequence[ColumnConfig]) -> ColumnConfig:
    low = [column.minimum for column in columns if column.minimum is not None]
    high = [column.maximum for column in columns if column.maximum is not None]
    missing = {word for column in columns for word in column.missing_values}
    return ColumnConfig(
        kind=columns[0].kind,
        minimum=min(low, default=None),
        maximum=max(high, default=None),
        categories=[
            one for one in _union([column.categories for column in columns]) if one not in missing
        ],
        missing_values=sorted(missing, key=sort_key),
        indicator=any(column.indicator for column in columns),
    )


def _marked_differently(name: str, columns: Mapping[str, ColumnConfig]) -> list[str]:
    """Tell a value that means missing at one institution and is a category at another."""
    return [
        f"columns.{name}: {word} means missing in {draft}, and is a category in {other}"
        for draft, column in columns.items()
        for word in column.missing_values
        for other, its in columns.items()
        if word in its.categories
    ]


def _differ_by_case(categories: Sequence[str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for category in categories:
        groups.setdefault(category.casefold(), []).append(category)
    return [group for group in groups.values() if len(group) > 1]


def _union(lists: Sequence[Sequence[str]]) -> list[str]:
    """Join lists; the first one's order is kept where the others add nothing."""
    everything = folded({one for listed in lists for one in listed})
    first = [one for one in lists[0] if one in everything]
    return first if len(first) == len(everything) else everything


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{value} in {name}" for name, value in values.items())


__all__ = ["Merged", "merge_tasks"]
