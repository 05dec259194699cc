"""A model from records as its task encodes them to outputs, with gradients where it has any."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from confide.inference.predictor import Predictor
from confide.tasks.task import LABELS, Batch

_ROUNDING = 1e-4
"""Largest difference of outputs, relative to the largest, that is rounding alone."""


class Network:
    """The whole model of a predictor.

    Args:
        predictor: the model; one whose records become features of a frozen backbone gets that back.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._logits = predictor.logits
        self._together: bool | None = None
        self._device = torch.device("cpu")
        self.module: nn.Module | None = None
        if predictor.network_fn is not None:
            self.module = predictor.network_fn().eval()
            parameter = next(self.module.parameters(), None)
            if parameter is not None:
                self._device = parameter.device

    def outputs(self, batch: Batch) -> Tensor:
        """Map a batch, labels aside, to outputs on the CPU, shape [b, ...]."""
        inputs = {name: column for name, column in batch.items() if name != LABELS}
        if self.module is None:
            return self._by_logits({name: column.detach() for name, column in inputs.items()})
        return self.called(self.module, inputs)

    def called(self, function: Callable[..., Any], inputs: Batch) -> Tensor:
        """Call the model, or a part of it, with a batch; return its outputs on the CPU."""
        made = function(**{name: column.to(self._device) for name, column in inputs.items()})
        outputs: Tensor = made if isinstance(made, Tensor) else made.logits
        return outputs.float().cpu()

    def _by_logits(self, inputs: Batch) -> Tensor:
        """Compute together what may be, and else each record alone.

        An 8-bit model rounds by the largest number of a batch: beside other records a record's
        outputs are others, and what its units add would not add up.
        """
        count = len(next(iter(inputs.values())))
        if self._together is None and count > 1:
            whole = self._logits(inputs)
            alone = self._logits({name: column[:1] for name, column in inputs.items()})
            apart = (whole[:1] - alone).abs().max()
            self._together = bool(apart <= _ROUNDING * whole.abs().max().clamp(min=1))
        if count == 1 or self._together:
            return self._logits(inputs)
        rows = [
            {name: column[at : at + 1] for name, column in inputs.items()} for at in range(count)
        ]
        return torch.cat([self._logits(row) for row in rows])

    def has_gradient(self, outputs_fn: Callable[[Tensor], Tensor], inputs: Tensor) -> bool:
        """Tell whether outputs have a gradient in numbers that the model is given."""
        if self.module is None:
            return False
        try:
            with torch.enable_grad():
                return outputs_fn(inputs.clone().requires_grad_(True)).requires_grad
        except RuntimeError:  # another library computes it, and takes no tensor with a gradient
            return False

    def embedding_of(self, batch: Batch, name: str) -> nn.Module | None:
        """Return the layer that turns a column of ids into vectors; None where none does."""
        if self.module is None:
            return None
        found: list[nn.Module] = []
        with torch.no_grad(), _watched(self.module, batch[name].to(self._device), found):
            self.outputs(batch)
        return found[0] if found else None


@contextmanager
def replaced(layer: nn.Module, ids: Tensor, vectors: Tensor) -> Iterator[None]:
    """Let a layer give some vectors where it is called with some ids, and its own elsewhere.

    A layer may be called for both texts of a record, and a model may scale what it gives: so
    vectors stand where they are made.

    Args:
        layer: turns ids into vectors.
        ids: shape [b, t].
        vectors: shape [b, t, d].
    """

    def give(_: nn.Module, inputs: tuple[Tensor, ...], made: Tensor) -> Tensor | None:
        same = inputs[0].shape == ids.shape and bool((inputs[0].cpu() == ids).all())
        return vectors.to(made) if same else None

    hook = layer.register_forward_hook(give)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _watched(module: nn.Module, ids: Tensor, found: list[nn.Module]) -> Iterator[None]:
    """Note which embeddings are called with some ids."""

    def look(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        # Positions come as a size, and not as a tensor, to some
        given = inputs[0] if inputs else None
        if isinstance(given, Tensor) and given.shape == ids.shape and bool((given == ids).all()):
            found.append(layer)

    layers = [layer for layer in module.modules() if isinstance(layer, nn.Embedding)]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


__all__ = ["Network", "replaced"]
