"""Several labels a record, each of which holds or not, under sigmoid cross entropy."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy

from confide.config.outcomes.multi_label import MultiLabelConfig
from confide.config.outcomes.outcome import Labelling
from confide.config.spelling import canonical_name, counted, name_index, nearest, written
from confide.tasks.outcomes.classes import PREDICTION, PROBABILITY
from confide.tasks.outcomes.outcome import Targets, Values, all_there
from confide.tasks.reading import Problem, distinct_of, first, number_of
from confide.tasks.spans.words import items_of_list

if TYPE_CHECKING:
    from torch import Tensor

_NONE = "none of them"
"""How records are counted for which no label holds."""
_HOLDS = 0.5
_YES_NO = {"yes": 1.0, "no": 0.0}


class MultiLabel:
    """Targets are 0 or 1, int64 of shape [n, l]; scores are probabilities [n, l].

    Args:
        config: names of the labels, and where they are read.
        labelling: not read.
    """

    score_name, score_unit = "probabilities", 1.0

    def __init__(self, config: MultiLabelConfig, labelling: Labelling) -> None:
        self._config, self._names = config, list(config.labels)
        self._separator = config.separator

    @property
    def target_shape(self) -> tuple[int, ...]:
        """One number a label."""
        return (len(self._names),)

    @property
    def score_shape(self) -> tuple[int, ...]:
        """One probability a label."""
        return (len(self._names),)

    def read(self, columns: Mapping[str, Sequence[object]]) -> Targets:
        """Read columns of zeros and ones, or one that lists labels."""
        if self._config.column is not None:
            return self._read_lists(columns[self._config.column])
        parts = [self._read_truths(name, columns[name]) for name in self._names]
        values = numpy.stack([part.values for part in parts], axis=1)
        known = numpy.logical_and.reduce([part.known for part in parts])
        return Targets(values, known, [problem for part in parts for problem in part.problems])

    def _read_truths(self, name: str, column: Sequence[object]) -> Targets:
        """Read whether one label holds."""
        codes, distinct = distinct_of(column)
        text = [str(value).strip() for value in distinct]
        # A null has the code -1, which is the last element.
        numbers = numpy.array([*map(_truth, text), numpy.nan])[codes]
        null = numpy.array([*(value == "" for value in text), True])[codes]
        known = (numbers == 0) | (numbers == 1)
        wrong, problems = ~known & ~null, []
        if null.any():
            problems.append(
                Problem(
                    f"Column {name}: {null.sum()} of {len(null)} labels are null; write 0 or 1, or"
                    " remove these records.",
                    first(null),
                )
            )
        if wrong.any():
            example = written(str(list(column)[first(wrong)]))
            problems.append(
                Problem(
                    f"Column {name}: {wrong.sum()} of {len(wrong)} values are neither 0 nor 1,"
                    " true nor false, yes nor no, as a label of outcome.kind=multi_label is, such"
                    f" as {example}; correct the records.",
                    first(wrong),
                )
            )
        return Targets((numbers == 1).astype(numpy.int64), known, problems)

    def _read_lists(self, column: Sequence[object]) -> Targets:
        """Read lists of the labels that hold; an empty one is a record for which none does."""
        codes, distinct = distinct_of(column)
        index, size = name_index(self._names), len(self._names)
        rows = numpy.zeros((len(distinct) + 1, size), dtype=numpy.int64)
        known = numpy.ones(len(distinct) + 1, dtype=bool)
        unknown: Counter[str] = Counter()
        times = numpy.bincount(codes[codes >= 0], minlength=len(distinct)).tolist()
        for row, (value, count) in enumerate(zip(distinct, times, strict=True)):
            for word in filter(None, map(str.strip, self._listed(str(value)))):
                place = index.get(canonical_name(word))
                if place is None:
                    unknown[word] += count
                    known[row] = False
                else:
                    rows[row, place] = 1
        problems = []
        if unknown:
            problems.append(Problem(self._unknown(unknown), first(~known[codes])))
        return Targets(rows[codes], known[codes], problems)

    def _listed(self, text: str) -> Sequence[str]:
        """Return the labels of a record: of a list, as JSON and Parquet have one, or of a text."""
        listed = items_of_list(text)
        return text.split(self._separator) if listed is None else listed

    def _unknown(self, unknown: Counter[str]) -> str:
        shown = ", ".join(
            f"{written(word)} ({counted(n, 'record')})" for word, n in unknown.most_common(5)
        )
        near = [why for word, _ in unknown.most_common(5) if (why := nearest(word, self._names))]
        return (
            f"Column {self._config.column}: unknown label {shown}; the plan knows"
            f" {', '.join(self._names)}. "
            + "".join(f"{why}. " for why in near)
            + f"Correct the records, add the label to task.outcome.labels, or see whether"
            f" outcome.separator={self._separator!r} is what stands between two."
        )

    def counts(self, values: Values) -> dict[str, int]:
        """Count the records for which each label holds, and those for which none does."""
        held = values.sum(axis=0).astype(int).tolist() if len(values) else [0] * len(self._names)
        none = int((values.sum(axis=1) == 0).sum()) if len(values) else 0
        return {**dict(zip(self._names, held, strict=True)), _NONE: none}

    def count_problems(
        self, counts: Mapping[str, int], *, total: int, minimum: int
    ) -> Iterator[str]:
        """Yield a sentence for each label that holds for too few records, or too few not."""
        for name in self._names:
            rest = total - counts[name]
            if min(counts[name], rest) < minimum:
                yield (
                    f"Label {name}: holds for {counts[name]} of {total} records and not for {rest},"
                    f" expected at least data.min_per_label={minimum} of each; bring more, or lower"
                    " data.min_per_label."
                )

    def strata(self, values: Values) -> list[str]:
        """Name the rarest label that holds for each record."""
        found = [_NONE] * len(values)
        # The commonest first, so that rarer ones are written over it
        for place in numpy.argsort(-values.sum(axis=0), kind="stable"):
            for record in numpy.flatnonzero(values[:, place]):
                found[record] = self._names[place]
        return found

    def invent(self, count: int, generator: numpy.random.Generator) -> Mapping[str, list[str]]:
        """Draw labels, each as likely to hold as not."""
        held = generator.random((count, len(self._names))) < 0.5
        if self._config.column is None:
            return {
                name: [str(int(one)) for one in held[:, place]]
                for place, name in enumerate(self._names)
            }
        lists = [self._separator.join(itertools.compress(self._names, row)) for row in held]
        return {self._config.column: lists}

    def loss(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return sigmoid cross entropy."""
        from confide.tasks.outcomes.binary import binary_losses

        return binary_losses(outputs, targets)

    def scores(self, outputs: "Tensor") -> "Tensor":
        """Return probabilities."""
        return outputs.float().sigmoid()

    def measured(self, scores: Values, targets: Values) -> tuple[Values, Values]:
        """Return probabilities in float64."""
        return scores.astype(numpy.float64), targets

    def stated(self, scores: Values, targets: Values) -> tuple[Values, Values]:
        """Return the probability of each label, and whether it holds."""
        return scores, targets

    def prediction_columns(self) -> Sequence[str]:
        """Name the column of the labels that hold, and one a label."""
        return (PREDICTION, *(f"{PROBABILITY}{name}" for name in self._names))

    def predictions(self, scores: Values) -> Mapping[str, Sequence[object] | Values]:
        """List the labels that are likelier than not, and give each one's probability."""
        columns = {f"{PROBABILITY}{name}": scores[:, i] for i, name in enumerate(self._names)}
        held = [
            self._separator.join(self._names[place] for place in numpy.flatnonzero(row >= _HOLDS))
            for row in scores
        ]
        return {PREDICTION: held, **columns}

    def placeholder(self) -> Mapping[str, str]:
        """Return no label."""
        if self._config.column is not None:
            return {self._config.column: ""}
        return dict.fromkeys(self._names, "0")

    def labelled(self, columns: Mapping[str, Sequence[str | None]]) -> list[bool]:
        """Say which records have labels: in a column that lists them, all of it that is there."""
        if self._config.column is not None:
            return [True] * len(columns.get(self._config.column, ()))
        return all_there(columns, self._names)


def _truth(text: str) -> float:
    """Return 1 or 0 for a truth value, however it is written; another number, or NaN, for none."""
    found = _YES_NO.get(text.lower())
    return number_of(text) if found is None else found


__all__ = ["MultiLabel"]
