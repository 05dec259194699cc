"""Units of what has two axes: patches of a picture, of a spectrogram, of a window of readings."""

import torch
from torch import Tensor


def patches(height: int, width: int, *, rows: int, columns: int) -> tuple[Tensor, int, int]:
    """Divide h x w places into patches as equal as they can be.

    Args:
        height: h.
        width: w.
        rows: most patches from top to bottom.
        columns: most patches from left to right.

    Returns:
        The patch of each place, int64 of shape [h, w], row by row, and how many rows and columns
        of patches there are.
    """
    rows, columns = min(rows, height), min(columns, width)
    down = torch.arange(height) * rows // height
    across = torch.arange(width) * columns // width
    return down[:, None] * columns + across, rows, columns


def span(part: int, parts: int, size: int) -> tuple[int, int]:
    """Return the first place of a part, and the one after its last, where ``patches`` divides."""
    places = [place for place in range(size) if place * parts // size == part]
    return places[0], places[-1] + 1


__all__ = ["patches", "span"]
