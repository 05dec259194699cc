"""Pictures with one outcome each."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.outcomes.outcome import DEFAULT_OUTCOME
from confide.config.tasks.media.augmentation import Augmentation
from confide.config.tasks.media.pictures import PictureReading
from confide.config.tasks.task import TaskConfig

IMAGE_COLUMN = "image"


@dataclass
class ImageClassificationConfig(TaskConfig):
    """One outcome for one picture."""

    kind: str = setting("image_classification", "Kind of task.", choices=("image_classification",))
    image_column: str = setting(
        IMAGE_COLUMN,
        "Column that holds the picture: a path, starting at the table's folder, or the bytes of a"
        " file. In a folder of pictures, and of a .npz, what the pictures are called.",
    )
    size: int | None = setting(
        None,
        "Side in pixels that a whole picture is resized to, whatever its proportions; null: as the"
        " backbone's preprocessor_config.json says, which may cut edges off.",
        ge=8,
        le=1024,
    )
    channels: int = setting(
        3, "1 for grey pictures, 3 for colour; others are converted.", ge=1, le=3
    )
    minimum: float | None = setting(
        None,
        "Value that becomes black in pictures of more than 8 bits (16 bits, floats, DICOM), in"
        " their own unit, such as -1000 Hounsfield; null: such pictures are refused.",
    )
    maximum: float | None = setting(None, "Value that becomes white in them.")
    own_window: bool = setting(
        False,
        "Whether a DICOM file's own window (WindowCenter, WindowWidth) goes before minimum and"
        " maximum; it may follow from the picture, so that pictures are no longer comparable.",
    )
    background: int = setting(
        255, "Grey that shows where a picture is transparent, 0 to 255.", ge=0, le=255
    )

    views: int = setting(
        1,
        "Views of each picture in a training step, over which its loss is the mean, at no cost in"
        " privacy; 1: the picture itself.",
        ge=1,
        le=64,
    )
    flip: bool = setting(
        True,
        "With views: whether half of them are mirrored, left to right; false for digits, text and"
        " whatever has a left and a right.",
    )
    shift: float = setting(
        0.125,
        "With views: furthest that one is moved, as a part of a side; edges are reflected.",
        ge=0,
        le=0.5,
    )
    mixup: float = setting(
        0.0,
        "With views: each is mixed with another of the same picture, in shares by Beta(mixup,"
        " mixup), such as 0.2; 0: not mixed.",
        ge=0,
        le=10,
    )

    @property
    def content_columns(self) -> tuple[str, ...]:
        """The picture, by its pixels."""
        return (self.image_column,)

    @property
    def files(self) -> PictureReading:
        """How pictures are read."""
        by_class = self.outcome.kind == DEFAULT_OUTCOME
        return PictureReading(
            column=self.image_column,
            channels=self.channels,
            minimum=self.minimum,
            maximum=self.maximum,
            own_window=self.own_window,
            background=self.background,
            label_column=self.label_column if by_class else "",
            classes=(*self.label_values, *self.labels) if by_class else (),
        )

    @property
    def augmentation(self) -> Augmentation | None:
        """How views of a picture are made, where there are several."""
        if self.views == 1:
            return None
        return Augmentation(views=self.views, flip=self.flip, shift=self.shift, mixup=self.mixup)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from TaskConfig.problems(self)
        if self.channels == 2:
            yield "channels=2: expected 1 for grey or 3 for colour."
        low, high = self.minimum, self.maximum
        if (low is None) != (high is None):
            yield f"minimum={low}, maximum={high}: give both, or neither."
        if low is not None and high is not None and not low < high:
            yield f"minimum={low} is not below maximum={high}; correct them."
        if self.views > 1 and not self.flip and not self.shift:
            yield (
                f"views={self.views}, flip=false, shift=0: all views of a picture would be the"
                " same; set shift, such as 0.125, or views=1."
            )
        if self.mixup and self.views == 1:
            yield f"mixup={self.mixup:g} mixes views, and views=1; set views, such as 4."
        if self.image_column in self.target_columns:
            yield f"image_column={self.image_column} is the label; name the column of pictures."


__all__ = ["IMAGE_COLUMN", "ImageClassificationConfig"]
