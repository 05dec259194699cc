"""Files that are whole or not there: a temporary file, fsync, rename, fsync of the folder."""

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from confide.errors import StorageError


def replace_file(path: Path, write: Callable[[Path], None], *, mode: int = 0o644) -> None:
    """Write a file whole or not at all; what stood there before stands until the new one is on the disk.

    Args:
        path: what is written or replaced.
        write: fills the temporary file it is given.
        mode: permissions of the file.

    Raises:
        StorageError: if it cannot be written, with the file and the reason.
    """
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        os.close(handle)
        write(Path(temporary))
        _sync(temporary)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
        _sync(path.parent)
    except (OSError, SafetensorError) as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise StorageError(
            f"{path} cannot be written: {error}. Free space or mend the folder; what stood there stands."
        ) from None


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all; a number that is not finite becomes null, which JSON has.

    Raises:
        StorageError: if it cannot be written.
    """
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises:
        StorageError: if it cannot be written.
    """

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    replace_file(path, write)


def _sync(path: str | Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


__all__ = ["replace_file", "write_json", "write_text"]
