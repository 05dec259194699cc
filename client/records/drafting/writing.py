"""Drafts as YAML that people read and correct, one column a line."""

import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import yaml

from confide.client.records.drafting.draft import Draft
from confide.config.outcomes.outcome import DEFAULT_OUTCOME, OutcomeConfig
from confide.config.tasks.causal_lm import CausalLmConfig
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.media.image_classification import (
    IMAGE_COLUMN,
    ImageClassificationConfig,
)
from confide.config.tasks.media.sound_task import SoundTaskConfig
from confide.config.tasks.task import TaskConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.config.tasks.token_classification import TokenClassificationConfig

_WIDTH = 100
_MOST_TOLD = 12
_MARK = """\
Ranges and categories of the columns in this list are statistics of the records, which differential\
 privacy says nothing about. Correct each to what is possible, as far as anybody may know it, and\
 take its name from the list: policy=strict refuses a plan until the list is empty."""


def draft_yaml(draft: Draft, *, source: str) -> str:
    """Write a draft.

    Args:
        draft: the draft.
        source: name of what it was drafted from, for the first line.
    """
    lines = [
        f"# Drafted from {source}; check every line.",
        *(line for choice in draft.choices for line in _comment(choice)),
        *_task_lines(draft.task, draft.remarks),
    ]
    if draft.left_out:
        lines += ["# Left out:"]
        lines += [f"#   {_one_line(name)}: {why}" for name, why in draft.left_out.items()]
    return "\n".join(lines) + "\n"


def notes_of(draft: Draft) -> list[str]:
    """List what whoever holds the records should know, with counts; the YAML has none."""
    told = [f"{draft.records:,} records", *(f"note: {n}" for n in (*draft.choices, *draft.notes))]
    if draft.id_column:
        typed = shlex.quote(f"data.id_column={draft.id_column}")
        told.append(f"note: {draft.id_column} names a record: {typed}")
    if draft.group_column:
        typed = shlex.quote(f"data.group_column={draft.group_column}")
        told.append(
            f"note: {draft.group_column} names whose a record is: {typed}; privacy=record protects"
            " each record, privacy=group all of one owner together"
        )
    if draft.institution:
        column, count = draft.institution
        typed = shlex.quote(f"data.partition_by={column}")
        told.append(f"note: {column} names {count} institutions: data.partitioner=natural {typed}")
    named = {draft.id_column, draft.group_column, *(draft.institution or ())}
    unused = {name: why for name, why in draft.left_out.items() if name not in named}
    shown = list(unused.items())[:_MOST_TOLD]
    told += [f"note: {_one_line(name)} is no input: {why}" for name, why in shown]
    if len(unused) > len(shown):
        told.append(f"note: {len(unused) - len(shown)} more are none, and the draft says why")
    return told


def task_yaml(task: TaskConfig, *, notes: list[str]) -> str:
    """Write a task that was merged from drafts, with notes above it."""
    above = [line for note in notes for line in _comment(note)]
    return "\n".join([*above, *_task_lines(task, {})]) + "\n"


def _task_lines(task: TaskConfig, remarks: Mapping[str, str]) -> Iterator[str]:
    yield f"kind: {task.kind}"
    yield from _input_lines(task)
    if task.outcome.kind == DEFAULT_OUTCOME:
        yield f"label_column: {_flow(task.label_column)}"
        yield f"labels: {_flow(task.labels)}"
    else:
        yield f"outcome: {_flow(_outcome(task.outcome))}"
    if task.label_values:
        yield f"label_values: {_flow(task.label_values)}"
    if task.drafted:
        yield from _comment(_MARK)
        yield from (
            textwrap.wrap(
                f"drafted: {_flow(task.drafted)}",
                _WIDTH,
                subsequent_indent="  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            if not any(re.search(r"\s", name) for name in task.drafted)
            else [f"drafted: {_flow(task.drafted)}"]
        )
    if task.table_columns:
        yield "columns:"
        for name, column in task.table_columns.items():
            remark = f"  # {remarks[name]}" if name in remarks else ""
            yield f"  {_flow(name)}: {_flow(_said(column))}{remark}"


def _input_lines(task: TaskConfig) -> Iterator[str]:
    """Yield what a draft says of what is read, but for the columns of a table."""
    if isinstance(task, TextClassificationConfig):
        yield f"text_column: {_flow(task.text_column)}"
        yield f"max_tokens: {task.max_tokens}  # longer texts are cut"
    if isinstance(task, CausalLmConfig):
        for name in ("prompt_column", "context_column", "messages_column"):
            if getattr(task, name) is not None and not (task.messages_column and name[0] == "p"):
                yield f"{name}: {_flow(getattr(task, name))}"
        yield f"max_tokens: {task.max_tokens}  # of longer conversations the beginning is cut"
        yield "# system_message: what a model is told before each conversation that says nothing"
    if isinstance(task, TokenClassificationConfig):
        yield f"words_column: {_flow(task.words_column)}"
        yield f"max_tokens: {task.max_tokens}  # longer records are cut"
    if isinstance(task, ImageClassificationConfig):
        if task.image_column != IMAGE_COLUMN:
            yield f"image_column: {_flow(task.image_column)}"
        yield f"size: {task.size}  # pixels"
        yield f"channels: {task.channels}  # 1: grey, 3: colour"
    if isinstance(task, SoundTaskConfig):
        if task.audio_column != SoundTaskConfig.audio_column:
            yield f"audio_column: {_flow(task.audio_column)}"
        yield f"rate: {task.rate}  # samples a second"
        yield f"seconds: {task.seconds:g}  # what comes later is cut"


def _outcome(outcome: OutcomeConfig) -> dict[str, Any]:
    """Return what an outcome says beyond its schema's defaults, its kind first."""
    plain = asdict(type(outcome)())
    said = {name: value for name, value in asdict(outcome).items() if value != plain[name]}
    shorter = {k: _number(v) if isinstance(v, float) else v for k, v in said.items()}
    return {"kind": outcome.kind, **shorter}


def _said(column: ColumnConfig) -> dict[str, Any]:
    """Return what a column says beyond its schema's defaults."""
    said: dict[str, Any] = {}
    if column.kind == "categorical":
        said |= {"kind": column.kind, "categories": list(column.categories)}
    else:
        said |= {"minimum": _number(column.minimum), "maximum": _number(column.maximum)}
    if column.missing_values:
        said["missing_values"] = list(column.missing_values)
    if column.indicator:
        said["indicator"] = True
    return said


def _number(value: float | None) -> float | int | None:
    return int(value) if value is not None and value.is_integer() and abs(value) < 1e15 else value


def _flow(value: Any) -> str:
    """Write a value in one line; words that YAML reads as something else are quoted."""
    text = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=True,
        allow_unicode=True,
        sort_keys=False,
        width=float("inf"),
    )
    return str(text).removesuffix("\n...\n").strip()


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Quotes what OmegaConf interpolates or takes for missing, and 1e3, which it reads as 1000."""


_READ_OTHERWISE = re.compile(r".*\$\{.*|\?\?\?|[-+]?[\d._]+([eE][-+]?\d+)?|[-+]?\.?(inf|nan)", re.I)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    # In any other style a line's end is one in the file too, which a comment or a key breaks at
    style = '"' if _READ_OTHERWISE.fullmatch(value) or not value.isprintable() else None
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", value.replace("${", r"\${"), style=style
    )


_Dumper.add_representer(str, _text)


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(_one_line(text), _WIDTH - 2)]


def _one_line(text: str) -> str:
    return " ".join(text.split())


__all__ = ["draft_yaml", "notes_of", "task_yaml"]
