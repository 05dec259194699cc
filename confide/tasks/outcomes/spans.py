"""Labelled spans of words, one tag a word, under the mean of the words' cross entropies.

A target of n records is [n, t, 3 + K] for K types. Of the first token of a word: its tag, the
word's place in the record, and, where a span begins that can be found, the place after its last
word, else -1. Of any other token: -100. Behind these, at a record's first token, for each type the
number of spans that cannot be found, since a word of theirs has no token.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy

from confide.config.outcomes.outcome import Labelling
from confide.config.outcomes.spans import SpansConfig
from confide.config.spelling import counted, nearest, written
from confide.metrics.outcomes.spans import figures_of
from confide.tasks.outcomes.outcome import Targets, Values
from confide.tasks.reading import Problem
from confide.tasks.spans.tagging import ALL_OUTSIDE, Span, read_tags, scheme_of, spans_of
from confide.tasks.spans.words import items_of

if TYPE_CHECKING:
    from torch import Tensor

TAG, WORD, END = 0, 1, 2
"""Places in a token's target."""
MISSED = 3
"""First place of the numbers of spans that cannot be found."""
NO_LABEL = -100
"""Stands for a token that has no target, and for what fills records up."""
PREDICTION, TAGS = "prediction", "predicted_tags"
_NONE = "none"


class Spans:
    """Targets as above; scores are tallies, whose columns are those of ``figures_of``.

    Args:
        config: types, column and scheme.
        labelling: not read.
    """

    score_name, score_unit = "probabilities", 1.0

    def __init__(self, config: SpansConfig, labelling: Labelling) -> None:
        self._config, self._types = config, list(config.types)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """A row a token."""
        return (-1, MISSED + len(self._types))

    @property
    def score_shape(self) -> tuple[int, ...]:
        """A number a figure."""
        return (len(figures_of(self._types, self._config.most).most),)

    def read(self, columns: Mapping[str, Sequence[object]]) -> Targets:
        """Read tags: each record's are a tuple of numbers, in an array of objects."""
        column = list(columns[self._config.column])
        values = numpy.empty(len(column), dtype=object)
        null = numpy.zeros(len(column), dtype=bool)
        wrong = numpy.zeros(len(column), dtype=bool)
        odd = numpy.zeros(len(column), dtype=numpy.int64)
        unknown: Counter[str] = Counter()
        for record, text in enumerate(column):
            null[record] = text is None
            read = read_tags(self._raw(text), self._config.scheme, self._types)
            values[record], odd[record] = read.tags, read.mended
            unknown.update(read.unknown)
            wrong[record] = bool(read.unknown)
        problems, name = [], self._config.column
        if null.any():
            problems.append(
                Problem(
                    f"Column {name}: {null.sum()} of {len(null)} records have no tags; write O for"
                    " each word outside all spans, or remove these records.",
                    int(numpy.argmax(null)),
                )
            )
        if unknown:
            problems.append(Problem(self._unknown(unknown), int(numpy.argmax(wrong))))
        return Targets(values, ~null & ~wrong, problems, self._mended(odd))

    def _raw(self, text: object) -> list[str]:
        if text is None or text == ALL_OUTSIDE:
            return []
        items, values = items_of(str(text)), self._config.tag_values
        return [values.get(one, one) for one in items] if values else items

    def _unknown(self, unknown: Counter[str]) -> str:
        shown = ", ".join(
            f"{written(tag)} ({counted(n, 'word')})" for tag, n in unknown.most_common(5)
        )
        named = [tag.partition("-")[2] for tag, _ in unknown.most_common(5)]
        near = [why for one in named if one and (why := nearest(one, self._types))]
        scheme = scheme_of(list(unknown), self._types)
        fix = (
            f"task.outcome.scheme={scheme} reads them."
            if scheme
            else "Correct the records, add the type to task.outcome.types, choose another"
            " task.outcome.scheme, or name what numbers mean in task.outcome.tag_values."
        )
        return (
            f"Column {self._config.column}: unknown tag {shown}; the plan knows"
            f" {', '.join(self._types)}, written as outcome.scheme={self._config.scheme} does. "
            + "".join(f"{why}. " for why in near)
            + fix
        )

    def _mended(self, odd: Values) -> list[Problem]:
        if not odd.any():
            return []
        return [
            Problem(
                f"Column {self._config.column}: {odd.sum()} tags go on where no span of their type"
                " began, such as I- after O; each is read as B-.",
                int(numpy.argmax(odd > 0)),
            )
        ]

    def _types_of(self, values: Values) -> Iterator[list[int]]:
        """Yield the types of each record's spans, of tags as they were read or of tensors."""
        if values.dtype == object:
            yield from ([span.type for span in spans_of(tags)] for tags in values)
            return
        for rows in values:
            missed = rows[:, MISSED:].clip(min=0).sum(axis=0)
            found = (rows[rows[:, END] >= 0, TAG] - 1) // 2
            yield [*found.tolist(), *numpy.repeat(numpy.arange(len(self._types)), missed).tolist()]

    def counts(self, values: Values) -> dict[str, int]:
        """Count spans of each type."""
        counted = Counter(one for types in self._types_of(values) for one in types)
        return {name: counted[number] for number, name in enumerate(self._types)}

    def count_problems(
        self, counts: Mapping[str, int], *, total: int, minimum: int
    ) -> Iterator[str]:
        """Yield a sentence for each type with too few spans."""
        for name in self._types:
            if counts[name] < minimum:
                yield (
                    f"Type {name}: {counts[name]} spans, expected at least"
                    f" data.min_per_label={minimum}; bring more records, take the type out of"
                    " task.outcome.types, or lower data.min_per_label."
                )

    def strata(self, values: Values) -> list[str]:
        """Name the type of each record's first span."""
        return [
            self._types[types[0]] if types else _NONE for types in map(list, self._types_of(values))
        ]

    def invent(self, count: int, generator: numpy.random.Generator) -> Mapping[str, list[str]]:
        """Draw tags of one word a record; a task with words invents both together."""
        names = self._config.output_names(Labelling(labels=(), column=""))
        begins = [ALL_OUTSIDE, *(name for name in names if name.startswith("B-"))]
        return {self._config.column: generator.choice(begins, count).tolist()}

    def loss(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the mean cross entropy of a record's words; 0 for a record without any.

        Args:
            outputs: logits, shape [b, t, 1 + 2K].
            targets: shape [b, t, 3 + K].
        """
        from torch.nn.functional import cross_entropy

        from confide.tasks.outcomes.outcome import at_least_float32

        tags = targets[..., TAG].long()
        losses = cross_entropy(
            at_least_float32(outputs).transpose(1, 2),
            tags,
            reduction="none",
            ignore_index=NO_LABEL,
        )
        # Never a mean over the batch's words: a record's loss would depend on the others.
        return losses.sum(dim=1) / (tags != NO_LABEL).sum(dim=1).clamp(min=1)

    def scores(self, outputs: "Tensor") -> "Tensor":
        """Return probabilities of each token's tags, shape [b, t, 1 + 2K]."""
        return outputs.float().softmax(dim=-1)

    def tally(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return what each record adds, shape [b, w] in float64: the columns of ``figures_of``."""
        import torch

        losses = self.loss(outputs, targets).double().cpu().numpy()
        # Not all finite: argmax is anything, and the loss says so.
        predicted = outputs.argmax(dim=-1).cpu().numpy()
        rows = targets.cpu().numpy()
        told = numpy.zeros((len(rows), *self.score_shape))
        for record, (own, tags) in enumerate(zip(rows, predicted, strict=True)):
            there = own[:, TAG] != NO_LABEL
            right = int((own[there, TAG] == tags[there]).sum())
            spans = self._span_counts(own, tags[there].tolist())
            told[record] = [
                1.0,
                losses[record],
                right,
                there.sum(),
                *spans.sum(axis=0),
                *spans.flat,
            ]
        return torch.from_numpy(told)

    def _span_counts(self, target: Values, tags: Sequence[int]) -> Values:
        """Count the hits, predicted and gold spans of each type in one record, shape [K, 3]."""
        own = target[target[:, TAG] != NO_LABEL]
        begins = own[own[:, END] >= 0]
        gold = {Span((tag - 1) // 2, word, end) for tag, word, end in begins[:, :MISSED].tolist()}
        found = list(spans_of(tags, own[:, WORD].tolist()))
        counts = numpy.zeros((len(self._types), 3), dtype=numpy.int64)
        for span in found:
            counts[span.type] += (span in gold, 1, 0)
        for span in gold:
            counts[span.type, 2] += 1
        counts[:, 2] += target[:, MISSED:].clip(min=0).sum(axis=0)
        return counts

    def measured(self, scores: Values, targets: Values) -> tuple[Values, Values]:
        """Return tallies as they are, with targets that nobody reads."""
        return scores, numpy.zeros(len(scores))

    def prediction_columns(self) -> Sequence[str]:
        """Name the columns of spans and of tags."""
        return (PREDICTION, TAGS)

    def predictions(self, scores: Values) -> Mapping[str, Sequence[object] | Values]:
        """Return nothing: of tallies no prediction follows, and the task writes them of outputs."""
        return {}

    def placeholder(self) -> Mapping[str, str]:
        """Return no span, of any number of words."""
        return {self._config.column: ALL_OUTSIDE}

    def labelled(self, columns: Mapping[str, Sequence[str | None]]) -> list[bool]:
        """Say which records have tags."""
        return [tags is not None for tags in columns.get(self._config.column, ())]


__all__ = [
    "END",
    "MISSED",
    "NO_LABEL",
    "PREDICTION",
    "TAG",
    "TAGS",
    "WORD",
    "Spans",
]
