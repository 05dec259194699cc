"""What counts of records mean: sentences about values that fit a schema and are wrong all the same.

Each value is encoded, whatever it is: a number outside its range as the nearest end of it. Of a few
values that is what a range is for. Of all of them it is another unit, and nothing is left to learn
from.
"""

from collections.abc import Iterator, Mapping

import numpy
from datasets import Dataset

from confide.config.outcomes.table import OF_ONE_CLASS
from confide.config.tasks.media.files import FileReading
from confide.config.tasks.task import TaskConfig
from confide.held import opener_of, parse_held
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.ranges import outside, shown_range
from confide.tasks.reading import Problem
from confide.tasks.schema import Read
from confide.tasks.tokens import CountsTokens, NotesRecords, TokenCounts

_MANY = 0.1
"""Share of values from which on what happens to them is told."""
_FEW = 5
"""Values of which even all say nothing about a column."""
_ENOUGH = 100
"""Labelled records from which on a class of fewer than _FEW is told."""
_SHOWN = 5
_SAMPLE = 1000
"""Texts that stand for all, where a run must not tokenise each of them twice."""
_REPLACEMENT = "\ufffd"


def value_problems(read: Read, task: TaskConfig) -> Iterator[Problem]:
    """Yield a problem for each column of numbers that all lie outside its range."""
    for name, column in task.table_columns.items():
        if name not in read.columns:
            continue
        seen = read.columns[name]
        present, beyond = int((~seen.missing).sum()), outside(column, seen)
        if present >= _FEW and beyond == present and not seen.problems:
            yield Problem(
                f"Column {name}: all {present} values lie outside its range, {shown_range(column)},"
                " and each would become the nearest end of it. Are they in another unit? Convert"
                " them, or correct the range.",
                int(numpy.argmax(~seen.missing)),
            )


def value_notes(read: Read, task: TaskConfig) -> Iterator[str]:
    """Yield a sentence for each column with many values outside its range, or one value alone."""
    for name, column in task.table_columns.items():
        if name not in read.columns or read.columns[name].problems:
            continue
        seen = read.columns[name]
        total, present = len(seen.missing), int((~seen.missing).sum())
        beyond = outside(column, seen)
        if not present:
            yield f"Column {name}: no record has a value, so that nothing can be learnt from it."
        elif beyond >= _MANY * present and _FEW <= beyond < present:
            yield (
                f"Column {name}: {beyond} of {present} values lie outside its range,"
                f" {shown_range(column)}, and become the nearest end of it. Is the unit right, and"
                " the range what is possible?"
            )
        elif total >= _FEW and len(seen.values[~seen.missing].unique()) == 1:
            rest = "" if present == total else f", or none ({total - present} of {total})"
            yield f"Column {name}: every record has the same value{rest}; little can be learnt."


def gap_notes(name: str, part: Read, whole: Read, task: TaskConfig) -> Iterator[str]:
    """Yield a sentence for each column and class that one file lacks, of those that others have."""
    if len(part.targets.fitting) < _FEW:
        return
    for column, seen in part.columns.items():
        if seen.missing.all() and not whole.columns[column].missing.all():
            yield (
                f"{name}: no record has a value in column {column}, which others have. A model of"
                " all is used there without it; is it called otherwise, or not measured?"
            )
    if task.outcome.kind in OF_ONE_CLASS and task.target_columns:
        outcome = outcome_of(task)
        here = outcome.counts(part.targets.fitting)
        lacking = [
            label
            for label, count in outcome.counts(whole.targets.fitting).items()
            if count and not here.get(label)
        ]
        if lacking:
            shown = ", ".join(lacking[:_SHOWN]) + (", ..." if len(lacking) > _SHOWN else "")
            yield f"{name}: no record is labelled {shown}, as others are. Is it coded otherwise?"


def label_notes(read: Read, task: TaskConfig) -> Iterator[str]:
    """Yield a sentence if classes have so few records that they may be mistyped ones."""
    if task.outcome.kind not in OF_ONE_CLASS or not task.target_columns:
        return
    counts = outcome_of(task).counts(read.targets.fitting)
    total = sum(counts.values())
    few = {label: count for label, count in counts.items() if 0 < count < _FEW}
    if few and total >= _ENOUGH:
        shown = ", ".join(f"{label} {count}" for label, count in list(few.items())[:_SHOWN])
        more = f" and {len(few) - _SHOWN} more" if len(few) > _SHOWN else ""
        yield (
            f"Labels with fewer than {_FEW} of {total} records: {shown}{more}. Is one mistyped?"
            " Correct the records, and task.labels; little can be learnt of so few."
        )


def text_notes(records: Dataset, task: TaskConfig) -> Iterator[Problem]:
    """Yield a sentence if texts hold characters that were lost before they came here."""
    for name in task.text_limits:
        if name not in records.column_names:
            continue
        texts = records[name][:]
        broken = sum(_REPLACEMENT in text for text in texts if text is not None)
        if broken:
            yield Problem(
                f"Column {name}: {broken} of {len(texts)} texts hold U+FFFD, which stands where a"
                " character could not be read.",
                next(i for i, text in enumerate(texts) if text and _REPLACEMENT in text),
            )


def file_notes(records: Dataset, task: TaskConfig) -> Iterator[Problem]:
    """Yield a sentence for each thing that was done to files, or is odd about them."""
    for reading in () if task.files is None else task.files.each:
        if reading.column in records.column_names:
            yield from _notes_of(records, reading)


def _notes_of(records: Dataset, reading: FileReading) -> Iterator[Problem]:
    name = reading.column
    found: dict[str, list[int]] = {}
    for index, cell in enumerate(records[name]):
        held = parse_held(cell)
        for finding in () if held is None else held.findings:
            found.setdefault(finding, []).append(index)
    opened = opener_of(reading)
    for finding in sorted(found):
        meaning = opened.note(finding)
        if meaning is not None:
            count = f"{len(found[finding])} of {len(records)}"
            yield Problem(f"Column {name}: {count} {reading.what} {meaning}.", found[finding][0])


def token_notes(counts: TokenCounts, limits: Mapping[str, int]) -> Iterator[str]:
    """Yield a sentence if many texts are cut, or many tokens are unknown.

    Args:
        counts: of some texts, or pairs of them.
        limits: column of texts -> ``task.max_tokens``, at least one; those of a pair have the same.
    """
    column, limit = ", ".join(limits), max(limits.values())
    total = sum(counts.lengths)
    cut = sum(length > limit for length in counts.lengths)
    if cut >= _MANY * len(counts.lengths) and cut >= _FEW:
        lost = sum(max(0, length - limit) for length in counts.lengths) / total
        yield (
            f"Column {column}: {cut / len(counts.lengths):.0%} of texts are cut at"
            f" task.max_tokens={limit}, which loses {lost:.0%} of their tokens; raise it if what"
            " comes later matters."
        )
    if counts.unknown >= _MANY * total and counts.unknown >= _FEW:
        yield (
            f"Column {column}: the tokenizer knows no word for {counts.unknown / total:.0%} of"
            " tokens; choose a backbone of this language, or see whether the encoding is right."
        )


def sampled_token_notes(records: Dataset, task: TaskConfig, counter: object) -> list[str]:
    """List what token_notes says of the first of some records, or a task of all of them.

    Args:
        records: records that fit the task.
        task: the schema.
        counter: the task; one that counts no tokens has nothing to say.
    """
    notes = counter.record_notes(records) if isinstance(counter, NotesRecords) else []
    if not isinstance(counter, CountsTokens) or not len(records) or not task.text_limits:
        return notes
    first = records.select(range(min(_SAMPLE, len(records))))
    counts = counter.count_tokens(*(first[name][:] for name in task.text_limits))
    return [*notes, *token_notes(counts, task.text_limits)]


__all__ = [
    "file_notes",
    "label_notes",
    "sampled_token_notes",
    "text_notes",
    "token_notes",
    "value_notes",
    "value_problems",
]
