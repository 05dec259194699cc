"""Tokens of a tokenizer as people read them, and the one that stands for those left out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from confide.errors import ConfigError
from confide.inference.predictor import Predictor
from confide.tasks.task import Task

_MARKS = ("Ġ", "▁")
"""What begins a word in vocabularies that mark its beginning."""
_GOES_ON = "##"
"""What begins a token that goes on a word, in those that mark that."""


@runtime_checkable
class ReadsTokens(Task, Protocol):
    """A task whose records, or what is written of them, are tokens of a tokenizer."""

    @property
    def tokenizer(self) -> Any:
        """Makes tokens of texts, and names them."""


class Vocabulary:
    """The tokens of a predictor's task.

    Args:
        predictor: of texts.

    Raises:
        ConfigError: if a custom task names no tokenizer.
    """

    baselines: ClassVar[Mapping[str, str]] = {
        "padding": "the text with the padding token in place of each of its tokens",
        "mask": "the text with the mask token in place of each of its tokens",
        "unknown": "the text with the unknown word's token in place of each of its tokens",
    }

    def __init__(self, predictor: Predictor) -> None:
        task = predictor.task
        if not isinstance(task, ReadsTokens):
            raise ConfigError(
                f"task._target_={predictor.plan.task._target_}: a task whose records are tokens is"
                " explained by its tokenizer; give it a property tokenizer."
            )
        self._tokenizer = task.tokenizer
        self._special = torch.tensor(sorted(set(self._tokenizer.all_special_ids)))

    def fill(self, baseline: str) -> int:
        """Return the id of the token that stands for those that are left out.

        Raises:
            ConfigError: if the tokenizer has no such token.
        """
        found = {
            "padding": self._tokenizer.pad_token_id or 0,
            "mask": self._tokenizer.mask_token_id,
            "unknown": self._tokenizer.unk_token_id,
        }
        if found[baseline] is None:
            there = ", ".join(name for name, token in found.items() if token is not None)
            raise ConfigError(
                f"--baseline {baseline}: the backbone's tokenizer has no such token; choose"
                f" {there}."
            )
        return int(found[baseline])

    def own(self, ids: Tensor) -> Tensor:
        """Tell which ids are no marks that a tokenizer adds, bool of the shape of ``ids``."""
        return ~torch.isin(ids, self._special)

    def texts(self, ids: Sequence[int]) -> tuple[list[str], list[bool]]:
        """Return tokens as people read them, and whether each goes on the one before it."""
        found = self._tokenizer.convert_ids_to_tokens(list(ids))
        # A model may have more outputs than there are words
        tokens = [
            f"token {number}" if token is None else token
            for number, token in zip(ids, found, strict=True)
        ]
        marked = any(token.startswith(_MARKS) for token in tokens)
        texts, joined = [], []
        for token in tokens:
            if marked:
                joined.append(not token.startswith(_MARKS))
                text = str(self._tokenizer.convert_tokens_to_string([token])).strip()
            else:
                joined.append(token.startswith(_GOES_ON))
                text = token.removeprefix(_GOES_ON)
            texts.append(text or token)
        return texts, joined

    def text(self, ids: Sequence[int]) -> str:
        """Return what ids say together, without marks."""
        known = [token for token in ids if token < len(self._tokenizer)]
        return str(self._tokenizer.decode(known, skip_special_tokens=True)).strip()


def told_apart(texts: Sequence[str]) -> list[str]:
    """Return names of tokens, with the place of those that occur twice.

    >>> told_apart(["two", "hundred", "two"])
    ['two (1)', 'hundred', 'two (3)']
    """
    counts = Counter(texts)
    return [
        f"{text} ({place})" if counts[text] > 1 else text
        for place, text in enumerate(texts, start=1)
    ]


__all__ = ["ReadsTokens", "Vocabulary", "told_apart"]
