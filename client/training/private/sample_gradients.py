"""Per-record gradients, written out by Opacus's hooks, and means of them over groups.

The engine of models that book-keeping (`book_keeping`) does not take. Nothing is clipped here:
`dp_sgd` hands what comes to the optimizer, which clips it.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from opacus import GradSampleModule
from torch import Tensor, nn

from confide.client.training.aligned import AlignedRows
from confide.client.training.passes import Filler, Pass, PassSizes, passes
from confide.client.training.private.clipping import LossFn
from confide.errors import PrivacyError
from confide.models.coverage import refuse_uncovered
from confide.models.prepared import contiguous_convolutions
from confide.tasks.task import Batch, Examples

# Elements of the sums of groups that are open at once, 1 GiB of float64.
_OPEN_ELEMENTS = 2**27


class SampleGradients:
    """A model under Opacus's hooks.

    Args:
        model: whose trainable layers Opacus covers.
        loss_fn: loss of each record.

    Raises:
        PrivacyError: naming a layer that it does not cover.
    """

    def __init__(self, model: nn.Module, loss_fn: LossFn) -> None:
        refuse_uncovered(model)
        contiguous_convolutions(model)
        try:
            self.module = GradSampleModule(model, batch_first=True, loss_reduction="sum")
        except (NotImplementedError, ValueError) as error:
            raise PrivacyError(
                f"This model has layers without per-record gradients: {error}"
            ) from None
        self._loss_fn, self._aligned = loss_fn, AlignedRows(model)
        self._named = {n: p for n, p in model.named_parameters() if p.requires_grad}

    def of(self, batch: Batch) -> list[Tensor]:
        """Return each row's gradient: one tensor a parameter, shape [R, ...], float32.

        They are left in ``grad_sample`` too, where Opacus's optimizer looks for them.
        """
        for p in self._named.values():
            p.grad_sample = None  # type: ignore[attr-defined]
        with self._aligned():
            losses = self._loss_fn(self.module, batch)
            torch.autograd.backward(losses.sum())
        found = []
        for name, p in self._named.items():
            sample = p.grad_sample  # type: ignore[attr-defined]
            if sample is None and p.grad is not None:
                raise PrivacyError(
                    f"{name} is trained by a layer that Opacus does not follow; train less of the"
                    " model (tuning=lora or tuning=head)."
                )
            # What the loss does not depend on, such as a pooler that nothing uses, has none.
            sample = p.new_zeros((len(losses), *p.shape)) if sample is None else sample
            p.grad_sample = sample.float()  # type: ignore[attr-defined]
            found.append(p.grad_sample)  # type: ignore[attr-defined]
        return found

    def means(
        self, examples: Examples, groups: Sequence[Tensor], sizes: PassSizes, filler: Filler
    ) -> Iterator[list[Tensor]]:
        """Yield each group's mean gradient: one tensor a parameter, shape [1, ...], float64.

        A group's mean is added up in an order of its own, however its records are dealt out to
        passes. So many groups are open at once as fit into the memory of a pass.

        Args:
            examples: all records.
            groups: indices of the records of each, in no two the same; where there is none, what
                comes is one empty mean of shape [0, ...], since an empty sample is a step too.
            sizes: rows of a pass.
            filler: fills passes up.
        """
        params = list(self._named.values())
        if not groups:
            yield [p.new_zeros((0, *p.shape), dtype=torch.float64) for p in params]
        size = max(1, _OPEN_ELEMENTS // sum(p.numel() for p in params))
        for start in range(0, len(groups), size):
            together = groups[start : start + size]
            found = passes(examples, torch.cat(list(together)), sizes, filler)
            sums = self._sums(together, found)
            for i, group in enumerate(together):
                yield [one[i : i + 1] / len(group) for one in sums]

    def _sums(self, groups: Sequence[Tensor], found: Iterable[Pass]) -> list[Tensor]:
        """Return the sum over each group's records: one tensor a parameter, [g, ...], float64."""
        sums = [
            torch.zeros((len(groups), *p.shape), dtype=torch.float64, device=p.device)
            for p in self._named.values()
        ]
        records = torch.cat(list(groups))
        counts = torch.tensor([len(group) for group in groups])
        # Passes by length tear groups apart: this finds a record's group again.
        owners = torch.empty(int(records.max()) + 1, dtype=torch.int64)
        owners[records] = torch.arange(len(groups)).repeat_interleave(counts)
        for part in found:
            samples = self.of(part.batch)
            # One by one: a group's sum is then added up in the same order whoever else is there.
            for row, owner in enumerate(owners[part.indices].tolist()):
                for one, sample in zip(sums, samples, strict=True):
                    one[owner] += sample[row]
        self.module.set_grad_sample_to_none()
        return sums

    @contextlib.contextmanager
    def plain(self) -> Iterator[nn.Module]:
        """Yield the model without what writes gradients out."""
        self.module.disable_hooks()
        try:
            yield self.module
        finally:
            self.module.enable_hooks()


__all__ = ["SampleGradients"]
