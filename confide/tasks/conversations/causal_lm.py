"""Conversations, as tokens of a causal language model and the answer's tokens among them.

The chat template of the backbone's folder writes a conversation; the folder's content hash, which a
plan names, covers it. A question's tokens have to be the beginning of the whole conversation's, and
what follows is the answer, up to the token that ends it. Nothing is packed: a record's row holds
that record alone, and padding is told by lengths and not by an id, since some models pad with the
token that ends an answer.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from torch import Tensor

from confide.config.outcomes.answer import AnswerConfig
from confide.config.tasks.causal_lm import CausalLmConfig
from confide.errors import DataError, ModelError, words_of
from confide.tasks.conversations.messages import (
    ASSISTANT,
    SYSTEM,
    Conversation,
    Message,
    conversations_of,
    parse_messages,
)
from confide.tasks.labelled import Labelled
from confide.tasks.outcomes.answer import NOTHING, Answer
from confide.tasks.outcomes.classes import PREDICTION
from confide.tasks.task import LABELS, LENGTH_STEP, Batch, Examples, padded_length
from confide.tasks.tokens import TokenCounts

log = logging.getLogger(__name__)

ANSWER_AT = "answer_at"
"""Where an answer's tokens are predicted: position of the token before each, shape [n, K]."""
_RAGGED = {"input_ids": 0, "attention_mask": 0}
_NO_TOKEN = -1
_FIXED_DATE = "{% macro strftime_now(form) %}01 Jan 2025{% endmacro %}"


class _Row(NamedTuple):
    """A record's tokens."""

    prompt: list[int]
    answer: list[int]
    is_cut: bool


class CausalLm(Labelled):
    """Conversations in, the answer's tokens out.

    Args:
        config: columns, lengths, system message.
        tokenizer: a Hugging Face tokenizer with a chat template.

    Raises:
        ModelError: if it has none.
    """

    def __init__(self, config: CausalLmConfig, *, tokenizer: Any) -> None:
        super().__init__(config)
        assert isinstance(config.outcome, AnswerConfig)
        self._config, self._tokenizer = config, tokenizer
        self._most = config.outcome.max_tokens
        self._answers = Answer(config.outcome, config.labelling)
        if not tokenizer.chat_template:
            raise ModelError(
                "The backbone's folder holds no chat template, so that nothing says how a"
                " conversation is written; bring a model that was tuned for chat, or add"
                " chat_template.jinja."
            )
        # A template that writes today's date would encode a record anew each day
        self._template = _FIXED_DATE + tokenizer.get_chat_template()
        self._control = control_tokens(tokenizer)

    def encode(self, records: Dataset) -> Examples:
        """Write conversations and tokenise them.

        Returns:
            ``input_ids`` and ``attention_mask`` of shape [n, t], without the answer's last token,
            from which nothing is predicted; ``answer_at`` and ``labels``, the answer's tokens, of
            shape [n, K].

        Raises:
            DataError: naming every problem: missing columns, conversations that do not fit, empty
                answers, a record that the template cannot write.
        """
        self.read(records)
        rows, problems = [], []
        for number, conversation in enumerate(self.conversations(records), start=1):
            try:
                rows.append(self._row(conversation))
            except ValueError as error:
                problems.append(f"Record {number}: {error}")
        if problems:
            raise DataError(problems)
        cut = sum(row.is_cut for row in rows)
        if cut:
            log.info("%d of %d conversations are cut.", cut, len(rows))
        return self._examples(rows)

    def _examples(self, rows: Sequence[_Row]) -> Examples:
        lengths = torch.tensor([len(row.prompt) + len(row.answer) - 1 for row in rows])
        width = padded_length(int(lengths.max())) if rows else LENGTH_STEP
        (places,) = self._answers.target_shape
        ids = torch.zeros((len(rows), width), dtype=torch.int64)
        labels = torch.full((len(rows), places), NOTHING)
        answer_at = torch.zeros((len(rows), places), dtype=torch.int64)
        for place, row in enumerate(rows):
            tokens = [*row.prompt, *row.answer[:-1]]
            ids[place, : len(tokens)] = torch.tensor(tokens)
            labels[place, : len(row.answer)] = torch.tensor(row.answer)
            start = len(row.prompt) - 1
            answer_at[place, : len(row.answer)] = start + torch.arange(len(row.answer))
        mask = (torch.arange(width) < lengths[:, None]).long()
        columns = {"input_ids": ids, "attention_mask": mask, ANSWER_AT: answer_at, LABELS: labels}
        return Examples(columns, lengths.long(), _RAGGED)

    def _row(self, conversation: Conversation) -> _Row:
        """Tokenise one record, and cut it.

        Raises:
            ValueError: if it cannot be written, or the question is not its beginning.
        """
        prompt = self._prompt(conversation)
        answer = Message(ASSISTANT, str(conversation.answer))
        whole = self._written((*conversation.messages, answer), is_open=False)
        if whole[: len(prompt)] != prompt:
            raise ValueError(
                "the tokens of its question are not the beginning of the whole conversation's, so"
                " that nobody could say where its answer begins; choose a backbone whose chat"
                " template writes messages one after another."
            )
        told = whole[len(prompt) :]
        if self._tokenizer.eos_token_id in told:
            # A line's end that templates write behind it is nobody's answer
            told = told[: told.index(self._tokenizer.eos_token_id) + 1]
        if not told:
            raise ValueError("the chat template writes nothing for its answer.")
        kept = told[: self._most]
        # What stands nearest to the answer is kept
        room = self._config.max_tokens - len(kept)
        is_cut = len(kept) < len(told) or len(prompt) > room
        return _Row(prompt[-room:], kept, is_cut)

    def _prompt(self, conversation: Conversation) -> list[int]:
        return self._written(conversation.messages, is_open=True)

    def _written(self, messages: Sequence[Message], *, is_open: bool) -> list[int]:
        """Return the tokens of messages; ``is_open``: an answer is to follow."""
        messages = self._with_system(messages)
        self._refuse_special(messages)
        try:
            encoded = self._applied(messages, is_open=is_open, tokenize=True)
        except Exception as error:  # a template raises what it likes
            reason = words_of(error)
            raise ValueError(
                f"the backbone's chat template cannot write it: {reason}. Its roles may have to"
                " alternate, and some templates know no system (task.system_message=null)."
            ) from None
        return list(encoded["input_ids"])

    def _with_system(self, messages: Sequence[Message]) -> Sequence[Message]:
        said = self._config.system_message
        if said is None or messages[0].role == SYSTEM:
            return messages
        return (Message(SYSTEM, said), *messages)

    def _applied(self, messages: Sequence[Message], *, is_open: bool, tokenize: bool) -> Any:
        """Return the text of messages, or its tokens."""
        return self._tokenizer.apply_chat_template(
            [message._asdict() for message in messages],
            tokenize=tokenize,
            return_dict=tokenize,
            add_generation_prompt=is_open,
            chat_template=self._template,
        )

    def _refuse_special(self, messages: Sequence[Message]) -> None:
        """Refuse text that would be read as the end of a message, and so as another's words."""
        for message in messages:
            # As it is spelt, and as it is read: a tokenizer may fold capitals before it looks
            ids = self._tokenizer(message.content, add_special_tokens=False, verbose=False)
            read = set(ids["input_ids"])
            for token, number in self._control.items():
                if token in message.content or number in read:
                    raise ValueError(
                        f"its text holds {token!r}, by which the backbone tells messages apart;"
                        " take it out."
                    )

    @property
    def tokenizer(self) -> Any:
        """Makes tokens of texts, and names them."""
        return self._tokenizer

    def conversations(self, records: Dataset) -> list[Conversation]:
        """Read records that fit."""
        return list(conversations_of(records, self._config))

    def prompts(self, records: Dataset, shown: Sequence[Sequence[Message]] = ()) -> list[list[int]]:
        """Return the tokens that answers are written after, as many as training would keep.

        Args:
            records: n conversations.
            shown: what each is to find said before its own messages, which takes as many tokens
                again; empty: nothing, of none of them.

        Raises:
            DataError: naming a record that the template cannot write.
        """
        room, found = self._config.max_tokens * (2 if shown else 1) - self._most, []
        for number, conversation in enumerate(self.conversations(records), start=1):
            said = shown[number - 1] if shown else ()
            try:
                found.append(self._prompt(conversation.after(said))[-room:])
            except ValueError as error:
                raise DataError(f"Record {number}: {error}") from None
        return found

    def said(self, records: Dataset) -> list[list[bool]]:
        """Tell which tokens of a whole question are somebody's words.

        Those of the template are nobody's, and those of ``system_message`` are every record's.

        Returns:
            Of each record, one a token of :meth:`prompts` and of what that cuts before it.
        """
        return [self._said(conversation) for conversation in self.conversations(records)]

    def _said(self, conversation: Conversation) -> list[bool]:
        messages = self._with_system(conversation.messages)
        public = len(messages) - len(conversation.messages)
        ids = self._prompt(conversation)
        text = self._applied(messages, is_open=True, tokenize=False)
        spans, end = [], 0
        for number, message in enumerate(messages):
            content = message.content.strip()
            start = text.find(content, end)
            if start < 0:  # the template writes it otherwise
                return [token not in self._control.values() for token in ids]
            end = start + len(content)
            if number >= public:
                spans.append((start, end))
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        if list(found["input_ids"]) != ids:
            return [token not in self._control.values() for token in ids]
        return [
            any(first < end and start < last for start, end in spans)
            for first, last in found["offset_mapping"]
        ]

    def written(self, ids: Sequence[int]) -> str:
        """Return the text of an answer's tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Ids of tokens that end an answer."""
        end = self._tokenizer.eos_token_id
        return () if end is None else (end,)

    @property
    def most_tokens(self) -> int:
        """Tokens after which an answer is cut."""
        return self._most

    def count_tokens(self, *columns: Sequence[str]) -> TokenCounts:
        """Count the tokens of questions, or of whole conversations, as the template writes them."""
        rows = [self._counted(text) for text in columns[0]]
        nothing = self._tokenizer.unk_token_id
        # Some models have one token for all that is special; it is no unknown word
        is_special = nothing in (self._tokenizer.eos_token_id, self._tokenizer.bos_token_id)
        unknown = 0 if nothing is None or is_special else sum(row.count(nothing) for row in rows)
        return TokenCounts([len(row) for row in rows], unknown)

    def _counted(self, text: str) -> list[int]:
        try:
            if self._config.messages_column is None:
                return self._written((Message("user", text),), is_open=True)
            one = parse_messages(text)
            answer = () if one.answer is None else (Message(ASSISTANT, one.answer),)
            return self._written((*one.messages, *answer), is_open=not answer)
        except ValueError:  # told where it is encoded
            return []

    def tally(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return what each record adds, shape [b, w]."""
        return self._answers.tally(outputs, batch[LABELS])

    def predictions(self, outputs: Tensor, batch: Batch) -> Mapping[str, Sequence[object]]:
        """Return the likeliest token at each place of an answer, all right ones before it."""
        likeliest = outputs.argmax(dim=-1)
        kept = [row[label != NOTHING] for row, label in zip(likeliest, batch[LABELS], strict=True)]
        return {PREDICTION: [self.written(row.tolist()) for row in kept]}


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """Return the tokens that no text may hold: special ones, and those that the template writes.

    Not every folder calls its template's own tokens special.
    """
    template = tokenizer.get_chat_template()
    found = {
        token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens
    }
    for token, number in tokenizer.get_added_vocab().items():
        if token.strip() and token in template:
            found[token] = number
    # What stands for an unknown character is no control, unless it ends messages too
    unknown, ends = tokenizer.unk_token, (tokenizer.eos_token, tokenizer.bos_token)
    if unknown is not None and unknown not in ends and unknown not in template:
        found[unknown] = _NO_TOKEN
    return found


__all__ = ["ANSWER_AT", "CausalLm", "control_tokens"]
