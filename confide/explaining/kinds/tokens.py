"""Texts: a unit is a token; those that a tokenizer adds around every text are none."""

import torch
from datasets import Dataset
from torch import Tensor

from confide.explaining.case import FIXED, Case, Layout, Unit, by_groups, expanded
from confide.explaining.kinds.of_tokens import OfTokens

_IDS = "input_ids"


class Tokens(OfTokens):
    """Takes texts apart by their tokens."""

    layout: Layout = "words"
    what = "token"

    def case(self, record: Dataset) -> Case:
        """Take one text apart."""
        batch = self._predictor.task.encode(record).take(torch.tensor([0]))
        ids = batch[_IDS]
        own = (batch["attention_mask"][0] == 1) & self._vocabulary.own(ids[0])
        places = own.nonzero()[:, 0]
        groups = torch.full_like(ids[0], FIXED)
        groups[places] = torch.arange(len(places))
        baseline = torch.where(own, self._fill, ids)
        layer = self._network.embedding_of(batch, _IDS)

        def outputs(inputs: Tensor) -> Tensor:
            return self._network.outputs(expanded(batch, _IDS, inputs))

        texts, joined = self._vocabulary.texts(ids[0, places].tolist())
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


__all__ = ["Tokens"]
