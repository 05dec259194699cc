"""Files of named tensors: what comes back is what was written, or an error."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from confide.errors import StorageError, UnreadableError
from confide.storage.tensor_files import (
    read_checked,
    read_tensors,
    sha256,
    write_checked,
    write_tensors,
)

TENSORS = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([-0.0, 1e-45])}


def test_tensors_and_metadata_come_back_to_the_bit(tmp_path: Path) -> None:
    write_checked(tmp_path / "file", TENSORS, metadata={"schema": "1"})
    read = read_checked(tmp_path / "file")
    assert sha256(read.tensors) == sha256(TENSORS)
    assert read.metadata["schema"] == "1"


def test_views_are_written_as_the_values_they_show(tmp_path: Path) -> None:
    write_checked(tmp_path / "file", {"w": TENSORS["w"].T})
    assert read_checked(tmp_path / "file").tensors["w"].equal(TENSORS["w"].T)


def test_checksum_of_a_file_stands_in_its_metadata(tmp_path: Path) -> None:
    """Files of earlier runs are read by this name."""
    write_checked(tmp_path / "file", TENSORS)
    with safe_open(tmp_path / "file", framework="pt") as file:
        assert file.metadata() == {"checksum": sha256(TENSORS)}


def test_file_without_a_checksum_has_no_metadata(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", TENSORS)
    with safe_open(tmp_path / "file", framework="pt") as file:
        assert not file.metadata()
    assert read_tensors(tmp_path / "file").metadata == {}


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_file_has_the_permissions_asked_for(mode: int, tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", TENSORS, mode=mode)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def other_values(path: Path) -> None:
    save_file({**TENSORS, "b": torch.zeros(2)}, path, metadata={"checksum": sha256(TENSORS)})


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no file": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "other values": other_values,
    "no checksum": lambda path: save_file(TENSORS, path),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_file_that_is_not_what_was_written_is_an_error_that_names_it(
    how: str, tmp_path: Path
) -> None:
    write_checked(tmp_path / "file", TENSORS)
    DAMAGES[how](tmp_path / "file")
    with pytest.raises(UnreadableError, match=r"/file cannot be read"):
        read_checked(tmp_path / "file")


def test_file_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere/file cannot be written"):
        write_checked(tmp_path / "nowhere" / "file", TENSORS)
