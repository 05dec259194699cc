"""Memory that processes share.

An unnamed file, gone with the last process that holds it, however that ends.
"""

import math
import mmap
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from typing import Any, Protocol

import torch
from torch import Tensor

from confide.client.records.encoded import InstitutionData
from confide.protocol.messages import OLD
from confide.tasks.task import Examples

_ALIGNMENT = 64


class Block(Protocol):
    """Memory of a fixed size, in bytes."""

    def tensor(self, dtype: torch.dtype, shape: tuple[int, ...], offset: int = 0) -> Tensor:
        """View a part as a tensor; ``offset`` is in bytes, a multiple of the dtype's size."""


class SharedBlock:
    """A block of memory that survives pickling into a child process, where it is the same memory.

    Args:
        size: in bytes.
        handle: an open file of that size; None for a new one, filled with zeros.
    """

    def __init__(self, size: int, handle: int | None = None) -> None:
        self.size = size
        self._handle = _unnamed_file(size) if handle is None else handle
        self._map = mmap.mmap(self._handle, max(1, size))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pass the open file on.

        Works while a child process is being started, as multiprocessing's own locks do.
        """
        return _open_block, (self.size, DupFd(self._handle))

    def __del__(self) -> None:
        """Close the file; tensors keep the memory itself alive."""
        os.close(self._handle)

    def tensor(self, dtype: torch.dtype, shape: tuple[int, ...], offset: int = 0) -> Tensor:
        """View a part as a tensor; writing to it writes to every process's memory.

        Args:
            dtype: of the tensor.
            shape: of the tensor.
            offset: where it begins, in bytes, a multiple of the dtype's size.
        """
        count = math.prod(shape)
        if not count:  # torch refuses an empty buffer
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(self._map, dtype=dtype, count=count, offset=offset).view(shape)


def _unnamed_file(size: int) -> int:
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("confide", os.MFD_CLOEXEC)
    else:  # macOS
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    os.ftruncate(handle, max(1, size))  # mmap refuses an empty file
    return handle


def _open_block(size: int, handle: Any) -> SharedBlock:
    # A DupFd arrives; multiprocessing has no public type for it
    return SharedBlock(size, handle.detach())


@dataclass(frozen=True, kw_only=True)
class _Place:
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True, kw_only=True)
class _ExamplesPlaces:
    columns: Mapping[str, _Place]
    lengths: _Place | None
    ragged: Mapping[str, int]


class SharedRecords:
    """The encoded records of institutions in one block, which workers view without a copy.

    Args:
        data: by institution; on the CPU.
        block_fn: size in bytes -> memory, with which the records can be sent to workers.
    """

    def __init__(
        self,
        data: Mapping[str, InstitutionData],
        block_fn: Callable[[int], Block] = SharedBlock,
    ) -> None:
        # Places first, then one block of that size: what is mapped cannot grow
        self._end = 0
        tensors: list[tuple[_Place, Tensor]] = []
        self._places = {
            name: {split: self._place(part.split(split), tensors) for split in part.parts}
            for name, part in data.items()
        }
        self._groups = {
            name: None if part.groups is None else self._reserve(part.groups, tensors)
            for name, part in data.items()
        }
        self._held_out_groups = {
            name: {
                split: self._reserve(groups, tensors)
                for split, groups in part.held_out_groups.items()
            }
            for name, part in data.items()
        }
        self._test_subgroups = {
            name: None
            if part.test_subgroups is None
            else self._reserve(part.test_subgroups, tensors)
            for name, part in data.items()
        }
        self._group_columns = {name: part.group_column for name, part in data.items()}
        self._block = block_fn(self._end)
        for place, tensor in tensors:
            self._view(place).copy_(tensor)

    @property
    def names(self) -> list[str]:
        """The institutions."""
        return list(self._places)

    def __getitem__(self, name: str) -> InstitutionData:
        """Return an institution's records as views into the block."""
        groups, subgroups = self._groups[name], self._test_subgroups[name]
        splits = {
            split: Examples(
                {column: self._view(place) for column, place in places.columns.items()},
                None if places.lengths is None else self._view(places.lengths),
                places.ragged,
            )
            for split, places in self._places[name].items()
        }
        return InstitutionData(
            train=splits["train"],
            validation=splits["validation"],
            test=splits["test"],
            old=splits.get(OLD),
            groups=None if groups is None else self._view(groups),
            held_out_groups={
                split: self._view(place) for split, place in self._held_out_groups[name].items()
            },
            group_column=self._group_columns[name],
            test_subgroups=None if subgroups is None else self._view(subgroups),
        )

    def _place(self, examples: Examples, tensors: list[tuple[_Place, Tensor]]) -> _ExamplesPlaces:
        return _ExamplesPlaces(
            columns={
                name: self._reserve(column, tensors) for name, column in examples.columns.items()
            },
            lengths=None if examples.lengths is None else self._reserve(examples.lengths, tensors),
            ragged=examples.ragged,
        )

    def _reserve(self, tensor: Tensor, tensors: list[tuple[_Place, Tensor]]) -> _Place:
        found = _Place(dtype=tensor.dtype, shape=tuple(tensor.shape), offset=self._end)
        size = tensor.numel() * tensor.element_size()
        self._end += math.ceil(size / _ALIGNMENT) * _ALIGNMENT
        tensors.append((found, tensor))
        return found

    def _view(self, place: _Place) -> Tensor:
        return self._block.tensor(place.dtype, place.shape, place.offset)


__all__ = ["Block", "SharedBlock", "SharedRecords"]
