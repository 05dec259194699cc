"""Views of a picture: what of its augmentation a task's schema says."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How several views are made of each record of a step.

    Attributes:
        views: number of views of a record, 2 to 64.
        flip: whether half of the views are mirrored, left to right.
        shift: furthest that a view is moved, as a part of a side, 0 to 0.5; what comes in at an
            edge is the picture, reflected.
        mixup: alpha of the Beta distribution (alpha, alpha) of the share that one view has in a
            mixture with another of the same record; 0 for no mixture.
    """

    views: int
    flip: bool
    shift: float
    mixup: float


__all__ = ["Augmentation"]
