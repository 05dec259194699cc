"""Texts that others are written from: a unit is a token of the source."""

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from datasets import Dataset
from torch import Tensor

from confide.explaining.case import Case, Layout, Unit, by_groups, expanded
from confide.explaining.network import Network
from confide.explaining.vocabulary import Vocabulary, told_apart
from confide.explaining.written import Vectors, forced_by, log_probabilities, no_embedding
from confide.inference.predictor import Predictor
from confide.models.language.seq2seq import Seq2SeqModel
from confide.tasks.task import LABELS

_IDS, _MASK = "input_ids", "attention_mask"


class Sources:
    """Takes texts apart that a model writes from; what it wrote stays as it is.

    Args:
        predictor: of texts from texts.
        network: the same, whole.
        baseline: name of the token that stands for those that are left out.

    Raises:
        ConfigError: if the tokenizer has no such token.
    """

    layout: Layout = "table"
    what = "token of the source"
    baselines: ClassVar[Mapping[str, str]] = Vocabulary.baselines

    def __init__(self, predictor: Predictor, network: Network, baseline: str) -> None:
        self._vocabulary = Vocabulary(predictor)
        self._task, self._network = predictor.task, network
        self._fill = self._vocabulary.fill(baseline)

    def case(self, record: Dataset) -> Case:
        """Take one source apart.

        Raises:
            ConfigError: if no layer of the model turns tokens into vectors.
        """
        batch = self._task.encode(record).take(torch.tensor([0]))
        layer = self._network.embedding_of(batch, _IDS)
        if layer is None:
            raise no_embedding()
        model = cast(Seq2SeqModel, self._network.module)
        written, given = forced_by(model, self._network.outputs(batch), batch)
        ids, mask = batch[_IDS], batch[_MASK]
        vectors = Vectors(layer, ids, (mask[0] == 1) & self._vocabulary.own(ids[0]), self._fill)

        def outputs(values: Tensor) -> Tensor:
            def called(places: Tensor) -> Tensor:
                source = expanded({**given, _MASK: mask}, _IDS, places)
                return self._network.called(model.forced, source)

            return log_probabilities(vectors.through(values, called), written)

        return Case(
            units=[Unit(it) for it in told_apart(self._vocabulary.texts(vectors.units)[0])],
            inputs=vectors.inputs,
            baseline=vectors.baseline,
            groups=vectors.groups,
            outputs_fn=outputs,
            mixed_fn=by_groups(vectors.inputs, vectors.baseline, vectors.groups, outputs),
            has_gradient=True,
            batch={**batch, LABELS: torch.tensor([written])},
        )


__all__ = ["Sources"]
