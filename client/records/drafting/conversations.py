"""Records that are conversations, recognised by what their columns hold or are called."""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset

from confide.client.records.drafting.drafted import Draft, Named
from confide.client.records.drafting.roles import institution_column, owner_column
from confide.client.records.drafting.values import TOKEN_SIZES, Values
from confide.config.outcomes.answer import AnswerConfig
from confide.config.tasks.causal_lm import CausalLmConfig
from confide.tasks.conversations.messages import parse_messages

_SHOWN = 2000
"""Records that are looked at for what a column is."""
_QUESTIONS = ("instruction", "prompt", "question")
_CONTEXTS = ("input", "context")
_ANSWERS = ("output", "completion", "response", "answer")
_FEW_WORDS = 3
_CHARACTERS_A_TOKEN = 4


def find_conversations(records: Dataset, label: str | None) -> CausalLmConfig | None:
    """Find a column of messages, or columns of questions and their answers.

    Args:
        records: all columns, as text.
        label: column of the answers, where a person names it.

    Returns:
        The schema; None where nothing speaks of conversations.
    """
    told = [name for name in records.column_names if _holds_messages(records[name][:_SHOWN])]
    if told and label in (None, told[0]):
        return _schema(records, told[:1], {"messages_column": told[0]})
    by_name = {name.strip().casefold(): name for name in reversed(records.column_names)}
    question, about, answer = (
        next((by_name[name] for name in names if name in by_name), None)
        for names in (_QUESTIONS, _CONTEXTS, _ANSWERS)
    )
    if question is None or answer is None or label not in (None, answer):
        return None
    # An answer of yes or no is a class, and so is the number of one
    if not all(_are_sentences(records[name][:_SHOWN]) for name in (question, answer)):
        return None
    asked = [question, *([about] if about else [])]
    return _schema(
        records,
        [*asked, answer],
        {"prompt_column": question, "context_column": about},
        answer=answer,
    )


def draft_conversations(records: Dataset, task: CausalLmConfig, named: Named) -> Draft:
    """Draft a task of answers that a language model learns."""
    whole = task.messages_column
    what = f"the last message of each conversation in {whole}" if whole else task.target_columns[0]
    columns = {name: Values.of(name, records[name][:]) for name in records.column_names}
    used = {*task.content_columns}
    others = {name: one for name, one in columns.items() if name not in used}
    owner = owner_column(others)
    institution = named.institution or institution_column(others)
    return Draft(
        task=task,
        records=len(records),
        left_out={name: "no part of a conversation" for name in others},
        choices=[
            f"A language model learns answers, {what}; bring one as backbone.name=FOLDER. To learn"
            " a column of classes instead, name it (--label COLUMN)."
        ],
        id_column=named.identifier,
        group_column=owner,
        owners=len(columns[owner].counts) if owner else 0,
        institution=(institution, len(columns[institution].counts)) if institution else None,
    )


def _schema(
    records: Dataset,
    columns: list[str],
    said: Mapping[str, Any],
    *,
    answer: str = AnswerConfig.column,
) -> CausalLmConfig:
    """Return the schema, with room for most conversations."""
    whole = [
        sum(len(row[name] or "") for name in columns) for row in records.select_columns(columns)
    ]
    longest = sorted(whole)[int(0.95 * (len(whole) - 1))] / _CHARACTERS_A_TOKEN
    size = next((size for size in TOKEN_SIZES[1:] if size >= longest), TOKEN_SIZES[-1])
    return CausalLmConfig(
        **said, max_tokens=2 * size, outcome=AnswerConfig(column=answer, max_tokens=size)
    )


def _holds_messages(values: list[str | None]) -> bool:
    """Say whether most values are conversations: a few others are told by the check of records."""
    known = [value for value in values if value]
    return bool(known) and 2 * sum(map(_is_told, known)) > len(known)


def _is_told(value: str) -> bool:
    try:
        parse_messages(value)
    except ValueError:
        return False
    return True


def _are_sentences(values: list[str | None]) -> bool:
    words = sorted(len(value.split()) for value in values if value)
    return bool(words) and words[len(words) // 2] >= _FEW_WORDS


__all__ = ["draft_conversations", "find_conversations"]
