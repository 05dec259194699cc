"""Texts that others are written from: a unit is a token of the source."""

from typing import cast

import torch
from datasets import Dataset
from torch import Tensor

from confide.explaining.case import Case, Layout, expanded
from confide.explaining.kinds.of_tokens import OfTokens
from confide.explaining.written import Vectors, forced_by, no_embedding, written_case
from confide.models.language.seq2seq import Seq2SeqModel

_IDS, _MASK = "input_ids", "attention_mask"


class Sources(OfTokens):
    """Takes texts apart that a model writes from; what it wrote stays as it is."""

    layout: Layout = "table"
    what = "token of the source"

    def case(self, record: Dataset) -> Case:
        """Take one source apart.

        Raises:
            ConfigError: if no layer of the model turns tokens into vectors.
        """
        batch = self._predictor.task.encode(record).take(torch.tensor([0]))
        layer = self._network.embedding_of(batch, _IDS)
        if layer is None:
            raise no_embedding()
        model = cast(Seq2SeqModel, self._network.module)
        written, given = forced_by(model, self._network.outputs(batch), batch)
        ids, mask = batch[_IDS], batch[_MASK]
        vectors = Vectors(layer, ids, (mask[0] == 1) & self._vocabulary.own(ids[0]), self._fill)

        def called(places: Tensor) -> Tensor:
            source = expanded({**given, _MASK: mask}, _IDS, places)
            return self._network.called(model.forced, source)

        return written_case(vectors, self._vocabulary, called, written, batch)


__all__ = ["Sources"]
