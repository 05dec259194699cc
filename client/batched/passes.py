"""One forward and one backward pass over the records of many institutions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from confide.client.batched.cuda import WARM_UP, Card
from confide.client.batched.stack import LinearStack, Pass
from confide.client.training.private.clipping import ClippingRule, counts
from confide.models.networks import Stacked
from confide.models.workload import Workload
from confide.moved import known_all, moved
from confide.tasks.labelled import Labelled
from confide.tasks.task import LABELS, Batch, Examples

# Far more than float64 rounding of a norm could take away, as book-keeping has it.
_ROUNDING = 2.0**-20


@dataclass(frozen=True, eq=False)
class Table:
    """Records of many institutions one after the other, and the synthetic one behind them.

    Attributes:
        inputs: what goes into the first layer, filled up, shape [n + 1, d].
        columns: what the loss reads beside outputs, shapes [n + 1, ...].
    """

    inputs: Tensor
    columns: Mapping[str, Tensor]


class RecordPasses:
    """Runs records through a stack and back.

    Args:
        workload: task and model.
        stack: the model's layers.
        card: the accelerator that computes them; None for the CPU.
    """

    def __init__(self, workload: Workload, stack: LinearStack, card: Card | None = None) -> None:
        assert isinstance(workload.model, Stacked)
        self._task, self._model, self.stack = workload.task, workload.model, stack
        self._device, self._autocast = workload.compute.device, workload.compute.autocast
        self._card, self._invent = card, workload.synthetic
        self._filler = self.invented(1)

    def invented(self, count: int) -> Examples:
        """Invent records, the same ones each time."""
        return self._invent(count, torch.Generator().manual_seed(0))

    def put(self, tensor: Tensor) -> Tensor:
        """Bring a tensor to where passes are computed."""
        return tensor if self._card is None else self._card.put(tensor)

    def table(self, parts: Sequence[Examples]) -> Table:
        """Lay records out for passes, each by itself."""
        joined = Examples.concat([*parts, self._filler]).to(self._device)
        features = {name: it for name, it in joined.columns.items() if name != LABELS}
        with torch.no_grad():
            rows = self._model.rows(**features).float()
        missing = self.stack.widths[0] - rows.shape[1]
        filled = functional.pad(rows, (0, missing)) if missing else rows
        return Table(filled, {LABELS: joined.labels})

    def run(
        self, tensors: Tensor, table: Table, places: Tensor, weights: Tensor | float = 1.0
    ) -> Pass:
        """Run a pass.

        Args:
            tensors: of m institutions, [m, size].
            table: records.
            places: which records each takes, int64 of shape [m, r].
            weights: what each record's loss is multiplied by, [m, r], or all of them.
        """
        flat = moved(places.flatten(), self._device)
        batch = {name: column.index_select(0, flat) for name, column in table.columns.items()}
        rows = table.inputs.index_select(0, flat).view(*places.shape, -1)
        if self._card is None:
            return self._through(tensors, rows, batch, weights)
        number, several = (None, [weights]) if isinstance(weights, Tensor) else (weights, [])

        def through(tensors: Tensor, x: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
            columns = dict(zip(batch, more, strict=False))
            return self._through(tensors, x, columns, more[-1] if number is None else number).parts

        parts = self._card.run(("pass", number), through, tensors, rows, *batch.values(), *several)
        return Pass.of(parts)

    def add_clipped(
        self, sums: Tensor, found: Pass, is_record: Tensor, *, rule: ClippingRule, fresh: bool
    ) -> None:
        """Add each institution's sum of clipped gradients to its row.

        Args:
            sums: float64, shape [m, size].
            found: of a pass.
            is_record: which of its records count, bool, shape [m, r].
            rule: that gradients are clipped by.
            fresh: whether it is written over what is there.
        """

        def add(sums: Tensor, is_record: Tensor, found: Pass, *, fresh: bool) -> None:
            norms = norms_of(found)
            kept = counts(norms)
            if not known_all(kept):
                found = found.only(kept)
            factors = rule.factors(norms.flatten()).view_as(norms)
            factors = torch.where(is_record, factors, 0.0)
            self.stack.write_sums(sums, found, factors, fresh=fresh)

        def clipped(is_record: Tensor, *parts: Tensor) -> tuple[Tensor]:
            own = torch.empty_like(sums)
            add(own, is_record, Pass.of(parts), fresh=True)
            return (own,)

        if self._card is None:
            add(sums, is_record, found, fresh=fresh)
            return
        (more,) = self._card.run(("clipped", rule), clipped, is_record, *found.parts)
        if fresh:
            sums.copy_(more)
        else:
            sums += more

    def settle(self, tensors: Tensor, table: Table, places: Tensor) -> None:
        """Run passes until those that follow are computed as all later ones will be."""
        for _ in range(0 if self._card is None else WARM_UP):
            self.run(tensors, table, places)

    def _through(self, tensors: Tensor, x: Tensor, batch: Batch, weights: Tensor | float) -> Pass:
        if self._autocast is not None:
            tensors, x = tensors.to(self._autocast), x.to(self._autocast)

        def gradient_of(outputs: Tensor) -> Tensor:
            gradient = self._gradient(outputs.reshape(-1, outputs.shape[2]).float(), batch)
            gradient = gradient.view_as(outputs)
            if isinstance(weights, Tensor):
                gradient.mul_(weights[:, :, None])
            elif weights != 1:
                gradient.mul_(weights)
            return gradient.to(outputs.dtype)

        return self.stack.pass_through(tensors, x, gradient_of)

    def _gradient(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the gradient of each record's loss with respect to its outputs [b, k]."""
        task = self._task
        known = task.loss_gradient(outputs, batch) if isinstance(task, Labelled) else None
        if known is not None:
            return known
        with torch.enable_grad():
            leaf = outputs.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(task.loss(leaf, batch).sum(), leaf)
        return gradient


def norms_of(found: Pass) -> Tensor:
    """Return the norm of each record's whole gradient, erring upwards: float64, shape [m, r].

    A layer's gradient is g x^T, and g for its bias, whose squares add up to |g|^2 (|x|^2 + 1).
    """
    first = found.gradients[0]
    squared = torch.zeros(first.shape[:2], dtype=torch.float64, device=first.device)
    for x, g in zip(found.inputs, found.gradients, strict=True):
        one, other = (
            torch.linalg.vector_norm(it, dim=-1, dtype=torch.float64).square_() for it in (x, g)
        )
        squared += other * (one * (1 + _ROUNDING) + 1)
    return squared.sqrt_()


__all__ = ["RecordPasses", "Table", "norms_of"]
