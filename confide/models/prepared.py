"""What per-record gradients need of any model, done once when it is loaded.

A model of transformers or torch learns with randomness, and some normalise by a batch. Under
privacy what a record adds must not depend on the records beside it or on its place among them, and
without privacy equal seeds give equal weights in every engine. So randomness is switched off, and a
BatchNorm becomes what it computes once it has been trained: a fixed affine map of its channels.
"""

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm

_RANDOM = re.compile(
    r"dropout|pdrop$|drop_?path|drop_?prob|drop_?rate|layer_?drop|stochastic_depth"
    r"|mask_(time|feature)_prob|jitter"
)
"""Names of what makes a forward pass random: dropout, stochastic depth (drop_path, LayerDrop),
SpecAugment's masks, noise of a router."""
_SWITCHES = ("apply_spec_augment",)
_FOLDED = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)
"""Exactly these: a subclass may compute more, such as an activation."""


class FoldedNorm(nn.Module):
    """A BatchNorm's running statistics as an affine map of each channel: y = x w + b.

    What transformers loads of its saved tensors computes the same: they name statistics that change
    nothing.

    Args:
        norm: keeps running statistics.
        trained: whether w and b are trained.
    """

    def __init__(self, norm: _NormBase, *, trained: bool = False) -> None:
        super().__init__()
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        scale = (variance.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.detach().double()
        shift = -mean.double() * scale
        if norm.bias is not None:
            shift = shift + norm.bias.detach().double()
        self.eps = norm.eps
        self.weight = nn.Parameter(scale.to(mean.dtype), requires_grad=trained)
        self.bias = nn.Parameter(shift.to(mean.dtype), requires_grad=trained)

    def forward(self, x: Tensor) -> Tensor:
        """Map channels of x, shape [b, c, ...]."""
        shape = (1, -1, *[1] * (x.dim() - 2))
        return x * self.weight.view(shape) + self.bias.view(shape)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # The BatchNorm that loads these divides by sqrt(variance + eps) = 1.
        destination.update(self._statistics(prefix))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        statistics = self._statistics(prefix).items()
        # Others are of a norm that is not folded, and stay where torch calls them unexpected.
        neutral = {key for key, value in statistics if value.equal(state_dict.get(key, value))}
        own = {key: value for key, value in state_dict.items() if key not in neutral}
        super()._load_from_state_dict(own, prefix, *rest)

    def _statistics(self, prefix: str) -> dict[str, Tensor]:
        mean = torch.zeros_like(self.bias.detach())
        return {
            prefix + "running_mean": mean,
            prefix + "running_var": mean + (1 - self.eps),
            prefix + "num_batches_tracked": torch.tensor(0),
        }


def prepare_model(model: nn.Module, *, trained_norms: bool = False) -> nn.Module:
    """Do what per-record gradients need: no randomness, BatchNorm folded, training mode.

    Outputs in training mode are from then on those of the model in evaluation mode.

    Args:
        model: of transformers or torch, its weights loaded; changed in place.
        trained_norms: whether weight and bias of a folded BatchNorm are trained.

    Returns:
        The model; a folded norm where it is nothing but a BatchNorm.
    """
    settings = getattr(model, "config", None)
    if settings is not None:
        switch_off_randomness(settings)
    for module in list(model.modules()):
        _switch_off(module)
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        if isinstance(module, nn.RReLU):
            module.lower = module.upper = (module.lower + module.upper) / 2
        _fix_spectral_norm(module)
    # A model from transformers is in evaluation mode, in which Opacus sees no layer.
    return _folded(model, trained=trained_norms).train()


def switch_off_randomness(settings: Any) -> None:
    """Set what makes a model random to zero in a config of transformers, and those within it."""
    for inner in _with_inner(settings):
        _switch_off(inner)


def _with_inner(settings: Any) -> Iterator[Any]:
    yield settings
    for value in list(vars(settings).values()):
        if hasattr(value, "model_type") and hasattr(value, "to_dict"):
            yield from _with_inner(value)


def _switch_off(owner: Any) -> None:
    for name, value in list(vars(owner).items()):
        if name in _SWITCHES:
            setattr(owner, name, False)
        elif not _RANDOM.search(name):
            continue
        elif isinstance(value, float):
            setattr(owner, name, 0.0)
        elif isinstance(value, list | tuple) and all(isinstance(one, float) for one in value):
            setattr(owner, name, type(value)(0.0 for _ in value))


def _fix_spectral_norm(module: nn.Module) -> None:
    """Keep the weight that a spectral norm makes in evaluation mode: training passes change it."""
    chains = getattr(module, "parametrizations", None)
    for name, chain in list(chains.items()) if isinstance(chains, nn.ModuleDict) else ():
        if any(isinstance(part, _SpectralNorm) for part in chain.eval().children()):
            parametrize.remove_parametrizations(module, name)
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)


def contiguous_convolutions(model: nn.Module) -> None:
    """Let every convolution take contiguous inputs.

    Opacus 1.6 unfolds those of a permuted input as if it were contiguous, and its gradients of
    records are wrong without a word. What a convolution returns stays the same.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            module.register_forward_pre_hook(_contiguous)


def _contiguous(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (args[0].contiguous(), *args[1:])


def _folded(model: nn.Module, *, trained: bool) -> nn.Module:
    made: dict[nn.Module, FoldedNorm] = {}  # one that two parents share stays one

    def fold(module: nn.Module) -> FoldedNorm | None:
        if type(module) not in _FOLDED or not isinstance(module, _NormBase):
            return None
        if module.running_mean is None:
            return None
        return made.setdefault(module, FoldedNorm(module, trained=trained))

    for parent in list(model.modules()):
        for name, child in parent.named_children():
            folded = fold(child)
            if folded is not None:
                setattr(parent, name, folded)
    return fold(model) or model


__all__ = ["FoldedNorm", "contiguous_convolutions", "prepare_model", "switch_off_randomness"]
