"""Linear layers whose result for a row does not depend on where in a batch the row stands.

A matrix product on a CPU peels rows off by the address that they begin at: with 30 inputs a row
begins 120 bytes after the one before it, and the last bits of every second row are other ones
(measured with MKL: rows 16 bytes apart in alignment differ). In a private pass, layers of such
widths therefore compute with inputs and outputs filled up with zeros to a multiple of 16 numbers,
64 bytes: every row then begins at the same alignment. `private.row_check` looks at
what this is to achieve, on every device and for any model.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_NUMBERS = 16


class AlignedRows:
    """A model's linear layers, computed in aligned rows for as long as it is entered.

    The gradient of a loss with respect to the weights of such a layer is not computed: only what
    goes into and comes out of a layer is, from which gradients of single records follow.

    Args:
        model: any model; layers whose widths are multiples of 16 stay as they are.
    """

    def __init__(self, model: nn.Module) -> None:
        self._forwards = [
            (module, partial(_forward, module))
            for module in model.modules()
            if type(module) is nn.Linear
            and (module.in_features % _NUMBERS or module.out_features % _NUMBERS)
        ]

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Compute in aligned rows."""
        # Past torch's own setting of attributes, which takes longer than a small layer.
        for layer, forward in self._forwards:
            vars(layer)["forward"] = forward
        try:
            yield
        finally:
            for layer, _ in self._forwards:
                del vars(layer)["forward"]


def _forward(layer: nn.Linear, x: Tensor) -> Tensor:
    rows = x.reshape(-1, layer.in_features)
    if torch.is_autocast_enabled(x.device.type):
        # Left to autograd: casts come between, which a function of our own would have to undo.
        bias = None if layer.bias is None else _wide(layer.bias)
        outputs = functional.linear(_wide(rows), _square(layer.weight), bias)
    else:
        outputs = _Linear.apply(rows, layer.weight, layer.bias)  # type: ignore[no-untyped-call]
    return outputs[:, : layer.out_features].reshape(*x.shape[:-1], layer.out_features)


class _Linear(torch.autograd.Function):
    """x W^T + b on rows filled up with zeros; outputs stay filled up, shape [m, p + zeros].

    Torch's context is untyped.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        square = _square(weight)
        ctx.save_for_backward(square)
        ctx.width = x.shape[1]
        if bias is None:
            return torch.mm(_wide(x), square.t())
        return torch.addmm(_wide(bias), _wide(x), square.t())

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None, None
        (square,) = ctx.saved_tensors
        return torch.mm(g, square)[:, : ctx.width], None, None


def _wide(rows: Tensor) -> Tensor:
    """Fill the last dimension up with zeros to a multiple of 16."""
    return functional.pad(rows, (0, -rows.shape[-1] % _NUMBERS))


def _square(weight: Tensor) -> Tensor:
    """Fill both dimensions of a weight, [p, d], up with zeros to multiples of 16."""
    return functional.pad(weight, (0, -weight.shape[1] % _NUMBERS, 0, -weight.shape[0] % _NUMBERS))


__all__ = ["AlignedRows"]
