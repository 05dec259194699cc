"""Texts: a unit is a token; those that a tokenizer adds around every text are none."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from datasets import Dataset
from torch import Tensor

from confide.errors import ConfigError
from confide.explaining.case import FIXED, Case, Layout, Unit, by_groups, expanded
from confide.explaining.network import Network
from confide.inference.predictor import Predictor
from confide.tasks.task import Task

_IDS = "input_ids"
_MARKS = ("Ġ", "▁")
"""What begins a word in vocabularies that mark its beginning."""
_GOES_ON = "##"
"""What begins a token that goes on a word, in those that mark that."""


@runtime_checkable
class ReadsTokens(Task, Protocol):
    """A task whose records are tokens of a tokenizer."""

    @property
    def tokenizer(self) -> Any:
        """Makes tokens of texts, and names them."""


class Tokens:
    """Takes texts apart by their tokens.

    Args:
        predictor: of texts.
        network: the same, whole.
        baseline: name of the token that stands for those that are left out.

    Raises:
        ConfigError: if a custom task names no tokenizer, or this has no such token.
    """

    layout: Layout = "words"
    what = "token"
    baselines: ClassVar[Mapping[str, str]] = {
        "padding": "the text with the padding token in place of each of its tokens",
        "mask": "the text with the mask token in place of each of its tokens",
        "unknown": "the text with the unknown word's token in place of each of its tokens",
    }

    def __init__(self, predictor: Predictor, network: Network, baseline: str) -> None:
        task = predictor.task
        if not isinstance(task, ReadsTokens):
            raise ConfigError(
                f"task._target_={predictor.plan.task._target_}: a task whose records are tokens is"
                " explained by its tokenizer; give it a property tokenizer."
            )
        self._task, self._network, self._tokenizer = task, network, task.tokenizer
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
        self._fill = int(found[baseline])
        self._special = torch.tensor(sorted(set(self._tokenizer.all_special_ids)))

    def case(self, record: Dataset) -> Case:
        """Take one text apart."""
        batch = self._task.encode(record).take(torch.tensor([0]))
        ids = batch[_IDS]
        own = (batch["attention_mask"][0] == 1) & ~torch.isin(ids[0], self._special)
        places = own.nonzero()[:, 0]
        groups = torch.full_like(ids[0], FIXED)
        groups[places] = torch.arange(len(places))
        baseline = torch.where(own, self._fill, ids)
        tokens = self._tokenizer.convert_ids_to_tokens(ids[0, places].tolist())
        layer = self._network.embedding_of(batch, _IDS)

        def outputs(inputs: Tensor) -> Tensor:
            return self._network.outputs(expanded(batch, _IDS, inputs))

        texts, joined = self._texts(tokens)
        return Case(
            units=[Unit(text) for text in texts],
            inputs=ids,
            baseline=baseline,
            groups=groups,
            outputs_fn=outputs,
            mixed_fn=by_groups(ids, baseline, groups, outputs),
            layer=layer,
            has_gradient=layer is not None,
            batch=batch,
            joined=joined,
        )

    def _texts(self, tokens: Sequence[str]) -> tuple[list[str], list[bool]]:
        """Return tokens as people read them, and whether each goes on the one before it."""
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


__all__ = ["ReadsTokens", "Tokens"]
