"""What is written: the log-probability of each piece of it, all pieces before it as they are."""

from collections.abc import Sequence

from torch import Tensor

from confide.explaining.target import Target, chosen
from confide.explaining.vocabulary import Vocabulary
from confide.explaining.written import pieces_of
from confide.inference.predictor import Predictor
from confide.tasks.outcomes.transcript import said_texts
from confide.tasks.task import LABELS, Batch

_NOTHING = "nothing"


def of_tokens(predictor: Predictor, outputs: Tensor, batch: Batch, wanted: str | None) -> Target:
    """Explain what a model wrote token by token, or one token, by its number from 1.

    Args:
        predictor: whose task has a tokenizer.
        outputs: log-probabilities of the tokens that were written, [1, k].
        batch: whose labels are these tokens.
        wanted: number of a token; None for all.
    """
    ids, vocabulary = batch[LABELS][0].tolist(), Vocabulary(predictor)
    texts, joined = vocabulary.texts(ids)
    return _written(texts, joined, vocabulary.text(ids), outputs, wanted)


def of_words(predictor: Predictor, outputs: Tensor, batch: Batch, wanted: str | None) -> Target:
    """Explain a transcript word by word, or one word; of a single word, its characters.

    Args:
        predictor: of transcripts.
        outputs: log-probabilities of what was written, [1, k].
        batch: whose labels are its characters' code points.
        wanted: number of a word; None for all.
    """
    (text,) = said_texts(batch[LABELS])
    pieces = pieces_of(text)
    return _written(pieces or [_NOTHING], [" " not in text] * len(pieces), text, outputs, wanted)


def _written(
    pieces: Sequence[str], joined: Sequence[bool], text: str, outputs: Tensor, wanted: str | None
) -> Target:
    prediction = f"“{text}”" if text else _NOTHING
    numbers = [str(number) for number in range(1, len(pieces) + 1)]
    if wanted is not None:
        place = chosen(numbers, wanted, 0)
        name = f"“{pieces[place]}” ({wanted} of {len(pieces)})"
        return Target(
            name=wanted,
            unit=f"log-probability of {name}",
            prediction=prediction,
            score_fn=lambda made: made[:, place],
            shown_fn=lambda made: made[:, place].exp(),
            shown=f"probability of {name}",
        )
    return Target(
        name=text,
        unit="log-probability of what was written",
        prediction=prediction,
        score_fn=lambda made: made,
        shown_fn=lambda made: made.mean(dim=1).exp(),
        shown="mean probability (geometric) of what was written, piece by piece",
        pieces=pieces,
        joined=joined,
    )


__all__ = ["of_tokens", "of_words"]
