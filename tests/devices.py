"""Devices that tests run on: this machine's CPU always, a CUDA device where there is one.

`make gpu` runs those of the second kind.
"""

import contextlib
from collections.abc import Iterator

import pytest
import torch

devices = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(
                    not torch.cuda.is_available(), reason="torch sees no CUDA device here"
                ),
            ],
        ),
    ],
)


@contextlib.contextmanager
def without_waiting(device: str) -> Iterator[None]:
    """Fail where a CUDA device is waited for; on a CPU there is nothing to wait for."""
    if device != "cuda":
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
