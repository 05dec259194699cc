"""What a network sees of a record: what its last layer is given, one vector a record.

Of a head on frozen features these are the features; of an encoder that is tuned, what it hands to
its head; of a linear model, the encoded row.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from confide.tasks.task import Batch

_MASK = "attention_mask"
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


class LastInputs:
    """What the last layer of the newest forward pass was given."""

    def __init__(self) -> None:
        self._newest: Tensor | None = None
        self._channels_first = False

    def take(self, layer: nn.Module, inputs: tuple[object, ...]) -> None:
        """Take what a layer is given, before it computes."""
        given = inputs[0] if inputs else None
        if isinstance(given, Tensor) and given.is_floating_point():
            self._newest, self._channels_first = given.detach(), not isinstance(layer, nn.Linear)

    def vectors(self, batch: Batch) -> Tensor | None:
        """Return one vector a record of the batch that was passed, shape [b, d]; None for none.

        Of tokens and pixels the mean, of tokens that are masked none.
        """
        given, size = self._newest, len(next(iter(batch.values())))
        if given is None or given.dim() < 2 or given.shape[0] != size:
            return None
        made = given.float().cpu()
        if self._channels_first:
            return made.flatten(start_dim=2).mean(dim=2) if made.dim() > 2 else made
        mask = batch.get(_MASK)
        if made.dim() == 3 and mask is not None and mask.shape == made.shape[:2]:
            weights = mask.float().cpu()[:, :, None]
            return (made * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return made.flatten(start_dim=1, end_dim=-2).mean(dim=1) if made.dim() > 2 else made


@contextlib.contextmanager
def watched(network: nn.Module | None) -> Iterator[LastInputs]:
    """Watch a network's forward passes.

    Args:
        network: None for none, of which nothing is seen.
    """
    seen = LastInputs()
    layers = [] if network is None else [it for it in network.modules() if isinstance(it, _LAYERS)]
    handles = [layer.register_forward_pre_hook(seen.take) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def concatenated(parts: list[Tensor | None], order: Tensor) -> Tensor:
    """Return the vectors of all records in their order, [n, d]; of width 0 where any is missing."""
    there = [part for part in parts if part is not None]
    if len(there) < len(parts) or len({part.shape[1] for part in there}) != 1:
        return torch.zeros((len(order), 0))
    return torch.cat(there)[order]


__all__ = ["LastInputs", "concatenated", "watched"]
