"""Scoring: what a model predicts for records that are not trained on."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from confide.client.training.aligned import AlignedRows
from confide.client.training.passes import Filler, ScoringSizes, passes
from confide.models.workload import Workload
from confide.protocol.tensors import Tensors
from confide.tasks.task import Examples


class Scorer:
    """Scores records; a record's scores do not depend on the records beside it.

    Args:
        workload: task and model.
        load_fn: copies tensors into the model.
        filler: fills passes up.
        check_fn: called before every pass; what it raises ends the scoring.
    """

    def __init__(
        self,
        workload: Workload,
        load_fn: Callable[[Tensors], object],
        filler: Filler,
        check_fn: Callable[[], None],
    ) -> None:
        self._workload, self._load_fn = workload, load_fn
        self._filler, self._check_fn = filler, check_fn
        self._sizes = ScoringSizes(workload.compute.physical_batch_size)
        self._aligned = AlignedRows(workload.model)
        self._together: _Together | None = None

    def scores(self, tensors: Tensors, examples: Examples) -> Tensor:
        """Predict; see :meth:`~confide.client.training.trainer.Trainer.scores`."""
        together = self._together
        if together is not None and id(examples) in together.places:
            if not together.is_of(tensors):
                # Both or none: what breaks off leaves no other tensors' scores under these.
                scores = self._scores(tensors, together.joined)
                together.tensors, together.scores = dict(tensors), scores
            assert together.scores is not None
            return together.scores[together.places[id(examples)]]
        return self._scores(tensors, examples)

    @contextlib.contextmanager
    def together(self, many: Sequence[Examples]) -> Iterator[None]:
        """Score all of some records, of one kind, when the first of them are scored."""
        some = [one for one in many if len(one)]
        self._together = _Together(some) if some else None
        try:
            yield
        finally:
            self._together = None

    def _scores(self, tensors: Tensors, examples: Examples) -> Tensor:
        model, device = self._workload.model, self._workload.compute.device
        self._load_fn(tensors)
        model.eval()
        scores: Tensor | None = None
        everything = torch.arange(len(examples))
        with torch.no_grad(), self._aligned():
            for part in passes(examples, everything, self._sizes, self._filler):
                self._check_fn()
                batch = {name: column.to(device) for name, column in part.batch.items()}
                found = self._workload.measures(self._workload.outputs(model, batch), batch).cpu()
                if scores is None:
                    scores = found.new_empty((len(examples), *found.shape[1:]))
                scores[part.indices] = found[: len(part.indices)]
        assert scores is not None
        return scores


class _Together:
    """Records of several institutions that are scored in one go.

    Args:
        many: each of at least one record.
    """

    def __init__(self, many: Sequence[Examples]) -> None:
        self._many = many  # kept: an id is that of nothing else meanwhile
        self.joined = Examples.concat(many)
        self.places: dict[int, slice] = {}
        start = 0
        for one in many:
            self.places[id(one)] = slice(start, start + len(one))
            start += len(one)
        self.tensors: Tensors | None = None
        self.scores: Tensor | None = None

    def is_of(self, tensors: Tensors) -> bool:
        """Tell whether scores are those of these very tensors."""
        known = self.tensors
        return known is not None and all(
            known.get(name) is tensor for name, tensor in tensors.items()
        )


__all__ = ["Scorer"]
