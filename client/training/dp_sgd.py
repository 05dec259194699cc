"""DP-SGD (Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv 1607.00133).

What is protected: one training record of one institution (unit ``record``), or all records of one
person (unit ``group``). Neighbouring relation: zero-out, n public; the sum of clipped gradients
then moves by at most C. Who is trusted: the institution's own machine. What is public: n, q, the
number of steps, sigma, C. What voids it: a predictable key, a loss that mixes records, BatchNorm,
anything else computed from training records that leaves.

Every step draws a Poisson sample with an explicit rate, clips each unit's gradient to C, adds
Gaussian noise of standard deviation sigma * C to the sum, and divides by the *expected* batch size.
An empty sample still adds noise and counts.

Sensitivity of a group. Let G_1 ... G_n be the groups, cut to at most m records each by a rule that
looks at one group alone. A step's sum is the sum over sampled groups g of clip(1/|G_g| * sum over i
in G_g of the gradient of record i; C), each term depends on one group's records alone (the loss is
per record, the preflight checks it), and has norm at most C. Zeroing group g out replaces its term
by 0 and changes no other: |S - S'| <= C, and only where g was sampled, which happens with
probability q independently of all others. So a step is the Poisson-subsampled Gaussian over n
groups, accounted like n records.

Per-record gradients are Opacus's. A large model whose layers allow it goes without them
(`confide.client.training.book_keeping`); the same preflight, noise and scaling follow. Groups
always take Opacus's.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from confide.client.training.book_keeping import BookKeeping, LossFn
from confide.errors import PrivacyError
from confide.privacy.randomness import KeyedGenerator
from confide.tasks.task import Examples

log = logging.getLogger(__name__)

# Small: every record is clipped, so a clipping that is forgotten shows. Large: none is, so a wrong
# scale shows.
_PREFLIGHT_NORMS = (1e-3, 1e6)
_SLACK = 1e-6
_NORM_BLOCK = 2**22
_PREFLIGHT_TOLERANCE = {None: 1e-3, torch.bfloat16: 6e-2}


@dataclass(frozen=True, kw_only=True)
class DpSgdStep:
    """What every step of a round has in common.

    Attributes:
        clipping_norm: C > 0.
        noise_multiplier: sigma >= 0.
        sampling_rate: q in (0, 1].
        expected_batch_size: q * n, the denominator.
    """

    clipping_norm: float
    noise_multiplier: float
    sampling_rate: float
    expected_batch_size: float


class KeyedDPOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus ships no types
    """Opacus's optimizer with noise from a cryptographic generator, drawn for all parameters at once."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, step: DpSgdStep, noise: KeyedGenerator
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=step.noise_multiplier,
            max_grad_norm=step.clipping_norm,
            expected_batch_size=step.expected_batch_size,
            loss_reduction="mean",
        )
        self._noise = noise

    def clip_and_accumulate(self) -> None:
        """Add each record's gradient, clipped to C, to ``param.summed_grad``.

        Norms are float64 and factors have a slack of 1e-6, so that rounding cannot carry a record
        over C, in bf16 neither. A record whose gradient is not finite counts as zero: 0 * inf is
        NaN, which no noise hides.
        """
        samples = [sample.float() for sample in self.grad_samples]
        if any(getattr(p.grad_sample, "_processed", False) for p in self.params):
            raise PrivacyError(
                "Per-record gradients were about to be used twice; zero_grad() is missing between"
                " two steps."
            )
        norms = _record_norms(samples)
        finite = norms.isfinite()
        factors = (self.max_grad_norm * (1 - _SLACK) / norms.clamp_min(1e-300)).clamp_max(1.0)
        factors = torch.where(finite, factors, 0.0).float()
        if not bool(finite.all()):
            samples = [torch.where(finite.view(-1, *[1] * (g.dim() - 1)), g, 0.0) for g in samples]
        for p, sample in zip(self.params, samples, strict=True):
            if len(sample) or p.summed_grad is None:
                clipped = torch.einsum("i,i...->...", factors, sample)
                p.summed_grad = clipped if p.summed_grad is None else p.summed_grad + clipped
            p.grad_sample._processed = True

    def add_noise(self) -> None:
        """Turn each clipped sum into ``param.grad``, in place, and add noise."""
        params = self.params
        for p in params:
            if getattr(p.summed_grad, "_processed", False):
                raise PrivacyError(
                    "A clipped sum was about to be used twice; zero_grad() is missing between two"
                    " steps."
                )
            p.grad = p.summed_grad.contiguous().view_as(p)
            p.summed_grad._processed = True
        std = self.noise_multiplier * self.max_grad_norm
        if std:
            self._noise.add_normal([p.grad.view(-1) for p in params], std=std)


def _record_norms(samples: Sequence[Tensor]) -> Tensor:
    """Return the L2 norm of each record's gradient over all parameters.

    Args:
        samples: one tensor a parameter, shape [b, ...], float32.

    Returns:
        float64, shape [b]; not finite where any element is not.
    """
    squared = torch.zeros(len(samples[0]), dtype=torch.float64, device=samples[0].device)
    for sample in samples:
        rows = max(1, _NORM_BLOCK // max(1, sample[:1].numel()))  # bounds the float64 copy
        for start in range(0, len(sample), rows):
            part = sample[start : start + rows].flatten(1)
            squared[start : start + rows] += torch.linalg.vector_norm(
                part, dim=1, dtype=torch.float64
            ).square()
    return squared.sqrt()


@contextlib.contextmanager
def expect_hook_warning() -> Iterator[None]:
    """Silence what torch says of hooks on a layer whose inputs need no gradient.

    Opacus uses that of its outputs.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Full backward hook is firing", category=UserWarning
        )
        yield


class DpSgd:
    """A model wrapped once for per-record gradients, used for every client and round.

    Args:
        model: without BatchNorm.
        loss_fn: loss of each record.
        physical_batch_size: most records in one forward pass.
        book_keeping: clip without per-record gradients; None for where the model allows it and it
            pays.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFn,
        *,
        physical_batch_size: int,
        book_keeping: bool | None = None,
    ) -> None:
        self._model, self._loss_fn = model, loss_fn
        self._params = [p for p in model.parameters() if p.requires_grad]
        self._physical = physical_batch_size
        self._book = _book_of(model, loss_fn, book_keeping)
        self._wrapped = None if self._book else _wrap(model)

    @property
    def book_keeping(self) -> bool:
        """Whether gradients are clipped without per-record gradients."""
        return self._book is not None

    def optimizer(
        self, base: torch.optim.Optimizer, step: DpSgdStep, noise: KeyedGenerator
    ) -> KeyedDPOptimizer:
        """Begin a round: forget every gradient and wrap the base optimizer anew."""
        self._forget()
        return KeyedDPOptimizer(base, step, noise)

    def private_gradient(
        self, optimizer: KeyedDPOptimizer, examples: Examples, indices: Tensor
    ) -> None:
        """Write the noisy mean gradient of a Poisson sample into each ``param.grad``.

        Args:
            optimizer: of this round.
            examples: all training records.
            indices: those sampled, shape [b], b >= 0.
        """
        groups = examples.groups(indices) if len(indices) else [indices]
        chunks = [chunk for group in groups for chunk in group.split(self._physical)]
        for number, chunk in enumerate(chunks):
            optimizer.zero_grad(set_to_none=True)
            if len(chunk) and self._book:
                self._book.accumulate(examples.take(chunk), optimizer.max_grad_norm)
            elif len(chunk):
                self._loss_fn(self._forward, examples.take(chunk)).sum().backward()
            if self._book or not len(chunk):  # nothing is left to clip
                for p in self._params:
                    p.grad_sample = p.new_zeros((0, *p.shape))  # type: ignore[attr-defined]
            optimizer.signal_skip_step(number < len(chunks) - 1)
            optimizer.pre_step()

    def private_group_gradient(
        self, optimizer: KeyedDPOptimizer, examples: Examples, members: Sequence[Tensor]
    ) -> None:
        """Write the noisy mean gradient of a Poisson sample of groups into each ``param.grad``.

        A group's gradient is the mean over its records, however these are dealt out to forward
        passes.

        Args:
            optimizer: of this round.
            examples: all training records.
            members: records of each sampled group, each of at least one.
        """
        batches = list(_packed(members, self._physical)) or [[]]
        for number, batch in enumerate(batches):
            optimizer.zero_grad(set_to_none=True)
            means = [torch.zeros((len(batch), *p.shape), device=p.device) for p in self._params]
            if batch:
                self._add_group_means(means, examples, batch)
            for p, mean in zip(self._params, means, strict=True):
                p.grad_sample = mean  # type: ignore[attr-defined]
            optimizer.signal_skip_step(number < len(batches) - 1)
            optimizer.pre_step()

    def _add_group_means(
        self, means: list[Tensor], examples: Examples, batch: Sequence[Tensor]
    ) -> None:
        """Add up each group's mean gradient.

        Args:
            means: one tensor a parameter, shape [g, ...], changed in place.
            examples: all training records.
            batch: records of each of g groups.
        """
        if self._wrapped is None:
            raise PrivacyError(
                "This model is clipped record by record; build it with book_keeping=False for"
                " groups."
            )
        records, sizes = torch.cat(list(batch)), torch.tensor([len(group) for group in batch])
        owners = torch.arange(len(batch)).repeat_interleave(sizes)
        positions = torch.empty(int(records.max()) + 1, dtype=torch.int64)
        positions[records] = torch.arange(len(records))
        for bucket in examples.groups(records):
            for chunk in bucket.split(self._physical):
                self._wrapped.set_grad_sample_to_none()
                self._loss_fn(self._wrapped, examples.take(chunk)).sum().backward()
                place = owners[positions[chunk]]
                weights = 1 / sizes[place]
                for mean, p in zip(means, self._params, strict=True):
                    sample = p.grad_sample.float() * weights.to(p.device).view(-1, *[1] * p.dim())  # type: ignore[attr-defined]
                    mean.index_add_(0, place.to(p.device), sample)
        self._wrapped.set_grad_sample_to_none()

    def preflight(self, synthetic: Examples, *, autocast: torch.dtype | None) -> None:
        """Check that clipped sums equal those of a loop over single records.

        Where all are clipped, and where none is.

        Once for records as units and, where per-record gradients allow groups, once for these, one
        of two records.

        The trainable tensors are random for the moment, since a head that starts at zero would pass
        any check.

        Raises:
            PrivacyError: if they differ, with the relative error.
        """
        try:
            with off_zero(self._params), expect_hook_warning():
                self._try_book_keeping(synthetic)
                error = max(
                    self._error_of(synthetic, grouped=grouped)
                    for grouped in (False, True)[: 1 + (not self._book)]
                )
        finally:
            self._forget()
        if not error <= _PREFLIGHT_TOLERANCE[autocast]:
            raise PrivacyError(
                f"Preflight: clipped gradient sums of {len(synthetic)} synthetic records differ"
                f" from a loop over single records (relative error {error:.2g}); this model mixes"
                " the records of a batch, or has layers that per-record gradients do not cover."
            )

    @property
    def _forward(self) -> nn.Module:
        return self._model if self._wrapped is None else self._wrapped

    def _try_book_keeping(self, examples: Examples) -> None:
        """Go back to Opacus where a forward pass does what book-keeping refuses."""
        if self._book:
            try:
                self._book.accumulate(examples.take(torch.arange(len(examples))), clipping_norm=1.0)
            except PrivacyError as error:
                log.info("Per-record gradients by Opacus: %s", error)
                self._book, self._wrapped = None, _wrap(self._model)
            self._forget()

    def _error_of(self, examples: Examples, *, grouped: bool) -> float:
        """Compare clipped sums with a loop over single records, at each norm, and return the largest relative error."""
        alone = self._gradients_by_loop(examples)
        units = (
            [torch.tensor([0, 1]), *torch.arange(2, len(examples)).split(1)] if grouped else None
        )
        expected = (
            alone if units is None else torch.stack([alone[unit].mean(dim=0) for unit in units])
        )
        return max(
            _relative_error(self._clipped_sum(examples, norm, units), expected, norm)
            for norm in _PREFLIGHT_NORMS
        )

    def _clipped_sum(
        self, examples: Examples, norm: float, groups: Sequence[Tensor] | None = None
    ) -> Tensor:
        sgd = torch.optim.SGD(self._params, lr=1.0)
        step = DpSgdStep(
            clipping_norm=norm, noise_multiplier=0.0, sampling_rate=1.0, expected_batch_size=1.0
        )
        optimizer = self.optimizer(sgd, step, KeyedGenerator(bytes(32)))
        if groups is None:
            self.private_gradient(optimizer, examples, torch.arange(len(examples)))
        else:
            self.private_group_gradient(optimizer, examples, groups)
        return torch.cat([p.grad.flatten() for p in self._params if p.grad is not None]).cpu()

    def _gradients_by_loop(self, examples: Examples) -> Tensor:
        """Return each record's gradient, alone in its batch and without Opacus, shape [b, d]."""
        if self._wrapped is not None:
            self._wrapped.disable_hooks()
        rows = []
        try:
            for index in range(len(examples)):
                self._forward.zero_grad(set_to_none=True)
                loss = self._loss_fn(self._forward, examples.take(torch.tensor([index]))).sum()
                found = torch.autograd.grad(loss, self._params, allow_unused=True)
                parts = [
                    torch.zeros_like(p) if g is None else g
                    for p, g in zip(self._params, found, strict=True)
                ]
                rows.append(torch.cat([part.flatten() for part in parts]).cpu())
        finally:
            if self._wrapped is not None:
                self._wrapped.enable_hooks()
        return torch.stack(rows)

    def _forget(self) -> None:
        """Drop every gradient, and what Opacus keeps between a forward and a backward that never came."""
        for p in self._params:
            p.grad = None
            p.grad_sample = None  # type: ignore[attr-defined]
            p.summed_grad = None  # type: ignore[attr-defined]
            p._forward_counter = 0  # type: ignore[attr-defined]
            if hasattr(p, "_current_grad_sample"):
                del p._current_grad_sample
        for module in self._forward.modules():
            if hasattr(module, "activations"):
                module.activations = []  # type: ignore[assignment]
            if hasattr(module, "max_batch_len"):
                del module.max_batch_len


@contextlib.contextmanager
def off_zero(params: Sequence[Tensor]) -> Iterator[None]:
    """Move tensors a little for the moment, since a head that starts at zero would pass any check."""
    kept = [p.detach().clone() for p in params]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in params:
            p.add_(0.02 * torch.randn(p.shape, generator=generator).to(p.device))
    try:
        yield
    finally:
        with torch.no_grad():
            for p, value in zip(params, kept, strict=True):
                p.copy_(value)


def _book_of(model: nn.Module, loss_fn: LossFn, wanted: bool | None) -> BookKeeping | None:
    if wanted is False:
        return None
    try:
        book = BookKeeping(model, loss_fn)
    except PrivacyError as error:
        if wanted:
            raise
        log.info("Per-record gradients by Opacus: %s", error)
        return None
    return book if wanted or book.pays else None


def _wrap(model: nn.Module) -> GradSampleModule:
    try:
        return GradSampleModule(model, batch_first=True, loss_reduction="sum")
    except (NotImplementedError, ValueError) as error:
        raise PrivacyError(f"This model has layers without per-record gradients: {error}") from None


def _packed(groups: Sequence[Tensor], most: int) -> Iterator[list[Tensor]]:
    """Pack groups into batches of at most so many records; a larger group is a batch of its own."""
    batch: list[Tensor] = []
    for group in groups:
        if batch and sum(map(len, batch)) + len(group) > most:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def _relative_error(clipped_sum: Tensor, gradients: Tensor, norm: float) -> float:
    """Compare a clipped sum, shape [d], with that of single gradients, shape [b, d]."""
    factors = (norm / gradients.norm(dim=1).clamp_min(1e-12)).clamp_max(1.0)
    expected = (gradients * factors[:, None]).sum(dim=0)
    return float((clipped_sum - expected).norm() / expected.norm().clamp_min(1e-12))


__all__ = ["DpSgd", "DpSgdStep", "KeyedDPOptimizer", "LossFn", "expect_hook_warning", "off_zero"]
