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

Views of a record (`confide.tasks.media.views`) are rows of one unit likewise: a record with v views
is a group of v rows, a group of m records one of m v. Each row is a function of one record and of
random numbers that no record decides, so that the unit's term still depends on it alone.

Every forward and backward pass has a number of rows that is public (`confide.client.training.
passes`), or what a record adds would depend on who else was sampled, by rounding that whoever sends
the tensors can blow up. Sums and noise are float64 until a step's gradient is done.

Records are clipped without gradients of their own wherever a model's layers allow it
(`confide.client.training.private.book_keeping`), groups of larger models too, and else by Opacus's
per-record gradients; the same preflight, noise and scaling follow.
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from confide.client.training.aligned import AlignedRows
from confide.client.training.passes import (
    Filler,
    ModelCost,
    Pass,
    PassSizes,
    group_passes,
    mark_last,
    passes,
    places_of,
)
from confide.client.training.private.book_keeping import BookKeeping
from confide.client.training.private.clipping import (
    MARGIN,
    LossFn,
    gradient_norms,
)
from confide.client.training.private.optimizer import KeyedDPOptimizer
from confide.client.training.private.sample_gradients import SampleGradients
from confide.client.training.private.step import DpSgdStep, expect_hook_warning
from confide.errors import PrivacyError
from confide.models.coverage import refuse_moving
from confide.models.networks import refuse_dropout
from confide.moved import moved
from confide.privacy.randomness import KeyedGenerator
from confide.tasks.task import Batch, Examples, padded_length

log = logging.getLogger(__name__)

_BY_OPACUS = "Per-record gradients by Opacus: %s"
# Parameters from which on groups go through the books. Those of smaller models cost less there too,
# and runs that began before keep their weights bit for bit.
_GROUPS_FROM = 2**13
# Numbers of places that the groups of a step are taken to have, in choosing the size of a pass.
_KINDS = 3
# Of a record that has no lengths, such as patches of an image.
_MOST_TOKENS = 1024


class DpSgd:
    """A model prepared once for clipped sums of gradients, used for every client and round.

    Args:
        model: without BatchNorm, and without dropout that acts.
        loss_fn: loss of each record.
        physical_batch_size: most rows in one pass.
        book_keeping: use book-keeping instead of per-record gradients; None: if supported and, for
            groups, if it pays.
        filler: invented records, the first of which fills passes up; None for zeros.
        longest: largest number of tokens of a record; None if records have none.
        group_size: largest number of a group's rows: records, or all views of them; None where each
            unit is one row.
    """

    def __init__(  # noqa: PLR0913 - what an engine and its passes follow from
        self,
        model: nn.Module,
        loss_fn: LossFn,
        *,
        physical_batch_size: int,
        book_keeping: bool | None = None,
        filler: Examples | None = None,
        longest: int | None = None,
        group_size: int | None = None,
    ) -> None:
        refuse_dropout(model)
        refuse_moving(model)
        self._model, self._loss_fn = model, loss_fn
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.names, self._params = list(named), list(named.values())
        self._physical, self._group_size = physical_batch_size, group_size
        self._filler = Filler(filler)
        self._aligned = AlignedRows(model)
        self._book: BookKeeping | None = None
        if book_keeping or (book_keeping is None and self._books_pay()):
            most = padded_length(longest) if longest else _MOST_TOKENS
            try:
                self._book = BookKeeping(model, loss_fn, most_tokens=most)
            except PrivacyError as error:
                if book_keeping:
                    raise
                log.info(_BY_OPACUS, error)
        self._samples = None if self._book else SampleGradients(model, loss_fn)
        self._cost = ModelCost.of(model, writes=self._book is None)

    @property
    def model(self) -> nn.Module:
        """The model, without what wraps it."""
        return self._model

    @property
    def params(self) -> list[nn.Parameter]:
        """The trainable parameters, in the order of the model's."""
        return self._params

    @property
    def book_keeping(self) -> bool:
        """Whether gradients are clipped without per-record gradients."""
        return self._book is not None

    @property
    def places(self) -> tuple[int, ...]:
        """Numbers of rows that a unit may take, ascending; () for one a record."""
        if self._book is None or self._group_size is None:
            return ()
        return tuple(1 << power for power in range(places_of(self._group_size).bit_length()))

    def _books_pay(self) -> bool:
        if self._group_size is None:
            return True
        # A group goes through one pass, whole.
        fits = places_of(self._group_size) <= self._physical
        return fits and sum(p.numel() for p in self._params) >= _GROUPS_FROM

    def optimizer(
        self, base: torch.optim.Optimizer, step: DpSgdStep, noise: KeyedGenerator
    ) -> KeyedDPOptimizer:
        """Begin a round: forget every gradient and wrap the base optimizer anew."""
        self.forget()
        return KeyedDPOptimizer(base, step, noise, margin=self.margin(step))

    def margin(self, step: DpSgdStep) -> float:
        """Return how far below C norms have to stay, relatively.

        Raises:
            PrivacyError: if a step adds up so many records that rounding cannot be covered.
        """
        if self._book is None:
            return MARGIN
        return self._book.margin(
            step.expected_batch_size, group_size=self._group_size or 1, rows=self._physical
        )

    def sizes(self, step: DpSgdStep) -> PassSizes:
        """Return the rows of a round's passes, which follow from public figures."""
        return PassSizes(
            expected=step.expected_batch_size,
            rate=step.sampling_rate,
            most=self._physical,
            cost=self._cost,
            kinds=min(_KINDS, max(self.places, default=1).bit_length()),
        )

    def private_gradient(
        self, optimizer: KeyedDPOptimizer, examples: Examples, indices: Tensor
    ) -> None:
        """Write the noisy mean gradient of a Poisson sample into each ``param.grad``.

        Args:
            optimizer: this round's optimizer.
            examples: all training records.
            indices: indices of the sampled records, shape [b], b >= 0.
        """
        found = passes(examples, indices, self.sizes(optimizer.shared), self._filler)
        self._add_passes(optimizer, found)

    def _add_passes(self, optimizer: KeyedDPOptimizer, found: Iterator[Pass]) -> None:
        for part, is_last in mark_last(found):
            optimizer.zero_grad(set_to_none=True)
            if part is not None and self._book:
                with self._aligned():
                    self._book.accumulate(
                        part.batch, optimizer.clipping, part.is_record, part.weights
                    )
            elif part is not None and self._samples:
                self._samples.of(part.batch)
            # Nothing is left to clip, and Opacus expects gradients of every parameter.
            if self._book or part is None:
                for p in self._params:
                    p.grad_sample = p.new_zeros((0, *p.shape))  # type: ignore[attr-defined]
                optimizer.is_record = None
            else:
                optimizer.is_record = moved(part.is_record, self._params[0].device)
            # Opacus only adds up until the last pass, and then draws noise, once a step.
            optimizer.signal_skip_step(not is_last)
            optimizer.pre_step()

    def private_group_gradient(
        self, optimizer: KeyedDPOptimizer, examples: Examples, members: Sequence[Tensor]
    ) -> None:
        """Write the noisy mean gradient of a Poisson sample of groups into each ``param.grad``.

        A group's gradient is the mean over its records, in float64 and in an order of its own,
        however these are dealt out to passes. So many groups are open at once as fit into the
        memory of a pass; each is clipped alone.

        Args:
            optimizer: this round's optimizer.
            examples: all training records.
            members: indices of the records of each sampled group, each of at least one.
        """
        if self.places:
            self._refuse_large(members)
            sizes = self.sizes(optimizer.shared)
            self._add_passes(optimizer, group_passes(examples, members, sizes, self._filler))
            return
        if self._samples is None:
            raise PrivacyError(
                "This model is clipped record by record; build it with group_size, or"
                " book_keeping=False, for groups."
            )
        optimizer.is_record = None
        sizes = self.sizes(optimizer.shared)
        found = self._samples.means(examples, members, sizes, self._filler)
        for count, rows in enumerate(found, start=1):
            optimizer.zero_grad(set_to_none=True)
            for p, mean in zip(self._params, rows, strict=True):
                p.grad_sample = mean  # type: ignore[attr-defined]
            optimizer.signal_skip_step(count < len(members))
            optimizer.pre_step()

    def _refuse_large(self, members: Sequence[Tensor]) -> None:
        longest = max(map(len, members), default=0)
        if longest > (self._group_size or 1):
            raise PrivacyError(
                f"A group of {longest} records; this model was prepared for at most"
                f" {self._group_size} (privacy.max_records_per_group)."
            )

    def contributions(self, batch: Batch, weights: Tensor | None = None) -> Iterator[list[Tensor]]:
        """Return all that each unit's part of a sum is computed from, unit by unit.

        Args:
            batch: rows.
            weights: what each row counts in its unit's mean, shape [u, places], where book-keeping
                clips groups; None for rows as units.
        """
        if self._book:
            with self._aligned():
                return self._book.contributions(batch, weights)
        assert self._samples is not None
        samples = self._samples.of(batch)
        norms = gradient_norms(samples)
        return ([norm, *(sample[i] for sample in samples)] for i, norm in enumerate(norms))

    def settle_engine(self, synthetic: Examples) -> None:
        """Go back to Opacus where a forward pass does what book-keeping refuses.

        Args:
            synthetic: invented records, on which that shows.
        """
        if self._book:
            try:
                everything = synthetic.take(torch.arange(len(synthetic)))
                self._book.settle(everything, one_shape=synthetic.lengths is None)
            except PrivacyError as error:
                log.info(_BY_OPACUS, error)
                self._book = None
                self._samples = SampleGradients(self._model, self._loss_fn)
                self._cost = ModelCost.of(self._model, writes=True)
            self.forget()

    @contextlib.contextmanager
    def losing(self, loss_fn: LossFn | None) -> Iterator[None]:
        """Compute with another loss of each record for the moment; None for one's own."""
        own, engines = self._loss_fn, [it for it in (self, self._book, self._samples) if it]
        for engine in engines:
            engine._loss_fn = loss_fn or own
        try:
            yield
        finally:
            for engine in engines:
                engine._loss_fn = own

    @contextlib.contextmanager
    def plain(self) -> Iterator[Callable[[Batch], Tensor]]:
        """Yield the loss of each record of a batch, by the model without Opacus's hooks."""
        if self._samples is None:
            yield functools.partial(self._loss_fn, self._model)
            return
        with self._samples.plain() as model:
            yield functools.partial(self._loss_fn, model)

    def forget(self) -> None:
        """Drop every gradient, and what Opacus keeps for a backward pass that never came."""
        for p in self._params:
            p.grad = None
            p.grad_sample = None  # type: ignore[attr-defined]
            p.summed_grad = None  # type: ignore[attr-defined]
            p._forward_counter = 0  # type: ignore[attr-defined]
            if hasattr(p, "_current_grad_sample"):
                del p._current_grad_sample
        for module in (self._samples.module if self._samples else self._model).modules():
            if hasattr(module, "activations"):
                module.activations = []
            if hasattr(module, "max_batch_len"):
                del module.max_batch_len


__all__ = ["DpSgd", "DpSgdStep", "KeyedDPOptimizer", "expect_hook_warning"]
