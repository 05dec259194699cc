"""A short folder for sockets."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for an address, which pytest's own may not be."""
    path = Path(tempfile.mkdtemp(prefix="confide-"))
    yield path
    shutil.rmtree(path)
