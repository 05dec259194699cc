"""Answers: the tokens that somebody said next.

Targets are token ids, int64 of shape [n, K] with -100 behind an answer's end; a model gives logits
[b, K, v] at their places. As read from records, without a tokenizer, a target is a row of that
shape that tells answers and their lengths apart: a hash, and a 0 for each word more.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy

from confide.config.outcomes.answer import AnswerConfig
from confide.config.outcomes.outcome import LABEL_COLUMN, Labelling
from confide.metrics.outcomes.answers import FIGURES
from confide.tasks.conversations.messages import ASSISTANT, parse_messages
from confide.tasks.outcomes.classes import PREDICTION
from confide.tasks.outcomes.outcome import Targets, Values, all_there, at_least_float32
from confide.tasks.reading import Problem, first

if TYPE_CHECKING:
    from torch import Tensor

NOTHING = -100
"""Stands where an answer has ended."""
_ANY = "-"
_STEP = 8


class Answer:
    """Words that follow a conversation.

    Args:
        config: column and length.
        labelling: names the column of whole conversations, if there is one.
    """

    score_name, score_unit = "logits", 1.0
    _one, _many = "an answer", "answers"

    def __init__(self, config: AnswerConfig, labelling: Labelling) -> None:
        self._config = config
        (self._column,) = config.columns(labelling)
        self._in_messages = labelling.column != LABEL_COLUMN
        # A public number, the same for all records: shapes tell nothing of them
        self._width = -(-config.max_tokens // _STEP) * _STEP

    @property
    def target_shape(self) -> tuple[int, ...]:
        """One id a token."""
        return (self._width,)

    @property
    def score_shape(self) -> tuple[int, ...]:
        """What a record adds to the sums that metrics follow from."""
        return (len(FIGURES),)

    # --- records

    def read(self, columns: Mapping[str, Sequence[object]]) -> Targets:
        """Read answers; one without a word is none."""
        values = columns[self._column]
        answers = [self._answer(None if value is None else str(value)) for value in values]
        known = numpy.array([bool(answer and answer.strip()) for answer in answers], dtype=bool)
        rows = numpy.full((len(answers), self._width), NOTHING, dtype=numpy.int64)
        for row, answer in zip(rows[known], filter(str.strip, filter(None, answers)), strict=True):
            row[: len(answer.split())] = 0
            digest = hashlib.blake2b(answer.encode(), digest_size=7).digest()
            row[0] = int.from_bytes(digest, "little")
        problems = []
        if not known.all():
            problems.append(
                Problem(
                    f"Column {self._column}: {(~known).sum()} of {len(known)} {self._many} are"
                    " empty or missing; write them or remove these records.",
                    first(~known),
                )
            )
        return Targets(rows, known, problems)

    def _answer(self, value: str | None) -> str | None:
        """Return a record's answer; None where there is none, or no conversation either."""
        if value is None or not self._in_messages:
            return value
        try:
            return parse_messages(value).answer
        except ValueError:  # told where conversations are read
            return None

    def counts(self, values: Values) -> dict[str, int]:
        """Count them."""
        return {self._many: len(values)}

    def count_problems(
        self, counts: Mapping[str, int], *, total: int, minimum: int
    ) -> Iterator[str]:
        """Yield that there are too few answers to learn from."""
        if counts[self._many] < minimum:
            yield (
                f"Column {self._column}: {counts[self._many]} of {total} records have {self._one},"
                f" expected at least data.min_per_label={minimum}; bring more, or lower it."
            )

    def strata(self, values: Values) -> list[str]:
        """Name each answer's length, to the power of two below."""
        lengths = (values != NOTHING).sum(axis=1)
        return [f"length-{2 ** (int(length).bit_length() - 1)}" for length in lengths.clip(min=1)]

    def invent(self, count: int, generator: numpy.random.Generator) -> Mapping[str, list[str]]:
        """Return any answer: a task invents those that belong to its questions."""
        return {} if self._in_messages else {self._column: [_ANY] * count}

    # --- a model

    def logits(self, outputs: "Tensor") -> "Tensor":
        """Return what a model gives for each token at each place, [b, K, v]."""
        return outputs

    def token_losses(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the negative log-likelihood of each token, [b, K]; 0 behind an answer's end."""
        from torch.nn import functional

        logits = at_least_float32(self.logits(outputs))
        flat = functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=NOTHING
        )
        return flat.view(targets.shape)

    def loss(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the mean negative log-likelihood of a record's tokens, shape [b]."""
        lengths = (targets != NOTHING).sum(dim=1)
        return self.token_losses(outputs, targets).sum(dim=1) / lengths.clamp(min=1)

    def tally(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return what each record adds to :data:`FIGURES`, in float64."""
        import torch

        is_token = targets != NOTHING
        right = (self.logits(outputs).argmax(dim=-1) == targets) & is_token
        lengths = is_token.sum(dim=1)
        columns = [
            torch.ones_like(lengths),
            self.token_losses(outputs, targets).double().sum(dim=1),
            lengths,
            right.sum(dim=1),
            right.sum(dim=1) == lengths,
        ]
        return torch.stack([column.double() for column in columns], dim=1)

    def scores(self, outputs: "Tensor") -> "Tensor":
        """Return logits: a record's tally needs its answer too (:meth:`tally`)."""
        return outputs

    def measured(self, scores: Values, targets: Values) -> tuple[Values, Values]:
        """Return tallies in float64."""
        return scores.astype(numpy.float64), targets

    # --- predictions

    def prediction_columns(self) -> Sequence[str]:
        """Name the column of written answers."""
        return (PREDICTION,)

    def predictions(self, scores: Values) -> Mapping[str, Sequence[object] | Values]:
        """Return nothing: answers are written by a model and do not follow from scores."""
        return {}

    def placeholder(self) -> Mapping[str, str]:
        """Return any answer; where it stands in the conversation, :meth:`completed` writes it."""
        return {} if self._in_messages else {self._column: _ANY}

    def completed(self, columns: Mapping[str, Sequence[str | None]]) -> dict[str, list[str | None]]:
        """Return conversations of which each has an answer, its own or any."""
        if not self._in_messages or self._column not in columns:
            return {}
        return {self._column: [self._with_answer(text) for text in columns[self._column]]}

    def _with_answer(self, text: str | None) -> str | None:
        try:
            listed = [] if text is None else json.loads(text)
        except (ValueError, RecursionError):
            return text
        is_open = isinstance(listed, list) and listed and self._answer(text) is None
        if not is_open:
            return text
        return json.dumps([*listed, {"role": ASSISTANT, "content": _ANY}], ensure_ascii=False)

    def labelled(self, columns: Mapping[str, Sequence[str | None]]) -> list[bool]:
        """Say which records have an answer."""
        if not self._in_messages or self._column not in columns:
            return all_there(columns, (self._column,))
        return [bool(self._answer(text)) for text in columns[self._column]]


def rouge_l(found: Sequence[int], wanted: Sequence[int]) -> float:
    """Return ROUGE-L of two texts' tokens: the F1 of their longest common subsequence.

    Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004, section 3, on token ids.

    >>> rouge_l([1, 2, 3, 4], [1, 3, 9, 4])
    0.75
    """
    longest = [0] * (len(found) + 1)
    for token in wanted:
        before = longest.copy()
        for place, other in enumerate(found, start=1):
            longest[place] = (
                before[place - 1] + 1 if other == token else max(before[place], longest[place - 1])
            )
    return 2 * longest[-1] / max(1, len(found) + len(wanted))


__all__ = ["NOTHING", "Answer", "rouge_l"]
