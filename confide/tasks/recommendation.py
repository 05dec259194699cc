"""Recommendation: from the last items of a user to the next one, among all of a catalogue."""

import json
from collections.abc import Mapping, Sequence

import numpy
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional

from confide.config.outcomes.next_item import NEXT_ITEM, NextItemConfig
from confide.config.tasks.recommendation import HISTORY, RecommendationConfig
from confide.errors import DataError
from confide.tasks.item_ranks import expected_ranks, place_figures
from confide.tasks.labelled import Labelled
from confide.tasks.made.catalogue import Catalogue
from confide.tasks.made.histories import history_of
from confide.tasks.outcomes.next_item import UNKNOWN
from confide.tasks.task import LABELS, Batch, Examples, OutputFn

EXCLUDED = -1e4
"""Output of an item that is not to be recommended; finite, since 0 * inf is NaN."""


class Recommendation(Labelled):
    """Places of a user's last items in, one output for each item of the catalogue out.

    Args:
        config: how histories are read.
        catalogue: what may be recommended.
    """

    def __init__(self, config: RecommendationConfig, *, catalogue: Catalogue) -> None:
        super().__init__(config)
        self._config, self.catalogue = config, catalogue

    def encode(self, records: Dataset) -> Examples:
        """Encode histories: ``history`` of shape [n, known], places with the newest last.

        Items that the catalogue lacks are left out of a history; before its beginning stand zeros.

        Raises:
            DataError: naming every problem.
        """
        read, found = self._read(records)
        if found:
            raise DataError([problem.text for problem in found])
        places, known = self.catalogue.places, self._config.known
        rows = numpy.zeros((len(records), known), dtype=numpy.int64)
        for row, text in zip(rows, records[HISTORY][:], strict=True):
            items = [places[one] for one in history_of(text) or () if one in places][-known:]
            row[known - len(items) :] = items
        targets = [places.get(str(one), UNKNOWN) for one in read.targets.values]
        labels = torch.tensor(targets, dtype=torch.int64)
        return Examples({HISTORY: torch.from_numpy(rows), LABELS: labels})

    def record_notes(self, records: Dataset) -> list[str]:
        """Say how many items the catalogue lacks."""
        places = self.catalogue.places
        histories = [history_of(text) or [] for text in records[HISTORY][:]]
        total, strange = sum(map(len, histories)), 0
        strange = sum(one not in places for history in histories for one in history)
        targets = self._outcome.read({NEXT_ITEM: records[NEXT_ITEM][:]}).values.tolist()
        missed = sum(one not in places for one in targets)
        if not strange and not missed:
            return []
        return [
            f"The catalogue of {len(places)} items lacks {strange} of {total} items of histories,"
            f" which are left out, and {missed} of {len(targets)} next items, of which nothing is"
            " learnt and which count as missed."
        ]

    def invent(self, count: int, generator: torch.Generator) -> Dataset:
        """Invent histories of unlike lengths, empty ones and unknown items among them."""
        ids = [*self.catalogue.ids, "?"]

        def drawn(most: int) -> list[str]:
            places = torch.randint(len(ids), (most,), generator=generator).tolist()
            return [ids[place] for place in places]

        lengths = torch.randint(min(self._config.known, 30) + 1, (count,), generator=generator)
        # Of known items, so that a record has a gradient: a loss of 0 would hide a mistake.
        targets = torch.randint(len(ids) - 1, (count,), generator=generator).tolist()
        return Dataset.from_dict(
            {
                HISTORY: [json.dumps(drawn(length)) for length in lengths.tolist()],
                NEXT_ITEM: [ids[place] for place in targets],
            }
        )

    def synthetic(self, count: int, generator: torch.Generator) -> Examples:
        """Encode invented records."""
        return self.encode(self.invent(count, generator))

    def tally(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return :data:`~confide.metrics.outcomes.ranking.RANKS`, shape [b, 5]."""
        targets, outputs = batch[LABELS], outputs.float()
        ranks = expected_ranks(outputs, (targets - 1).clamp(min=0))
        figures = place_figures(ranks.masked_fill(targets == UNKNOWN, len(self.catalogue)))
        figures = figures * (targets != UNKNOWN)[:, None]
        losses = self._outcome.loss(outputs, targets).double()
        return torch.cat([torch.ones_like(losses)[:, None], figures, losses[:, None]], dim=1)

    def predictions(self, outputs: Tensor, batch: Batch) -> Mapping[str, Sequence[object]]:
        """Return ids and texts of the items with the largest outputs; null beyond the last one."""
        assert isinstance(self._schema.outcome, NextItemConfig)
        top = self._schema.outcome.top
        values, places = outputs.topk(min(top, outputs.shape[1]), dim=1)
        columns: dict[str, Sequence[object]] = {}
        for rank in range(top):
            there = rank < places.shape[1]
            found = [
                place if value > EXCLUDED else None
                for place, value in zip(
                    places[:, rank].tolist() if there else [0] * len(outputs),
                    values[:, rank].tolist() if there else [EXCLUDED] * len(outputs),
                    strict=True,
                )
            ]
            for name, words in (("item", self.catalogue.ids), ("text", self.catalogue.texts)):
                columns[f"{name}_{rank + 1}"] = [
                    None if place is None else words[place] for place in found
                ]
        return columns

    def references(self, train: Sequence[Examples]) -> Mapping[str, OutputFn]:
        """Return what is popular, and the items whose texts are nearest to the last ones."""
        counts = torch.zeros(len(self.catalogue) + 1)
        for examples in train:
            counts += torch.bincount(examples.labels.cpu(), minlength=len(counts))
        # Half a record more each: an item that nobody took is unlikely, and not impossible.
        popular = (counts[1:] + 0.5).log()
        vectors = functional.normalize(self.catalogue.vectors, dim=1)

        def popularity(batch: Batch) -> Tensor:
            return self._without_known(popular.expand(len(batch[HISTORY]), -1), batch)

        def nearest(batch: Batch) -> Tensor:
            last = self.catalogue.padded[batch[HISTORY][:, -self._config.recent :]].sum(dim=1)
            return self._without_known(functional.normalize(last, dim=1) @ vectors.T, batch)

        return {"popularity": popularity, "nearest text": nearest}

    def _without_known(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs if self._config.repeats else without_items(outputs, batch[HISTORY])


def without_items(outputs: Tensor, history: Tensor) -> Tensor:
    """Exclude the items of histories.

    Args:
        outputs: of all items, shape [b, N].
        history: places, 0 for none, shape [b, h].
    """
    # A column for place 0, which is of no item.
    all_places = functional.pad(outputs, (1, 0))
    return all_places.scatter(1, history, EXCLUDED)[:, 1:]


__all__ = ["EXCLUDED", "Recommendation", "without_items"]
