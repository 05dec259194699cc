"""Copies to a device, and looks at one, that nobody waits for.

A step on an accelerator is a queue of kernels. Whatever asks it for a number, or copies from memory
that the system may page out, waits until the queue is empty, and the accelerator is idle until
Python has filled it again.
"""

import torch
from torch import Tensor


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device without waiting for it; what is there already is not copied.

    Args:
        tensor: of any shape. To a CUDA device it goes by way of pinned memory, which torch keeps
            until the copy is done.
        device: where it is wanted.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)


def known_all(truths: Tensor) -> bool:
    """Tell whether all are true, where that can be known without waiting: on a CPU.

    Elsewhere the answer is no, and the caller does what it does where some are false.
    """
    return truths.device.type == "cpu" and bool(truths.all())


__all__ = ["known_all", "moved"]
