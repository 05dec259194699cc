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
import functools
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from confide.client.training.book_keeping import BookKeeping
from confide.client.training.clipping import ClippingRule, LossFn
from confide.errors import PrivacyError
from confide.privacy.randomness import KeyedGenerator
from confide.tasks.task import Batch, Examples

log = logging.getLogger(__name__)

_BY_OPACUS = "Per-record gradients by Opacus: %s"


@dataclass(frozen=True, kw_only=True)
class DpSgdStep:
    """What every step of a round has in common.

    Attributes:
        clipping_norm: C > 0.
        noise_multiplier: sigma >= 0.
        sampling_rate: q in (0, 1].
        expected_batch_size: q * n, which the noisy sum is divided by.
    """

    clipping_norm: float
    noise_multiplier: float
    sampling_rate: float
    expected_batch_size: float


class KeyedDPOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus ships no types
    """Opacus's optimizer, with our clipping rule and noise from a cryptographic generator."""

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

    @property
    def clipping(self) -> ClippingRule:
        """The rule that gradients are clipped by."""
        return ClippingRule(self.max_grad_norm)

    def clip_and_accumulate(self) -> None:
        """Add the clipped sum of a batch's gradients to ``param.summed_grad``.

        Raises:
            PrivacyError: if these gradients were added before.
        """
        if any(getattr(p.grad_sample, "_processed", False) for p in self.params):
            raise PrivacyError(
                "Per-record gradients were about to be used twice; zero_grad() is missing between"
                " two steps."
            )
        sums = self.clipping.clipped_sums([sample.float() for sample in self.grad_samples])
        for p, clipped in zip(self.params, sums, strict=True):
            # An empty batch, such as book-keeping leaves, adds nothing and would cost a copy.
            if p.summed_grad is None:
                p.summed_grad = clipped
            elif len(p.grad_sample):
                p.summed_grad = p.summed_grad + clipped
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
        std = self.noise_multiplier * self.clipping.sensitivity()
        # Drawn for all parameters at once: the generator costs by the call.
        if std:
            self._noise.add_normal([p.grad.view(-1) for p in params], std=std)


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
        book_keeping: use book-keeping instead of per-record gradients; None: if supported and the
            model has at least 2^20 trainable parameters.
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
        self._book: BookKeeping | None = None
        if book_keeping is not False:
            try:
                book = BookKeeping(model, loss_fn)
                self._book = book if book_keeping or book.pays else None
            except PrivacyError as error:
                if book_keeping:
                    raise
                log.info(_BY_OPACUS, error)
        self._wrapped = None if self._book else _wrap(model)

    @property
    def params(self) -> list[nn.Parameter]:
        """The trainable parameters, in the order of the model's."""
        return self._params

    @property
    def book_keeping(self) -> bool:
        """Whether gradients are clipped without per-record gradients."""
        return self._book is not None

    def optimizer(
        self, base: torch.optim.Optimizer, step: DpSgdStep, noise: KeyedGenerator
    ) -> KeyedDPOptimizer:
        """Begin a round: forget every gradient and wrap the base optimizer anew."""
        self.forget()
        return KeyedDPOptimizer(base, step, noise)

    def private_gradient(
        self, optimizer: KeyedDPOptimizer, examples: Examples, indices: Tensor
    ) -> None:
        """Write the noisy mean gradient of a Poisson sample into each ``param.grad``.

        Args:
            optimizer: this round's optimizer.
            examples: all training records.
            indices: indices of the sampled records, shape [b], b >= 0.
        """
        # An empty sample is a step too: it adds noise, and counts.
        groups = examples.length_buckets(indices) if len(indices) else [indices]
        chunks = [chunk for group in groups for chunk in group.split(self._physical)]
        for number, chunk in enumerate(chunks):
            optimizer.zero_grad(set_to_none=True)
            if len(chunk) and self._book:
                self._book.accumulate(examples.take(chunk), optimizer.clipping)
            elif len(chunk):
                self._loss_fn(self._forward, examples.take(chunk)).sum().backward()
            # Nothing is left to clip, and Opacus expects gradients of every parameter.
            if self._book or not len(chunk):
                for p in self._params:
                    p.grad_sample = p.new_zeros((0, *p.shape))  # type: ignore[attr-defined]
            # Opacus only adds up until the last chunk, and then draws noise, once a step.
            optimizer.signal_skip_step(number < len(chunks) - 1)
            optimizer.pre_step()

    def private_group_gradient(
        self, optimizer: KeyedDPOptimizer, examples: Examples, members: Sequence[Tensor]
    ) -> None:
        """Write the noisy mean gradient of a Poisson sample of groups into each ``param.grad``.

        A group's gradient is the mean over its records, however these are dealt out to forward
        passes.

        Args:
            optimizer: this round's optimizer.
            examples: all training records.
            members: indices of the records of each sampled group, each of at least one.
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
        """Add each group's mean gradient to ``means``: one tensor a parameter, shape [g, ...]."""
        if self._wrapped is None:
            raise PrivacyError(
                "This model is clipped record by record; build it with book_keeping=False for"
                " groups."
            )
        # Each record's gradient counts 1 / size, so that the sum over a group is its mean.
        records = torch.cat(list(batch))
        sizes = torch.tensor([len(group) for group in batch])
        owners = torch.arange(len(batch)).repeat_interleave(sizes)
        # Buckets by length tear groups apart: this finds a record's group again.
        positions = torch.empty(int(records.max()) + 1, dtype=torch.int64)
        positions[records] = torch.arange(len(records))
        for bucket in examples.length_buckets(records):
            for chunk in bucket.split(self._physical):
                self._wrapped.set_grad_sample_to_none()
                self._loss_fn(self._wrapped, examples.take(chunk)).sum().backward()
                place = owners[positions[chunk]]
                weights = 1 / sizes[place]
                for mean, p in zip(means, self._params, strict=True):
                    sample = p.grad_sample.float() * weights.to(p.device).view(-1, *[1] * p.dim())  # type: ignore[attr-defined]
                    mean.index_add_(0, place.to(p.device), sample)
        self._wrapped.set_grad_sample_to_none()

    def settle_engine(self, synthetic: Examples) -> None:
        """Go back to Opacus where a forward pass does what book-keeping refuses.

        Args:
            synthetic: invented records, on which that shows.
        """
        if self._book:
            try:
                everything = synthetic.take(torch.arange(len(synthetic)))
                self._book.accumulate(everything, ClippingRule(1.0))
            except PrivacyError as error:
                log.info(_BY_OPACUS, error)
                self._book, self._wrapped = None, _wrap(self._model)
            self.forget()

    @contextlib.contextmanager
    def plain(self) -> Iterator[Callable[[Batch], Tensor]]:
        """Yield the loss of each record of a batch, by the model without Opacus's hooks."""
        if self._wrapped is not None:
            self._wrapped.disable_hooks()
        try:
            yield functools.partial(self._loss_fn, self._forward)
        finally:
            if self._wrapped is not None:
                self._wrapped.enable_hooks()

    @property
    def _forward(self) -> nn.Module:
        return self._model if self._wrapped is None else self._wrapped

    def forget(self) -> None:
        """Drop every gradient, and what Opacus keeps for a backward pass that never came."""
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


__all__ = ["DpSgd", "DpSgdStep", "KeyedDPOptimizer", "expect_hook_warning"]
