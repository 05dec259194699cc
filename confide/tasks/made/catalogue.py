"""A public catalogue: the items that may be recommended, their texts and vectors of these."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """N items, the same for all institutions.

    Attributes:
        ids: canonical spelling of each id.
        texts: what each is called.
        vectors: of the texts, by a frozen encoder, centred; float32 of shape [N, d].
    """

    ids: Sequence[str]
    texts: Sequence[str]
    vectors: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def places(self) -> dict[str, int]:
        """Id -> place, from 1: 0 is for what the catalogue lacks."""
        return {name: place for place, name in enumerate(self.ids, start=1)}

    @functools.cached_property
    def padded(self) -> Tensor:
        """Vectors by place, shape [N + 1, d]: zeros at 0."""
        return torch.cat([torch.zeros_like(self.vectors[:1]), self.vectors])


__all__ = ["Catalogue"]
