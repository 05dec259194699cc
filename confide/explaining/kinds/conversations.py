"""Conversations: a unit is a token of what was said, and none of the template."""

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from datasets import Dataset
from torch import Tensor

from confide.explaining.case import Case, Layout, Unit, by_groups
from confide.explaining.network import Network
from confide.explaining.vocabulary import Vocabulary, told_apart
from confide.explaining.written import Vectors, log_probabilities, no_embedding
from confide.inference.predictor import Predictor
from confide.models.language.writing import WritingOptions
from confide.tasks.conversations.causal_lm import ANSWER_AT, CausalLm
from confide.tasks.task import LABELS, Batch

_IDS, _MASK = "input_ids", "attention_mask"


class Conversations:
    """Takes what was said apart; the answer that a model writes to it stays as it is.

    Args:
        predictor: of answers.
        network: the same, whole.
        baseline: name of the token that stands for those that are left out.

    Raises:
        ConfigError: if the tokenizer has no such token.
    """

    layout: Layout = "table"
    what = "token of the conversation"
    baselines: ClassVar[Mapping[str, str]] = Vocabulary.baselines

    def __init__(self, predictor: Predictor, network: Network, baseline: str) -> None:
        self._vocabulary = Vocabulary(predictor)
        self._predictor, self._network = predictor, network
        self._fill = self._vocabulary.fill(baseline)

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

        def outputs(values: Tensor) -> Tensor:
            def called(places: Tensor) -> Tensor:
                batch: Batch = {
                    name: column.expand(len(places), -1) for name, column in others.items()
                }
                return self._network.outputs({_IDS: places, **batch})

            return log_probabilities(vectors.through(values, called), written)

        return Case(
            units=[Unit(it) for it in told_apart(self._vocabulary.texts(vectors.units)[0])],
            inputs=vectors.inputs,
            baseline=vectors.baseline,
            groups=vectors.groups,
            outputs_fn=outputs,
            mixed_fn=by_groups(vectors.inputs, vectors.baseline, vectors.groups, outputs),
            has_gradient=True,
            batch={LABELS: torch.tensor([written])},
        )

    def _asked_and_written(self, record: Dataset) -> tuple[list[int], list[int]]:
        """Return the tokens of a question and of the likeliest answer; of none its end."""
        writer, options = self._predictor.writer, WritingOptions()
        assert writer is not None
        (prompt,) = writer.prompts(record, options)
        (written,) = writer.write(record, options)
        return prompt, written or list(writer.task.end_ids[:1]) or [0]


__all__ = ["Conversations"]
