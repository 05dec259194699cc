"""Conversations: a unit is a token of what was said, and none of the template."""

from typing import cast

import torch
from datasets import Dataset
from torch import Tensor

from confide.explaining.case import Case, Layout
from confide.explaining.kinds.of_tokens import OfTokens
from confide.explaining.written import Vectors, no_embedding, written_case
from confide.models.language.writing import WritingOptions
from confide.tasks.conversations.causal_lm import ANSWER_AT, CausalLm

_IDS, _MASK = "input_ids", "attention_mask"


class Conversations(OfTokens):
    """Takes what was said apart; the answer that a model writes to it stays as it is."""

    layout: Layout = "table"
    what = "token of the conversation"

    def case(self, record: Dataset) -> Case:
        """Take one conversation apart.

        Raises:
            ConfigError: if no layer of the model turns tokens into vectors, or an answer may be
                longer than the model can count.
        """
        prompt, written = self._asked_and_written(record)
        ids = torch.tensor([[*prompt, *written[:-1]]])
        others = {
            _MASK: torch.ones_like(ids),
            ANSWER_AT: len(prompt) - 1 + torch.arange(len(written))[None],
        }
        layer = self._network.embedding_of({_IDS: ids, **others}, _IDS)
        if layer is None:
            raise no_embedding()
        said = cast(CausalLm, self._predictor.task).said(record)[0][-len(prompt) :]
        own = torch.tensor([*said, *[False] * (len(written) - 1)])
        vectors = Vectors(layer, ids, own, self._fill)

        def called(places: Tensor) -> Tensor:
            batch = {name: column.expand(len(places), -1) for name, column in others.items()}
            return self._network.outputs({_IDS: places, **batch})

        return written_case(vectors, self._vocabulary, called, written, {})

    def _asked_and_written(self, record: Dataset) -> tuple[list[int], list[int]]:
        """Return the tokens of a question and of the likeliest answer; of none its end."""
        writer, options = self._predictor.writer, WritingOptions()
        assert writer is not None
        (prompt,) = writer.prompts(record, options)
        (written,) = writer.write(record, options)
        return prompt, written or list(writer.task.end_ids[:1]) or [0]


__all__ = ["Conversations"]
