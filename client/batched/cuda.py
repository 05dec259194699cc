"""A cohort's rounds on an accelerator: how many clients at once, copies, and recorded kernels.

What is computed is what `confide.client.batched.cohort` computes on a CPU. The differences are all
here: chunks are as large as free memory allows, tensors are copied from pinned memory while earlier
kernels run, nothing in a step waits for the accelerator, and sequences of kernels whose shapes come
again are recorded once as a CUDA graph and then replayed, which costs one launch instead of some
forty.

Noise and samples are drawn on the CPU, by each institution's own cipher: CUDA's own generator
(Philox) is none. While the accelerator computes a step, the CPU draws the next one.

Norms and clipped sums are float64 on an accelerator too, whatever precision products have: the
margin that clipping keeps below C covers float64 rounding, and would have to grow by 2^29 for
float32. What is in bf16 are a pass's activations and products alone.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from confide.moved import moved

log = logging.getLogger(__name__)

Kernels = Callable[..., tuple[Tensor, ...]]
"""A function of tensors alone, of fixed shapes, that neither waits nor decides by values."""

WARM_UP = 3
"""Calls of some shapes before they are recorded: libraries choose kernels and take memory in
these."""
# Of free memory, which passes share with what they leave behind.
_SHARE = 0.5
# A number of a chunk is a float64 at most.
_BYTES = 8
# Recorded sequences at most: each holds memory.
_MOST_RECORDED = 32


@dataclass(frozen=True, eq=False)
class _Recorded:
    """A sequence of kernels that was recorded.

    Attributes:
        graph: replays them.
        inputs: memory that they read.
        outputs: memory that they write.
    """

    graph: torch.cuda.CUDAGraph
    inputs: Sequence[Tensor]
    outputs: tuple[Tensor, ...]

    def replay(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        for mine, given in zip(self.inputs, inputs, strict=True):
            if mine is not given:
                mine.copy_(given, non_blocking=True)
        self.graph.replay()
        return self.outputs


class Card:
    """An accelerator that a cohort is computed on.

    Args:
        device: the accelerator. A CPU stands in for one in tests: the same code, and no graphs.
        records: whether sequences of kernels are recorded.
    """

    def __init__(self, device: torch.device, *, records: bool = True) -> None:
        self.device = device
        self._records = records and device.type == "cuda"
        self._seen: Counter[tuple[object, ...]] = Counter()
        self._recorded: dict[tuple[object, ...], _Recorded] = {}
        # Outputs of recorded sequences, which others read where they are.
        self._own: dict[int, Tensor] = {}

    @property
    def num_recorded(self) -> int:
        """How many sequences of kernels are recorded."""
        return len(self._recorded)

    def room(self, free: int | None = None) -> int:
        """Return how many numbers a chunk may have.

        Args:
            free: free memory, in bytes; None to ask the accelerator.
        """
        return max(1, int(_SHARE * (_free(self.device) if free is None else free)) // _BYTES)

    def put(self, tensor: Tensor) -> Tensor:
        """Copy a tensor to the accelerator without waiting for it."""
        return moved(tensor, self.device)

    def run(self, name: object, kernels: Kernels, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run a sequence of kernels, recorded once its shapes came a few times.

        Args:
            name: of what is computed, with every number in it that is no input.
            kernels: the sequence.
            inputs: on the accelerator.

        Returns:
            What it returns, in memory that the next call with these shapes writes to.
        """
        if not self._records:
            return kernels(*inputs)
        own = [self._own.get(id(it)) is it for it in inputs]
        key = (
            name,
            *(
                (it.shape, it.stride(), it.dtype, id(it) if mine else None)
                for it, mine in zip(inputs, own, strict=True)
            ),
        )
        recorded = self._recorded.get(key)
        if recorded is None:
            self._seen[key] += 1
            if self._seen[key] <= WARM_UP or len(self._recorded) >= _MOST_RECORDED:
                return kernels(*inputs)
            static = [it if mine else it.clone() for it, mine in zip(inputs, own, strict=True)]
            recorded = self._record(kernels, static)
            if recorded is None:
                return kernels(*inputs)
            self._recorded[key] = recorded
            self._own |= {id(it): it for it in recorded.outputs}
        return recorded.replay(inputs)

    def _record(self, kernels: Kernels, static: Sequence[Tensor]) -> _Recorded | None:
        """Record kernels; None where they wait for the accelerator, which no graph can."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                outputs = kernels(*static)
        except RuntimeError as error:
            log.warning("Steps are not recorded as CUDA graphs: %s", error)
            self._records = False
            return None
        return _Recorded(graph, static, outputs)


def card_of(device: torch.device) -> Card | None:
    """Return the accelerator that a cohort is computed on; None for a CPU."""
    return Card(device) if device.type == "cuda" else None


def _free(device: torch.device) -> int:
    """Return the bytes that may be taken, with those that torch holds and does not use."""
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + kept


__all__ = ["WARM_UP", "Card", "card_of"]
