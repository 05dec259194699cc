"""What a policy looks at before an update leaves: its dtypes and its norm."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from confide.protocol.tensors import Tensors


@dataclass(frozen=True)
class UpdateMeasures:
    """Measures of one update and of what an algorithm sends beside it.

    Attributes:
        dtypes: names of its tensors' dtypes, sorted.
        norm: L2 norm of all its values, added up in float64; not finite where a value is not.
    """

    dtypes: Sequence[str]
    norm: float

    @property
    def is_finite(self) -> bool:
        """Whether every value is finite, and their norm is."""
        return math.isfinite(self.norm)


def measure(update: Tensors) -> UpdateMeasures:
    """Measure an update."""
    flat = torch.cat([tensor.reshape(-1) for tensor in update.values()])
    norm = torch.linalg.vector_norm(flat, dtype=torch.float64)
    return UpdateMeasures(_dtypes(list(update.values())), float(norm))


def measure_rows(rows: Tensor) -> list[UpdateMeasures]:
    """Measure many updates at once, each as :func:`measure` does, bit for bit.

    Args:
        rows: values of each, in the order of its tensors, shape [m, d].
    """
    dtypes = _dtypes([rows])
    norms = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return [UpdateMeasures(dtypes, norm) for norm in norms.tolist()]


def _dtypes(tensors: Sequence[Tensor]) -> Sequence[str]:
    return sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors})


__all__ = ["UpdateMeasures", "measure", "measure_rows"]
