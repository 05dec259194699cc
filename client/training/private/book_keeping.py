"""Clipped gradients without per-record gradients: book-keeping.

Bu, Wang, Zha, Karypis, "Differentially Private Optimization on Large Foundation Model at Small
Cost", ICML 2023, arXiv 2210.00038: one forward and one backward pass keep each layer's input and
the gradient of its output; norms and the clipped sum follow from these. A private step then costs
about as much as a plain one.

What is promised, and what voids it, is said in `dp_sgd`; here also a
parameter used other than by calling its layer, which the preflight finds.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from confide.client.training.private.clipping import ClippingRule, LossFn, counts, zero_unless
from confide.client.training.private.layer_gradients import (
    Gradient,
    Inputs,
    gradients_of,
    rounding_margin,
)
from confide.errors import PrivacyError
from confide.moved import known_all, moved
from confide.tasks.task import Batch

# Rounding may take so much of C. At 1 nothing would be left of it, and beyond it signs would turn.
_MOST_MARGIN = 2.0**-4


@dataclass(frozen=True, eq=False)
class _Call:
    """What a forward pass leaves of a layer.

    Attributes:
        name: name of the layer.
        layer: Linear, LayerNorm or Embedding.
        inputs: its inputs, shape [b, ...].
        version: torch's count of changes in place of the inputs.
        edge: edge of the graph that the output's gradient comes by; changing the output in place
            does not move it.
    """

    name: str
    layer: nn.Module
    inputs: Tensor
    version: int
    edge: GradientEdge

    @property
    def tokens(self) -> int:
        """How many products a record adds to an element of the layer's gradient."""
        return math.prod(self.inputs.shape[1:-1]) if isinstance(self.layer, nn.Linear) else 1

    def check(self, count: int, most_tokens: int) -> None:
        """Refuse what would make the gradients wrong, after a forward pass of ``count`` records."""
        if self.tokens > most_tokens:
            raise PrivacyError(
                f"{self.name} takes {self.tokens} tokens of a record: rounding is accounted for up"
                f" to {most_tokens}."
            )
        if len(self.inputs) != count:
            raise PrivacyError(
                f"{self.name} takes inputs of shape {list(self.inputs.shape)} in a batch of"
                f" {count}: its first dimension has to be the record; expand inputs that all"
                " records share."
            )
        if self.inputs._version != self.version:
            raise PrivacyError(
                f"What goes into {self.name} is changed in place afterwards: book-keeping needs it"
                " as it was."
            )


class BookKeeping:
    """Sums of clipped gradients, from each layer's inputs and gradients of its outputs.

    All trainable parameters belong to Linear, LayerNorm or Embedding layers. Nothing of a pass
    outlives it, and the model has hooks only while one runs.

    Args:
        model: untied, its layers trained whole or not at all, each called once in a forward pass.
        loss_fn: loss of each record.
        most_tokens: largest number of tokens of a record, which rounding grows with.

    Raises:
        PrivacyError: naming the first parameter that is not so.
    """

    def __init__(self, model: nn.Module, loss_fn: LossFn, *, most_tokens: int = 1024) -> None:
        self._model, self._loss_fn = model, loss_fn
        self._most_tokens = most_tokens
        self._layers = _supported_layers(model)
        self._params = [p for layer in self._layers.values() for p in layer.parameters()]
        self._sums: Tensor | None = None

    def margin(self, expected: float, *, group_size: int = 1, rows: int = 1) -> float:
        """Return how far below C norms have to stay for a sum to have the sensitivity C.

        Args:
            expected: expected number of units in a step, q * n.
            group_size: most records of a unit.
            rows: most rows of a pass; not looked at where records are units.

        Raises:
            PrivacyError: if it is more than a sixteenth: the bound grows with the square of a step.
        """
        margin = rounding_margin(
            expected=expected,
            tokens=self._most_tokens * group_size,
            products=None if group_size == 1 else rows * self._most_tokens,
        )
        if margin > _MOST_MARGIN:
            units = "records" if group_size == 1 else "groups"
            raise PrivacyError(
                f"Expected steps whose rounding is bounded by {_MOST_MARGIN:g} C; got q*n="
                f"{expected:g} {units} of up to {self._most_tokens * group_size} tokens,"
                f" {margin:.2g} C; lower client.sampling_rate or client.batch_size."
            )
        return margin

    def settle(self, batch: Batch, *, one_shape: bool) -> None:
        """Run one pass, and refuse what only that shows.

        Args:
            batch: invented records.
            one_shape: whether all records that come have the shape of these; there are then no more
                tokens than these have.
        """
        self.accumulate(batch, ClippingRule(1.0))
        if one_shape:
            with self._listening() as calls:
                self._loss_fn(self._model, batch)
            self._most_tokens = max(call.tokens for call in calls)

    def accumulate(
        self,
        batch: Batch,
        clipping: ClippingRule,
        is_record: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> None:
        """Add each unit's gradient, clipped, to ``param.summed_grad``, float64.

        A unit whose gradient is not finite counts as zero. Sums share one piece of memory, which
        the first batch after ``summed_grad = None`` overwrites.

        Args:
            batch: b >= 1 records.
            clipping: the rule that gradients are clipped by.
            is_record: which units count, bool, shape [u]; None for all.
            weights: what each record counts in its unit's mean, shape [u, places]; None for records
                as units.

        Raises:
            PrivacyError: if a layer is called twice, or in a way that its gradient does not follow
                from; if a sum was used.
        """
        if any(getattr(_sum_of(p), "_processed", False) for p in self._params):
            raise PrivacyError(
                "A clipped sum was about to be used twice; zero_grad() is missing between two"
                " steps."
            )
        count, gradients = self._gradients(batch, weights)
        with torch.no_grad():
            norms = _norms(gradients, count, self._params[0].device)
            kept = counts(norms)
            # What a factor of 0 turns into 0 need not be copied.
            if not known_all(kept):
                gradients = [gradient.only(kept) for gradient in gradients]
            factors = clipping.factors(norms)
            if is_record is not None:
                factors = zero_unless(moved(is_record, factors.device), factors)
            self._add(gradients, factors)

    def norms(self, batch: Batch) -> Tensor:
        """Return the norm of each record's gradient, not clipped: float64, shape [b]."""
        count, gradients = self._gradients(batch)
        return _norms(gradients, count, self._params[0].device)

    def contributions(self, batch: Batch, weights: Tensor | None = None) -> Iterator[list[Tensor]]:
        """Return all that each unit's part of a sum is computed from, unit by unit."""
        count, gradients = self._gradients(batch, weights)
        with torch.no_grad():
            norms = _norms(gradients, count, self._params[0].device)
        return (
            [norm, *(part for gradient in gradients for part in gradient.of_record(index))]
            for index, norm in enumerate(norms)
        )

    def _gradients(self, batch: Batch, weights: Tensor | None = None) -> tuple[int, list[Gradient]]:
        """Return the number of units, and the gradients of each parameter."""
        with self._listening() as calls:
            losses = self._loss_fn(self._model, batch)
        if losses.dim() != 1:
            raise PrivacyError(
                f"Expected one loss a record, shape [b]; got shape {list(losses.shape)}."
            )
        for call in calls:
            call.check(len(losses), self._most_tokens)
        found = (
            torch.autograd.grad(losses.sum(), [call.edge for call in calls], allow_unused=True)
            if calls
            else ()
        )
        if weights is not None:
            weights = moved(weights, losses.device)
        shared: dict[int, Inputs] = {}
        gradients: list[Gradient] = []
        with torch.no_grad():
            for call, g in zip(calls, found, strict=True):
                if g is None:
                    raise PrivacyError(
                        f"What comes out of {call.name} is changed in place, or the loss does not"
                        " depend on it."
                    )
                gradients.extend(gradients_of(call.layer, call.inputs, g, shared, weights))
        return len(losses if weights is None else weights), gradients

    def _add(self, gradients: list[Gradient], factors: Tensor) -> None:
        # A first sum overwrites its memory, which is cheaper than zeroing it and adding.
        fresh = _sum_of(self._params[0]) is None
        sums = {id(p): _sum_of(p) for p in self._params}
        if fresh:
            sizes = [p.numel() for p in self._params]
            # Kept: pages that the system has to hand out anew cost more than the sums.
            if self._sums is None:
                device = self._params[0].device
                self._sums = torch.empty(sum(sizes), dtype=torch.float64, device=device)
            pieces = zip(self._params, self._sums.split(sizes), strict=True)
            sums = {id(p): piece.view_as(p) for p, piece in pieces}
        rest = {key: total for key, total in sums.items() if total is not None}
        for gradient in gradients:
            gradient.add_to(rest.pop(id(gradient.param)), factors, fresh=fresh)
        # A parameter that no gradient came for: its memory holds what an earlier step left.
        if fresh:
            for total in rest.values():
                total.zero_()
        for p in self._params:
            p.summed_grad = sums[id(p)]  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def _listening(self) -> Iterator[list[_Call]]:
        calls: dict[str, _Call] = {}

        def hook(name: str, layer: nn.Module, args: tuple[object, ...], output: Tensor) -> None:
            if name in calls:
                raise PrivacyError(
                    f"{name} is called twice in a forward pass: book-keeping adds up one call of a"
                    " layer."
                )
            if len(args) != 1 or not isinstance(args[0], Tensor):
                raise PrivacyError(
                    f"{name} is called with keywords: book-keeping sees what is passed by position."
                )
            if not output.requires_grad:
                raise PrivacyError(
                    f"{name} is called without gradients, by checkpointing perhaps: book-keeping"
                    " needs them."
                )
            calls[name] = _Call(name, layer, args[0], args[0]._version, get_gradient_edge(output))

        handles = [
            layer.register_forward_hook(partial(hook, name)) for name, layer in self._layers.items()
        ]
        kept: list[_Call] = []
        try:
            yield kept
            kept.extend(calls.values())
        finally:
            for handle in handles:
                handle.remove()


def _sum_of(parameter: nn.Parameter) -> Tensor | None:
    return getattr(parameter, "summed_grad", None)


def _norms(gradients: list[Gradient], count: int, device: torch.device) -> Tensor:
    """Return the norm of each record's whole gradient: float64, shape [b = count]."""
    squared = torch.zeros(count, dtype=torch.float64, device=device)
    for gradient in gradients:
        squared += gradient.squared_norms(count)
    return squared.sqrt()


def _supported_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that own trainable parameters, by name."""
    layers: dict[str, nn.Module] = {}
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False, remove_duplicate=False))
        trainable = [key for key, p in own.items() if p.requires_grad]
        if not trainable:
            continue
        _refuse_unsupported(name, module, [key for key in own if key not in trainable])
        for key in trainable:
            path = f"{name}.{key}"
            if id(own[key]) in owners:
                raise PrivacyError(
                    f"{path} is tied to {owners[id(own[key])]}: book-keeping adds up one use of a"
                    " parameter."
                )
            owners[id(own[key])] = path
        layers[name] = module
    if not layers:
        raise PrivacyError("This model has no trainable parameter.")
    return layers


def _refuse_unsupported(name: str, module: nn.Module, frozen: list[str]) -> None:
    # Subclasses may compute something else.
    if type(module) not in (nn.Linear, nn.LayerNorm, nn.Embedding):
        raise PrivacyError(
            f"{name or 'The model'} is {type(module).__name__}: book-keeping has Linear, LayerNorm"
            " and Embedding."
        )
    if not {"weight", "bias"} >= set(dict(module.named_parameters(recurse=False))):
        raise PrivacyError(f"{name} computes its weight: book-keeping takes weights themselves.")
    if frozen:
        raise PrivacyError(
            f"{name} is trained without its {', '.join(frozen)}: book-keeping takes whole layers."
        )
    if isinstance(module, nn.Embedding) and (
        module.max_norm is not None or module.scale_grad_by_freq or module.sparse
    ):
        raise PrivacyError(
            f"{name} has max_norm, scale_grad_by_freq or sparse: its records' gradients do not"
            " add up."
        )


__all__ = ["BookKeeping"]
