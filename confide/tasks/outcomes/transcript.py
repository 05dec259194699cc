"""Transcripts: the characters of what is said, found frame by frame.

A model gives, for every frame, a number for each character of a public list and one for none.
Which frames a character stands at is nobody's to know: a record's loss is the negative logarithm of
the probability of all ways that write its text (CTC: Graves et al., "Connectionist Temporal
Classification", ICML 2006), over its characters.

What is private is which characters stand in a record's text; the list, the number of frames and the
room for a text are the schema's.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy

from confide.config.outcomes.outcome import Labelling
from confide.config.outcomes.transcript import TranscriptConfig
from confide.metrics.outcomes.transcripts import FIGURES, edit_counts
from confide.tasks.outcomes.answer import NOTHING
from confide.tasks.outcomes.classes import PREDICTION
from confide.tasks.outcomes.outcome import Targets, Values, all_there, at_least_float32
from confide.tasks.reading import Problem, first

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN = 5
_LONGEST_INVENTED = 12


class Transcript:
    """What is said in a recording.

    Targets are code points of a text, [n, K], :data:`NOTHING` behind its end: characters that no
    model writes are among them, since they count as errors.

    Args:
        config: column, characters, room for a text.
        labelling: of the task, which says nothing of it.
    """

    score_name, score_unit = "probabilities", 1.0

    def __init__(self, config: TranscriptConfig, labelling: Labelling) -> None:
        self._config, self._column = config, config.column
        self._characters = config.characters
        self._known = frozenset(config.characters)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """One code point a character; a public number of places."""
        return (self._config.max_characters,)

    @property
    def score_shape(self) -> tuple[int, ...]:
        """What a record adds to the sums that metrics follow from."""
        return (len(FIGURES),)

    # --- records

    def read(self, columns: Mapping[str, Sequence[object]]) -> Targets:
        """Read texts; one without a word is none."""
        most, values = self._config.max_characters, columns[self._column]
        texts = ["" if one is None else self._config.written(str(one)) for one in values]
        lengths = numpy.array([len(text) for text in texts], dtype=int)
        blank, long = lengths == 0, lengths > most
        rows = numpy.full((len(texts), most), NOTHING, dtype=numpy.int64)
        for row, text in zip(rows, texts, strict=True):
            row[: len(text)] = [ord(one) for one in text[:most]]
        problems = []
        if blank.any():
            told = f"{blank.sum()} of {len(texts)} texts are empty; write or remove them."
            problems.append(Problem(f"Column {self._column}: {told}", first(blank)))
        if long.any():
            told = (
                f"{long.sum()} of {len(texts)} texts have more than task.outcome.max_characters"
                f"={most} characters, up to {lengths.max()}; raise it, or cut recording and text."
            )
            problems.append(Problem(f"Column {self._column}: {told}", first(long)))
        return Targets(rows, ~blank & ~long, problems, list(self._notes(texts)))

    def _notes(self, texts: Sequence[str]) -> Iterator[Problem]:
        """Yield that characters stand in texts which no model writes."""
        outside = [[one for one in text if one not in self._known] for text in texts]
        holds = numpy.array([bool(some) for some in outside], dtype=bool)
        if holds.any():
            found = sorted(set(itertools.chain(*outside)))
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            yield Problem(
                f"Column {self._column}: {holds.sum()} of {len(texts)} texts hold characters that"
                f" task.outcome.characters lacks ({' '.join(map(repr, found[:_SHOWN]))}{more}):"
                " they are not learnt, and each counts as an error. Write them out (3 as three),"
                " or add them if they are of the language.",
                first(holds),
            )

    def frames_of(self, values: Values) -> Values:
        """Return the frames that the text of each record takes at least, shape [n].

        One a character, and one between two that are the same: without it they would be one.
        """
        found: Values = numpy.empty(len(values), dtype=int)
        for place, row in enumerate(values):
            text = self._learnt(row[row >= 0].tolist())
            found[place] = len(text) + sum(one == two for one, two in itertools.pairwise(text))
        return found

    def _learnt(self, row: Sequence[int]) -> list[str]:
        """Return the characters of a target that a model can write."""
        return [chr(point) for point in row if point >= 0 and chr(point) in self._known]

    def counts(self, values: Values) -> dict[str, int]:
        """Count texts."""
        return {"texts": len(values)}

    def count_problems(
        self, counts: Mapping[str, int], *, total: int, minimum: int
    ) -> Iterator[str]:
        """Yield that there are too few texts to learn from."""
        if counts["texts"] < minimum:
            yield (
                f"Column {self._column}: {counts['texts']} of {total} records have a text,"
                f" expected at least data.min_per_label={minimum}; bring more, or lower it."
            )

    def strata(self, values: Values) -> list[str]:
        """Name each text's length, to the power of two below."""
        lengths = (values != NOTHING).sum(axis=1)
        return [f"length-{2 ** (int(length).bit_length() - 1)}" for length in lengths.clip(min=1)]

    def invent(self, count: int, generator: numpy.random.Generator) -> Mapping[str, list[str]]:
        """Invent texts of unlike lengths."""
        return {self._column: self.invented(count, generator, longest=_LONGEST_INVENTED)}

    def invented(self, count: int, generator: numpy.random.Generator, *, longest: int) -> list[str]:
        """Invent texts of at most so many characters, no two alike beside each other."""
        letters = [one for one in self._characters if one.strip()]
        lengths = generator.integers(1, min(longest, self._config.max_characters) + 1, size=count)
        drawn = [generator.choice(letters, length) for length in lengths]
        return ["".join(one for one, _ in itertools.groupby(text)) for text in drawn]

    # --- a model

    def loss(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the mean negative log-likelihood of a record's characters, shape [b].

        A text that takes more frames than there are has no likelihood at all. Such records are
        refused where they are read; should one come here all the same its loss is 0, and so is its
        gradient, where it would be infinite, and a gradient that is not finite would be counted as
        none as well.

        Args:
            outputs: shape [b, t, c + 1]; what stands for no character first.
            targets: code points, shape [b, K].
        """
        import torch
        from torch.nn import functional

        places = {one: place for place, one in enumerate(self._characters, start=1)}
        rows = [[places[one] for one in self._learnt(row)] for row in targets.tolist()]
        lengths = torch.tensor([len(row) for row in rows], device=outputs.device)
        padded = torch.zeros(len(rows), max(map(len, rows), default=0), dtype=torch.int64)
        for place, row in enumerate(rows):
            padded[place, : len(row)] = torch.tensor(row, dtype=torch.int64)
        losses = functional.ctc_loss(
            at_least_float32(outputs).log_softmax(dim=-1).transpose(0, 1),
            padded.to(outputs.device),
            torch.full_like(lengths, outputs.shape[1]),
            lengths,
            reduction="none",
            zero_infinity=True,
        )
        return losses / lengths.clamp(min=1)

    def tally(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return what each record adds to :data:`FIGURES`, in float64."""
        import torch

        losses = self.loss(outputs, targets).double().tolist()
        pairs = zip(self.written(outputs), said_texts(targets), losses, strict=True)
        rows = [transcript_figures(written, said, loss) for written, said, loss in pairs]
        return torch.tensor(rows, dtype=torch.float64, device=outputs.device)

    def written(self, outputs: "Tensor") -> list[str]:
        """Return the text of each record: the likeliest character of every frame, repeats once."""
        return [
            " ".join(
                "".join(
                    self._characters[place - 1] for place, _ in itertools.groupby(row) if place
                ).split()
            )
            for row in outputs.argmax(dim=-1).tolist()
        ]

    def scores(self, outputs: "Tensor") -> "Tensor":
        """Return probabilities of characters, [b, t, c + 1]."""
        return at_least_float32(outputs).softmax(dim=-1)

    def measured(self, scores: Values, targets: Values) -> tuple[Values, Values]:
        """Return tallies in float64."""
        return scores.astype(numpy.float64), targets

    # --- predictions

    def prediction_columns(self) -> Sequence[str]:
        """Name the column of written texts."""
        return (PREDICTION,)

    def predictions(self, scores: Values) -> Mapping[str, Sequence[object] | Values]:
        """Return nothing: a task writes texts of a model's outputs itself."""
        return {}

    def placeholder(self) -> Mapping[str, str]:
        """Return a text of one character, which fits any number of frames."""
        return {self._column: next(one for one in self._characters if one.strip())}

    def labelled(self, columns: Mapping[str, Sequence[str | None]]) -> list[bool]:
        """Say which records have a text."""
        return all_there(columns, (self._column,))


def said_texts(targets: "Tensor") -> list[str]:
    """Return the texts of targets [b, K]."""
    return ["".join(chr(point) for point in row if point >= 0) for row in targets.tolist()]


def transcript_figures(written: str, said: str, loss: float) -> list[float]:
    """Return what a record adds to :data:`FIGURES`."""
    return [*edit_counts(written, said), 1, loss, written == said]


__all__ = ["Transcript", "said_texts", "transcript_figures"]
