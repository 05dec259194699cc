"""A transformer on patches of a window, of layers that both engines of private steps cover.

Patches as tokens: Nie et al., "A Time Series is Worth 64 Words" (ICLR 2023, arXiv 2211.14730,
section 3.1), here with all readings of a step in one patch, pre-norm LayerNorm, and positions that
are fixed sines, since a parameter that belongs to no layer has no gradient of a record.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from confide.config.models.patches import PatchesConfig
from confide.config.tasks.series import SeriesConfig
from confide.errors import ModelError
from confide.models.networks import scaled_rows
from confide.models.workload import Order, Workload
from confide.tasks.task import TableTask

# Of one record and layer: a pass of 256 rows then holds 1 GiB of them. A plan may ask for more.
_MOST_WEIGHTS = 2**20


class _Layer(nn.Module):
    """Attention and a perceptron, each added to what it is given."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens [b, t, w] to tokens [b, t, w]."""
        given = self.before_attention(tokens)
        # [b, heads, t, w / heads]
        query, key, value = (
            made(given).unflatten(2, (self._heads, -1)).transpose(1, 2)
            for made in (self.query, self.key, self.value)
        )
        weights = (query @ key.transpose(2, 3) / math.sqrt(query.shape[3])).softmax(dim=3)
        tokens = tokens + self.out((weights @ value).transpose(1, 2).flatten(start_dim=2))
        return tokens + cast(
            Tensor, self.narrow(functional.gelu(self.wide(self.before_mlp(tokens))))
        )


class PatchTransformer(nn.Module):
    """Maps windows to outputs.

    Args:
        config: sizes.
        steps: of a window, a multiple of the patch.
        readings: numbers of a step.
        outputs: numbers that are predicted, which start at zero.
    """

    positions: Tensor

    def __init__(self, config: PatchesConfig, *, steps: int, readings: int, outputs: int) -> None:
        super().__init__()
        self._row_norm, self._patch = config.row_norm, config.patch * readings
        tokens = steps // config.patch
        self.register_buffer("positions", _sines(tokens, config.width), persistent=False)
        self.embed = nn.Linear(self._patch, config.width)
        self.layers = nn.ModuleList(
            _Layer(config.width, config.heads) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(tokens * config.width, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map windows [b, steps * readings] to outputs [b, k]."""
        patches = scaled_rows(features, self._row_norm).unflatten(1, (-1, self._patch))
        tokens = self.embed(patches) + self.positions
        for layer in self.layers:
            tokens = layer(tokens)
        outputs: Tensor = self.head(self.norm(tokens).flatten(start_dim=1))
        return outputs


def _sines(tokens: int, width: int) -> Tensor:
    """Return positions as sines and cosines (Vaswani et al., NeurIPS 2017), shape [t, w]."""
    rates = torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
    angles = torch.arange(tokens)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(start_dim=1)[:, :width]


def build_patches(config: PatchesConfig, order: Order) -> Workload:
    """Build a transformer on patches.

    Raises:
        ModelError: if patches do not fill a window, or are so many that attention fills memory.
    """
    schema = cast(SeriesConfig, order.task)
    if schema.lookback % config.patch:
        raise ModelError(
            f"backbone.patch={config.patch}: task.lookback={schema.lookback} is no multiple of it;"
            " change one."
        )
    tokens = schema.lookback // config.patch
    if config.heads * tokens**2 > _MOST_WEIGHTS:
        raise ModelError(
            f"backbone.patch={config.patch}, backbone.heads={config.heads}: {tokens} patches of"
            f" task.lookback={schema.lookback} have {config.heads * tokens**2:,} weights of"
            f" attention a record, more than {_MOST_WEIGHTS:,}; take longer patches."
        )
    task = cast(TableTask, order.task_fn({}))
    model = PatchTransformer(
        config,
        steps=schema.lookback,
        readings=len(schema.readings),
        outputs=schema.num_outputs,
    ).to(order.compute.device)
    return Workload(task, model, task.encode, task.synthetic, order.compute)


__all__ = ["PatchTransformer", "build_patches"]
