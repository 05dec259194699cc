"""Files of named tensors: safetensors, with a checksum over names, shapes and values.

What is written is on the disk whole or not at all; what is read is what was written, or an error.
The checksum of a file stands in its own metadata or, where something else vouches for the file (a
ledger's event, a model's description), there alone.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from confide.errors import UnreadableError
from confide.storage.files import replace_file

_CHECKSUM = "checksum"


@dataclass(frozen=True, eq=False)
class TensorFile:
    """The contents of one file.

    Attributes:
        tensors: by name, on the CPU; the order is not kept.
        metadata: texts beside them.
    """

    tensors: dict[str, Tensor]
    metadata: Mapping[str, str]


def sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hash names, shapes and values, independent of order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, str] | None = None,
    mode: int = 0o600,
) -> None:
    """Write a file without a checksum, whole or not at all.

    Args:
        path: the file, written or replaced.
        tensors: by name.
        metadata: texts to keep beside them; None for none.
        mode: permissions of the file.

    Raises:
        StorageError: if it cannot be written; what stood there stands.
    """
    # save_file refuses views; the values are the same.
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    texts = dict(metadata) if metadata is not None else None
    replace_file(path, lambda temporary: save_file(whole, temporary, metadata=texts), mode=mode)


def write_checked(
    path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a file with its checksum, readable by its owner alone, whole or not at all.

    Raises:
        StorageError: if it cannot be written; what stood there stands.
    """
    write_tensors(path, tensors, metadata={**(metadata or {}), _CHECKSUM: sha256(tensors)})


def read_tensors(path: Path) -> TensorFile:
    """Read a file, without a look at its checksum.

    Raises:
        UnreadableError: if it is not there, torn or no such file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
            metadata = file.metadata() or {}
    except (OSError, SafetensorError, ValueError) as error:
        raise UnreadableError(f"{path} cannot be read: {type(error).__name__}: {error}.") from None
    return TensorFile(tensors, metadata)


def read_checked(path: Path) -> TensorFile:
    """Read a file that :func:`write_checked` wrote.

    Raises:
        UnreadableError: if it cannot be read, or is not what was written.
    """
    read = read_tensors(path)
    if read.metadata.get(_CHECKSUM) != sha256(read.tensors):
        raise UnreadableError(f"{path} cannot be read: its checksum does not fit.")
    return read


__all__ = [
    "TensorFile",
    "read_checked",
    "read_tensors",
    "sha256",
    "write_checked",
    "write_tensors",
]
