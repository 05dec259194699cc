"""Conversations: messages of a system, a user and an assistant, read without a tokenizer.

Needs no torch.
"""

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy
from datasets import Dataset

from confide.config.tasks.causal_lm import CausalLmConfig
from confide.tasks.reading import Problem, first, holds_half
from confide.tasks.schema import Inputs

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
_ROLES = {
    **{name: name for name in (SYSTEM, USER, ASSISTANT)},
    "developer": SYSTEM,
    "human": USER,
    "gpt": ASSISTANT,
    "model": ASSISTANT,
}
_FORMS = (("role", "content"), ("from", "value"))
"""Keys of who said something, and what: OpenAI's, and ShareGPT's."""
_LETTERS = "aeiounrstlmdk"
_LONGEST_WORD, _MOST_WORDS = 7, 12


class Message(NamedTuple):
    """What somebody said."""

    role: str
    content: str


class Conversation(NamedTuple):
    """Messages up to a question, and what was answered.

    Attributes:
        messages: at least one, the last of them a user's.
        answer: None where nobody has answered yet.
    """

    messages: tuple[Message, ...]
    answer: str | None

    @property
    def question(self) -> str:
        """The user's last message."""
        return self.messages[-1].content

    def after(self, said: Sequence[Message]) -> "Conversation":
        """Return it with messages said before its own; a system's message stays the first."""
        start = 1 if self.messages[0].role == SYSTEM else 0
        return self._replace(messages=(*self.messages[:start], *said, *self.messages[start:]))


def parse_messages(text: str) -> Conversation:
    """Read a conversation that is written as JSON, with OpenAI's keys and roles or ShareGPT's.

    Raises:
        ValueError: saying what is wrong, as the end of a sentence that begins with the number of
            such conversations.
    """
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("are no JSON") from None
    if holds_half(text):
        raise ValueError("hold half of a character (a surrogate alone)")
    if not isinstance(listed, list) or not listed:
        raise ValueError("are no list of messages")
    messages = [_message(one) for one in listed]
    answer = messages.pop().content if messages[-1].role == ASSISTANT else None
    if any(one.role == SYSTEM for one in messages[1:]):
        raise ValueError("have a system message that is not the first")
    if not messages or messages[-1].role != USER:
        raise ValueError("have no user's message before the answer")
    if any(not one.content.strip() for one in messages):
        raise ValueError("have a message without a word before the answer")
    return Conversation(tuple(messages), answer)


def _message(value: object) -> Message:
    said = isinstance(value, dict) and next(
        ((value[who], value[what]) for who, what in _FORMS if {who, what} <= value.keys()), None
    )
    if not said:
        raise ValueError("have messages without role and content")
    role = _ROLES.get(said[0]) if isinstance(said[0], str) else None
    if role is None:
        raise ValueError(f"have messages of another role than {', '.join(_ROLES)}")
    return Message(role, _content(said[1]))


def _content(value: object) -> str:
    """Return what a message says: a text, or parts that are texts."""
    parts = value if isinstance(value, list) and value else [{"type": "text", "text": value}]
    found = [
        one["text"] for one in parts if isinstance(one, dict) and one.keys() == {"type", "text"}
    ]
    texts = [text for text in found if isinstance(text, str)]
    if len(texts) < len(parts):
        raise ValueError("have messages whose content is no text")
    return "\n".join(texts)


def conversations_of(records: Dataset, config: CausalLmConfig) -> Iterator[Conversation]:
    """Yield the conversation of each record; those that fit, all of them."""
    if config.messages_column is not None:
        yield from map(parse_messages, records[config.messages_column][:])
        return
    (column,) = config.target_columns
    about = config.context_column
    contexts = [None] * len(records) if about is None else records[about][:]
    asked = zip(records[config.prompt_column][:], contexts, records[column][:], strict=True)
    for prompt, context, answer in asked:
        question = f"{prompt}\n\n{context}" if context and context.strip() else str(prompt)
        yield Conversation((Message(USER, question),), None if answer is None else str(answer))


def read_conversations(records: Dataset, config: CausalLmConfig) -> Inputs:
    """Look at questions, or at conversations up to their answers."""
    name = config.messages_column or config.prompt_column
    if name not in records.column_names:
        return Inputs({}, [])
    values = records[name][:]
    blank = numpy.array([value is None or not value.strip() for value in values], dtype=bool)
    problems = []
    if blank.any():
        told = f"Column {name}: {blank.sum()} of {len(values)} conversations are empty; write or"
        problems.append(Problem(f"{told} remove them.", first(blank)))
    if config.messages_column is None:
        return Inputs({}, problems)
    found: dict[str, list[int]] = {}
    for place in numpy.flatnonzero(~blank).tolist():
        try:
            parse_messages(values[place])
        except ValueError as error:
            found.setdefault(str(error), []).append(place)
    wrong = [
        Problem(
            f"Column {name}: {len(places)} of {len(values)} conversations {reason}; expected JSON"
            ' such as [{"role": "user", "content": "..."}, {"role": "assistant", "content":'
            ' "..."}].',
            places[0],
        )
        for reason, places in found.items()
    ]
    return Inputs({}, [*problems, *wrong])


def invented_conversations(
    config: CausalLmConfig, count: int, generator: numpy.random.Generator
) -> dict[str, Sequence[object]]:
    """Invent questions and answers of unlike lengths."""
    questions, answers = ([_words(generator) for _ in range(count)] for _ in range(2))
    if config.messages_column is None:
        (column,) = config.target_columns
        about = config.context_column
        contexts = {} if about is None else {about: [""] * count}
        return {config.prompt_column: questions, **contexts, column: answers}
    told = [
        json.dumps([{"role": USER, "content": question}, {"role": ASSISTANT, "content": answer}])
        for question, answer in zip(questions, answers, strict=True)
    ]
    return {config.messages_column: told}


def _words(generator: numpy.random.Generator) -> str:
    lengths = generator.integers(1, _LONGEST_WORD, size=generator.integers(1, _MOST_WORDS))
    return " ".join("".join(generator.choice(list(_LETTERS), length)) for length in lengths)


__all__ = [
    "ASSISTANT",
    "SYSTEM",
    "USER",
    "Conversation",
    "Message",
    "conversations_of",
    "invented_conversations",
    "parse_messages",
    "read_conversations",
]
