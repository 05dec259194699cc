"""A task drafted from records: its schema, and what people should know of it."""

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from datasets import Dataset

from confide.client.records.drafting.columns import category_column, number_column
from confide.client.records.drafting.conversations import (
    draft_conversations,
    find_conversations,
)
from confide.client.records.drafting.drafted import Draft, Named
from confide.client.records.drafting.named_files import named_files
from confide.client.records.drafting.positive import positive_of
from confide.client.records.drafting.roles import (
    MOST_LABELS,
    ROW_NUMBER,
    institution_column,
    is_named_as_label,
    label_candidates,
    owner_column,
    role_of,
    survival_columns,
    tells_label,
)
from confide.client.records.drafting.several import several_labels
from confide.client.records.drafting.spans import draft_spans, find_tagged
from confide.client.records.drafting.values import (
    TOKEN_SIZES,
    Values,
    folded,
    halves,
    repeats,
    round_range,
    sort_key,
)
from confide.config.outcomes.regression import RegressionConfig
from confide.config.spelling import written
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.task import TaskConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.errors import DataError

_MOST_CLASSES = 100
_FEW_INPUTS = 2
_CHARACTERS_A_TOKEN = 4


def draft_task(records: Dataset, named: Named | None = None) -> Draft:
    """Draft a task from records.

    Args:
        records: all columns, as text.
        named: what is known of the columns.

    Raises:
        DataError: if there is no column that could be the label, or nothing to learn it from.
    """
    named = named or Named()
    columns = {name: Values.of(name, records[name][:]) for name in records.column_names}
    absent = [n for n in (named.label, named.identifier, named.text) if n and n not in columns]
    if absent:
        raise DataError(
            f"The records lack column {', '.join(absent)}; they have {', '.join(columns)}."
        )
    tagged = find_tagged(records, named.label)
    if tagged is not None:
        return draft_spans(records, tagged, named)
    talks = None if named.text else find_conversations(records, named.label)
    if talks is not None:
        return draft_conversations(records, talks, named)
    if len(columns) == 1:
        (only,) = columns
        separator = next((sign for sign in ";\t|" if sign in only), None)
        why = (
            f"its name holds {separator!r}, which may separate fields: export with commas, or as"
            " .tsv"
            if separator
            else "a label needs something to be told from"
        )
        raise DataError(f"The records have one column, {only!r}: {why}.")
    candidates = [named.label] if named.label else label_candidates(columns)
    if not candidates:
        raise DataError(
            "No column looks like the label, which has 2 to 20 different values; name it with"
            f" --label COLUMN, one of {', '.join(columns)}; of one with many numbers, these are"
            " predicted."
        )
    return _Drafting(columns, named, candidates).draft()


class _Drafting:
    """Columns, while a draft is made of them.

    Args:
        columns: all columns.
        named: what a person says of them.
        candidates: columns that may be the label, the likeliest first.
    """

    def __init__(
        self, columns: Mapping[str, Values], named: Named, candidates: Sequence[str]
    ) -> None:
        self._columns, self._named, self._candidates = columns, named, candidates
        self._label = columns[candidates[0]]
        self._several = several_labels(self._label)
        self._roles = {
            name: role_of(values) for name, values in columns.items() if name != self._label.name
        }
        self._left_out: dict[str, str] = {}
        self._remarks: dict[str, str] = {}

    def draft(self) -> Draft:
        institution = self._named.institution or institution_column(self._columns)
        owner = owner_column(self._columns)
        if owner == institution:  # all that an institution has would be one person's
            owner = None
        if institution == self._label.name:
            institution = None
        files = None if self._named.text else named_files(self._columns, self._label.name)
        if files is not None:  # whose content says which record it is
            self._roles.pop(files.column)
        identifier = self._named.identifier or self._identifier()
        inputs = self._inputs({institution, identifier})
        if institution:
            typed = shlex.quote(f"data.partition_by={institution}")
            self._left_out[institution] = f"names the institution: data.partitioner=natural {typed}"
        text = None if files else self._named.text or self._text(inputs)
        if files is not None:
            task = files.task(**self._predicted(), drafted=self._unconfirmed())
            self._leave_out(
                self._roles, f"a table's column, and the task reads {files.kind.reading.what}"
            )
        else:
            task = self._text_task(text) if text else self._table(inputs)
        return Draft(
            task=task,
            records=len(self._label.text),
            left_out=self._left_out,
            choices=[*([files.choice] if files else []), *self._choices(text)],
            notes=list(self._notes()),
            remarks=self._remarks,
            id_column=identifier,
            group_column=owner,
            owners=len(self._columns[owner].counts) if owner else 0,
            institution=(institution, len(self._columns[institution].counts))
            if institution
            else None,
        )

    def _identifier(self) -> str | None:
        unique = [
            name
            for name, (role, _) in self._roles.items()
            if role == "id"
            and not self._columns[name].nulls
            and len(self._columns[name].counts) == len(self._columns[name].text)
        ]
        # A row's number names a record only in this one file
        unique.sort(key=lambda name: ROW_NUMBER.search(name) is not None)
        return unique[0] if unique else None

    def _inputs(self, others: set[str | None]) -> dict[str, ColumnConfig]:
        """Draft the columns that may be inputs, and note why the others are none."""
        found = {}
        told = halves(self._label) if self._is_number else self._label.text
        for name, (role, why) in self._roles.items():
            values = self._columns[name]
            if name in others:
                self._left_out[name] = why or "names a record"
                continue
            if role not in ("number", "category"):
                self._left_out[name] = why
                continue
            if tells_label(values, told):
                self._left_out[name] = (
                    "tells the label nearly by itself; is it known before the label is?"
                )
                continue
            drafted = number_column(values) if role == "number" else category_column(values)
            if drafted.column is None:
                self._left_out[name] = drafted.why
                continue
            found[name] = drafted.column
            if drafted.remark:
                self._remarks[name] = drafted.remark
        return found

    def _text(self, inputs: Mapping[str, ColumnConfig]) -> str | None:
        """Return the column of free text, if it is most of what there is."""
        texts = [name for name, (role, _) in self._roles.items() if role == "text"]
        if not texts or len(inputs) > _FEW_INPUTS:
            return None
        return max(texts, key=lambda name: sum(map(len, self._columns[name].counts)))

    def _leave_out(self, names: Iterable[str], why: str) -> None:
        for name in names:
            self._left_out.setdefault(name, why)

    def _text_task(self, text: str) -> TaskConfig:
        self._left_out.pop(text, None)
        others = [name for name in self._roles if name != text]
        self._leave_out(others, "a table's column, and the task reads a text")
        lengths = sorted(len(value or "") for value in self._columns[text].text)
        longest = lengths[int(0.95 * (len(lengths) - 1))] / _CHARACTERS_A_TOKEN
        return TextClassificationConfig(
            text_column=text,
            max_tokens=next((size for size in TOKEN_SIZES if size >= longest), TOKEN_SIZES[-1]),
            **self._predicted(),
            drafted=self._unconfirmed(),
        )

    def _table(self, inputs: dict[str, ColumnConfig]) -> TaskConfig:
        if not inputs:
            raise DataError(
                "No column is left to learn from: "
                + "; ".join(f"{name} ({why})" for name, why in self._left_out.items())
                + ". If one of them is text to read, name it (--text COLUMN); who took what and"
                " when is task=recommendation, readings over time are task.kind=series."
            )
        return TabularConfig(
            **self._predicted(), columns=inputs, drafted=[*inputs, *self._unconfirmed()]
        )

    @property
    def _is_number(self) -> bool:
        """Whether the label is a number to be predicted, and not a class."""
        return self._label.is_numeric and len(self._label.counts) > MOST_LABELS

    def _unconfirmed(self) -> list[str]:
        # The range of a number is a statistic of the records, as an input column's is
        return [self._label.name] if self._is_number else []

    def _predicted(self) -> dict[str, Any]:
        """Draft what is to be predicted: settings of the task."""
        if self._several is not None:
            return {"outcome": self._several.outcome()}
        if not self._is_number:
            return {"labels": self._labels(), "label_column": self._label.name}
        numbers = list(self._label.numbers.values())
        if not math.isfinite(2 * (max(numbers) - min(numbers))):
            raise DataError(
                f"Column {self._label.name}: numbers beyond what can be scaled; correct them."
            )
        bottom, top = round_range(min(numbers), max(numbers))
        return {"outcome": RegressionConfig(column=self._label.name, minimum=bottom, maximum=top)}

    def _labels(self) -> list[str]:
        missing = self._label.missing_words
        labels = folded(label for label in self._label.counts if label not in missing)
        if not 2 <= len(labels) <= _MOST_CLASSES:
            raise DataError(
                f"Column {self._label.name}: {len(labels)} different values; expected a label of 2"
                f" to {_MOST_CLASSES} classes."
            )
        if len(labels) == 2:
            # The outcome that is looked for comes second, as in a table of confusion
            positive = positive_of(labels)
            labels.sort(key=lambda label: (label == positive, sort_key(label)))
        return labels

    def _choices(self, text: str | None) -> Iterator[str]:
        if self._is_number:
            yield (
                f"{self._label.name} has many numbers, and is predicted as one (outcome.kind"
                "=regression). Is its range what is possible? With amounts that span magnitudes,"
                " add scale: log1p."
            )
        if self._several is not None:
            yield (
                f"{self._label.name} lists several labels a record, none where it is empty; labels"
                " are those that occur: name all that are possible."
            )
        others = self._candidates[1:4]
        if not self._named.label:
            yield f"{self._label.name} was taken for the label" + (
                f"; it could be {', '.join(others)} (--label COLUMN)." if others else "."
            )
            if not is_named_as_label(self._label.name):
                yield "To predict a column of numbers, name it (--label COLUMN)."
        observed = survival_columns(self._columns)
        if observed:
            yield (
                "{} and {} look like survival: in the task's file, in place of labels, outcome:"
                " {{kind: survival, time_column: {}, event_column: {}, horizon: END}}; take both"
                " out of columns, since time as an input tells the outcome.".format(
                    *observed, *observed
                )
            )
        elsewhere = [n for n, (role, _) in self._roles.items() if role == "text" and n != text]
        if elsewhere and text is None:
            yield f"For a task on the text of {elsewhere[0]}, add --text '{elsewhere[0]}'."

    def _notes(self) -> Iterator[str]:
        for name in self._columns:
            if written(name) != f"'{name}'" or name != name.strip():
                yield (
                    f"Column {written(name)}: spaces around its name, or unseen characters; rename."
                )
        named = self._named.identifier or self._identifier()
        if not named and (repeated := repeats(self._columns.values())):
            yield (
                f"{repeated} of {len(self._label.text)} records repeat another one. Each is one of"
                " its own, so that a model may be tested on what it learnt: remove them, or --id."
            )
        if self._label.nulls and self._several is None:
            yield (
                f"Column {self._label.name}: {self._label.nulls} of {len(self._label.text)} labels"
                " are null; label or remove these records, or train on them too"
                " (task.self_training=0.95)."
            )
        for word in self._label.missing_words:
            yield (
                f"Column {self._label.name}: {self._label.counts[word]} of {len(self._label.text)}"
                f" labels are {word!r}, which is taken for no label; label or remove these records,"
                " or add it to labels."
            )


__all__ = ["Draft", "Named", "draft_task"]
