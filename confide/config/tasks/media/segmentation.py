"""Pictures with a class for every pixel."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from confide.config.fields import setting
from confide.config.outcomes.mask import MaskConfig
from confide.config.tasks.media.image_classification import ImageClassificationConfig
from confide.config.tasks.media.masks import MaskReading
from confide.config.tasks.media.pictures import PictureReading


@dataclass
class SegmentationConfig(ImageClassificationConfig):
    """A mask for one picture; both are resized to the same square."""

    kind: str = setting("segmentation", "Kind of task.", choices=("segmentation",))

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from super().problems()
        if self.views > 1:
            yield (
                f"views={self.views}: a mask would have to move with each view of its picture,"
                " which is not offered; set views=1."
            )
        if self.size is None:
            yield "size=null: a mask and its picture need a size; set it, such as 64."

    @property
    def masks(self) -> MaskReading:
        """How masks are read."""
        if not isinstance(self.outcome, MaskConfig):  # told as a problem of the outcome
            return MaskReading(column="mask")
        return MaskReading(column=self.outcome.column, levels=self.outcome.levels)

    @property
    def files(self) -> PictureReading:
        """How pictures and, beside them, masks are read."""
        reading: PictureReading = replace(super().files, beside=self.masks)
        return reading


__all__ = ["SegmentationConfig"]
