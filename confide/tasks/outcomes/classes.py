"""Classes: one of several for each record, under softmax cross entropy."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy
from numpy.typing import NDArray

from confide.config.outcomes.outcome import Labelling, OutcomeConfig
from confide.config.spelling import counted, name_index, nearest, spelled_in, written
from confide.tasks.outcomes.outcome import (
    UNLABELLED,
    Targets,
    Values,
    all_there,
    at_least_float32,
)
from confide.tasks.reading import Problem, distinct_of, first

if TYPE_CHECKING:
    from torch import Tensor

PREDICTION, PROBABILITY = "prediction", "probability_"
"""Column of the predicted class's name, and the start of the columns of probabilities."""
_SHOWN = 5


class Classes:
    """Targets are class indices, int64 of shape [n]; scores are class probabilities [n, c].

    Args:
        config: without settings of its own.
        labelling: names of the classes, where they are read, and how they are smoothed.
    """

    target_shape: tuple[int, ...] = ()
    score_name, score_unit = "probabilities", 1.0
    label_settings = "task.labels or task.label_values"
    """Settings that name labels, for messages."""

    def __init__(self, config: OutcomeConfig, labelling: Labelling) -> None:
        self._labelling, self._names = labelling, list(labelling.labels)

    @property
    def score_shape(self) -> tuple[int, ...]:
        """One probability a class."""
        return (len(self._names),)

    def read(self, columns: Mapping[str, Sequence[object]]) -> Targets:
        """Map the label column to class indices; UNLABELLED where it is null or unknown."""
        column = self._labelling.column
        values = columns[column]
        classes = {name: i for i, name in enumerate(self._labelling.labels)}
        # Without a mapping, raw values are class names themselves.
        known = {raw: classes[name] for raw, name in self._labelling.values.items()} or classes
        numbers = list(known.values())
        index = {name: numbers[i] for name, i in name_index(list(known)).items()}
        codes, distinct = distinct_of(values)
        raw = [str(value) for value in distinct]
        found: list[int | None] = [*(index.get(spelled_in(index, text)) for text in raw), None]
        # A null has the code -1, which is the last element.
        null = numpy.array([*(text.strip() == "" for text in raw), True])
        unknown = numpy.array([number is None for number in found]) & ~null
        lacking, problems = self._lacking(null[codes]), []
        if lacking and not self._labelling.may_lack:
            problems.append(lacking)
        if unknown[codes].any():
            seen = numpy.bincount(codes[codes >= 0], minlength=len(raw)).tolist()
            counts = Counter({raw[code]: n for code, n in enumerate(seen) if unknown[code]})
            text = _unknown_labels(column, counts, list(known), where=self.label_settings)
            where = unknown[codes]
            problems.append(Problem(text, first(where), where, "unknown label"))
        indices = numpy.array(
            [UNLABELLED if one is None else one for one in found], dtype=numpy.int64
        )[codes]
        notes = [lacking] if lacking and self._labelling.may_lack else []
        return Targets(indices, indices != UNLABELLED, problems, notes)

    def _lacking(self, null: NDArray[numpy.bool_]) -> Problem | None:
        """Say which records have no label, as a problem or as a note; None where all have one."""
        if not null.any():
            return None
        begins = f"Column {self._labelling.column}: {null.sum()} of {len(null)} labels are null; "
        if not self._labelling.may_lack:
            fix = "label or remove these records, or train on them too (task.self_training=0.95)."
            return Problem(begins + fix, first(null))
        meaning = (
            "each of these records is a unit, charged as any other, and is trained on as a class"
            " that the model of a round is sure of (task.self_training)."
        )
        return Problem(begins + meaning, first(null))

    def counts(self, values: Values) -> dict[str, int]:
        """Count the records of each class."""
        counted = Counter(values.tolist())
        return {name: counted[index] for index, name in enumerate(self._names)}

    def count_problems(
        self, counts: Mapping[str, int], *, total: int, minimum: int
    ) -> Iterator[str]:
        """Yield a sentence for each class with too few records."""
        yield from few_of(counts, total=total, minimum=minimum)

    def strata(self, values: Values) -> list[str]:
        """Name each record's class; "" where it has none."""
        return ["" if index == UNLABELLED else self._names[index] for index in values.tolist()]

    def invent(self, count: int, generator: numpy.random.Generator) -> Mapping[str, list[str]]:
        """Draw labels, each as likely."""
        raw = list(self._labelling.values) or self._names
        return {self._labelling.column: generator.choice(raw, count).tolist()}

    def loss(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return softmax cross entropy, of labels as the task smooths them."""
        from torch.nn import functional

        return functional.cross_entropy(
            at_least_float32(outputs),
            targets,
            reduction="none",
            label_smoothing=self._labelling.smoothing,
        )

    def loss_gradient(self, outputs: "Tensor", targets: "Tensor") -> "Tensor | None":
        """Return the loss's gradient of outputs [b, c], without autograd and with its bits.

        None where labels are smoothed, or a subclass has another loss.
        """
        import torch

        is_other = type(self).loss is not Classes.loss
        if is_other or self._labelling.smoothing or outputs.dtype != torch.float32:
            return None
        logs = outputs.log_softmax(dim=1)
        picked = torch.zeros_like(logs).scatter_(1, targets[:, None], -1.0)
        backward = torch.ops.aten._log_softmax_backward_data.default
        gradient: Tensor = backward(picked, logs, 1, logs.dtype)
        return gradient

    def scores(self, outputs: "Tensor") -> "Tensor":
        """Return class probabilities."""
        return outputs.float().softmax(dim=-1)

    def measured(self, scores: Values, targets: Values) -> tuple[Values, Values]:
        """Return probabilities that add up to one."""
        probabilities = scores.astype(numpy.float64)
        # float32 probabilities add up to one only nearly.
        return probabilities / probabilities.sum(axis=1, keepdims=True), targets

    def stated(self, scores: Values, targets: Values) -> tuple[Values, Values]:
        """Return the probability of the likeliest class [n, 1], and whether it was the label."""
        return scores.max(axis=1)[:, None], (scores.argmax(axis=1) == targets)[:, None]

    def prediction_columns(self) -> Sequence[str]:
        """Name the likeliest class's column and one a class."""
        return (PREDICTION, *(f"{PROBABILITY}{name}" for name in self._names))

    def predictions(self, scores: Values) -> Mapping[str, Sequence[object] | Values]:
        """Name the likeliest class, and give each one's probability."""
        columns = {f"{PROBABILITY}{name}": scores[:, i] for i, name in enumerate(self._names)}
        return {PREDICTION: [self._names[i] for i in scores.argmax(axis=1).tolist()], **columns}

    def placeholder(self) -> Mapping[str, str]:
        """Return any label."""
        return {self._labelling.column: next(iter(self._labelling.values), self._names[0])}

    def labelled(self, columns: Mapping[str, Sequence[str | None]]) -> list[bool]:
        """Say which records have a label."""
        return all_there(columns, (self._labelling.column,))


def few_of(counts: Mapping[str, int], *, total: int, minimum: int) -> Iterator[str]:
    """Yield a sentence for each label with too few records."""
    for label, count in counts.items():
        if count < minimum:
            yield (
                f"Label {label}: {count} of {total} records, expected at least"
                f" data.min_per_label={minimum}; bring more, or lower data.min_per_label."
            )


def _unknown_labels(name: str, unknown: Counter[str], known: Sequence[str], *, where: str) -> str:
    shown = ", ".join(
        f"{written(value)} ({counted(count, 'record')})"
        for value, count in unknown.most_common(_SHOWN)
    )
    near = [why for value, _ in unknown.most_common(_SHOWN) if (why := nearest(value, known))]
    return (
        f"Column {name}: unknown label {shown}; the plan knows {', '.join(known)}. "
        + "".join(f"{why}. " for why in near)
        + "Correct the records, or add the label to "
        + where
        + "."
    )


__all__ = ["PREDICTION", "PROBABILITY", "Classes", "few_of"]
