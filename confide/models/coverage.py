"""Layers that per-record gradients do not cover, refused by name.

A layer is covered where what it was called with, and the gradient of what it returned, say the
gradient of its weights for each record. Frozen layers need nothing of that: gradients pass through
them as through any function.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from confide.errors import PrivacyError

_UNCOVERED: Mapping[type[nn.Module], str] = {
    nn.MultiheadAttention: "reads its weights without calling a layer; write its projections as"
    " nn.Linear layers",
    nn.RNNBase: "steps through time within one call; take DPLSTM, DPGRU or DPRNN of opacus.layers",
    nn.Bilinear: "takes two inputs; multiply the outputs of nn.Linear layers",
    nn.EmbeddingBag: "adds rows up within; take nn.Embedding and a mean over tokens",
}
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_OR = "or freeze it (tuning=lora or tuning=head)."


def refuse_uncovered(model: nn.Module) -> None:
    """Refuse trained layers that Opacus computes no gradients of records for, or wrong ones.

    Raises:
        PrivacyError: naming the first, what is wrong with it, and the way out.
    """
    for name, module in model.named_modules():
        reason = _reason(module)
        if reason is not None:
            raise PrivacyError(
                f"{name or 'The model'} is {type(module).__name__}: it {reason}, {_OR}"
            )


def _reason(module: nn.Module) -> str | None:
    """Say why a layer is not covered; None for one that may be, or that is frozen."""
    trained = any(p.requires_grad for p in module.parameters())
    own = any(p.requires_grad for p in module.parameters(recurse=False))
    for kind, why in _UNCOVERED.items():
        if trained and isinstance(module, kind):
            return why
    if not own:
        return None
    mode = getattr(module, "padding_mode", "zeros")
    if type(module) in _CONVOLUTIONS and mode != "zeros":
        return (
            f"has padding_mode={mode}, where Opacus takes zeros; pad before it"
            " (torch.nn.functional.pad)"
        )
    if any(isinstance(hook, WeightNorm) for hook in module._forward_pre_hooks.values()):
        return "computes its weight in a hook; take weight_norm of torch.nn.utils.parametrizations"
    buffers = [name for name, _ in module.named_buffers()]
    if buffers:
        return (
            f"holds {', '.join(buffers[:2])} beside what is trained; keep these in a module above"
        )
    return None


def refuse_moving(model: nn.Module) -> None:
    """Refuse layers that any forward pass in training mode changes, or that draw; frozen ones too.

    What a record adds would depend on how many passes came before.

    Raises:
        PrivacyError: naming the first and the way out.
    """
    for name, module in model.named_modules():
        hooks = module._forward_pre_hooks.values()
        if isinstance(module, _SpectralNorm) or any(isinstance(h, SpectralNorm) for h in hooks):
            why = "spectral norm, whose vectors every pass changes"
        elif isinstance(module, nn.RReLU) and module.lower != module.upper:
            why = "RReLU, which draws slopes"
        elif isinstance(module, nn.FractionalMaxPool2d | nn.FractionalMaxPool3d):
            why = "fractional pooling, which draws its regions"
        else:
            continue
        raise PrivacyError(
            f"{name or 'The model'} has {why}: under privacy a record's gradient must not depend on"
            " other passes; take a layer that does not, or prepare the model"
            " (confide.models.prepared.prepare_model), which fixes spectral norms and slopes."
        )


def refuse_unseen(
    model: nn.Module, losses_fn: Callable[[], Tensor], params: Sequence[nn.Parameter]
) -> None:
    """Refuse trained weights that are used other than by calling their layer on each record.

    Args:
        model: any model.
        losses_fn: runs it on at least two records and returns the loss of each, shape [b].
        params: its trained parameters.

    Raises:
        PrivacyError: naming the layer and the way out.
    """
    owners = {
        name: (module, [id(p) for p in module.parameters(recurse=False) if p.requires_grad])
        for name, module in model.named_modules()
    }
    calls: dict[str, list[tuple[tuple[Any, ...], bool]]] = {}

    def note(name: str, module: nn.Module, args: tuple[Any, ...], keywords: Any) -> None:
        calls.setdefault(name, []).append((args, bool(keywords)))

    handles = [
        module.register_forward_pre_hook(partial(note, name), with_kwargs=True)
        for name, (module, own) in owners.items()
        if own
    ]
    try:
        losses = losses_fn()
    finally:
        for handle in handles:
            handle.remove()
    found = torch.autograd.grad(losses.sum(), list(params), allow_unused=True)
    used = {id(p) for p, g in zip(params, found, strict=True) if g is not None}
    used -= {key for name in calls for key in owners[name][1]}
    for name, (module, own) in owners.items():
        why = next(
            (said for call in calls.get(name, []) if (said := _misuse(*call, len(losses)))), None
        )
        if used & set(own):
            why = (
                "its weights are read without calling it; call it on what each record brings, an"
                " Embedding on numbers of shape [b, t]"
            )
        if why is not None:
            raise PrivacyError(f"{name or 'The model'} is {type(module).__name__}: {why}, {_OR}")


def _misuse(args: tuple[Any, ...], has_keywords: bool, count: int) -> str | None:
    """Say why a call on ``count`` records does not tell what each of them brings."""
    if not args:  # a parametrization is called with nothing
        return "it is called with keywords alone; pass tensors by position" * has_keywords or None
    if not all(isinstance(value, Tensor) for value in args):
        return "it takes what is no tensor (None, or a pair) by position; pass tensors"
    if not args[0].dim() or len(args[0]) != count:
        return (
            f"it takes inputs of shape {list(args[0].shape)} in a batch of {count}, whose first"
            " dimension has to be the record; expand inputs that all records share"
        )
    return None


__all__ = ["refuse_moving", "refuse_uncovered", "refuse_unseen"]
