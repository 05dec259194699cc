"""Bottleneck adapters: h + up(GELU(down(h))) after attention and after the perceptron of a layer.

Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019, arXiv 1902.00751,
section 2.1: before what went in is added again. The last matrix starts at zero, so that a model
starts as its backbone.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from confide.config.tunings.bottleneck import BottleneckConfig
from confide.models.tuning.places import LAYER_OUTPUTS, endings_of, modules_at


class Bottleneck(nn.Module):
    """A layer, and an adapter of what it gives.

    Args:
        base: a matrix of the encoder.
        width: outputs of the matrix, d.
        bottleneck: width in between, r.
    """

    def __init__(self, base: nn.Module, *, width: int, bottleneck: int) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, *inputs: Any) -> Tensor:
        """Map what the layer takes to vectors [..., d]."""
        hidden: Tensor = self.base(*inputs)
        added: Tensor = self.up(nn.functional.gelu(self.down(hidden)))
        return hidden + added


def add_bottlenecks(encoder: nn.Module, tuning: BottleneckConfig) -> nn.Module:
    """Freeze an encoder, and add adapters that are trained.

    Raises:
        ModelError: if no module matches ``tuning.target_modules``.
    """
    encoder.requires_grad_(False)
    named = tuning.target_modules
    endings = endings_of(encoder, LAYER_OUTPUTS) if named is None else list(named)
    for name in modules_at(encoder, endings):
        base = encoder.get_submodule(name)
        # GPT-2's matrices have their outputs second
        width = base.out_features if isinstance(base, nn.Linear) else base.weight.shape[1]  # type: ignore[index]
        adapter = Bottleneck(base, width=int(width), bottleneck=tuning.bottleneck)
        encoder.set_submodule(name, adapter)
    return encoder


def take_bottlenecks_out(encoder: nn.Module) -> Mapping[str, Bottleneck]:
    """Give an encoder its own layers back.

    Returns:
        Name of a layer -> what followed it; {} if nothing was added.
    """
    found = {
        name: module for name, module in encoder.named_modules() if isinstance(module, Bottleneck)
    }
    for name, adapter in found.items():
        encoder.set_submodule(name, adapter.base)
    return found


__all__ = ["Bottleneck", "add_bottlenecks", "take_bottlenecks_out"]
