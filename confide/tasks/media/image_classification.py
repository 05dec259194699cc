"""Pictures, as pixels of 8 bits of one size."""

import numpy
import torch
from datasets import Dataset
from torch import Tensor

from confide.config.tasks.media.image_classification import ImageClassificationConfig
from confide.config.tasks.media.pictures import PIXELS
from confide.held import parse_held
from confide.pictures.opening import Pictures
from confide.pictures.processor import PictureProcessor
from confide.tasks.labelled import Labelled
from confide.tasks.media.room import room
from confide.tasks.task import LABELS, Examples

FIX = "lower task.size, or bring fewer records"


class ImageClassification(Labelled):
    """Pictures in, the outcome's outputs out.

    A model scales values itself: 8 bits a value are a quarter of the memory of what it takes.

    Args:
        config: column, size, range of values.
        processor: resizes pictures as the backbone takes them.

    Raises:
        ModelError: if the schema has no size, and the backbone none for all pictures.
    """

    def __init__(self, config: ImageClassificationConfig, *, processor: PictureProcessor) -> None:
        super().__init__(config)
        self._config, self._processor = config, processor
        if config.size is None:
            processor.refuse_unlike_sizes()

    def encode(self, records: Dataset) -> Examples:
        """Decode and resize: ``pixel_values`` of shape [n, c, h, w], uint8.

        Raises:
            DataError: naming every problem: a missing column, pictures that cannot be read, labels
                that are unknown.
        """
        _, labels = self.read(records)
        opened = Pictures(self._config.files)
        pixels: Tensor | None = None
        for index, cell in enumerate(records[self._config.image_column]):
            picture = parse_held(cell)
            assert picture is not None  # read() has looked
            made = self._processor.resized(opened.pixels(picture), self._config.size)
            if pixels is None:
                pixels = room(len(records), made.shape, torch.uint8, fix=FIX)
            pixels[index] = torch.from_numpy(numpy.array(made))
        if pixels is None:
            side = self._config.size or 1
            pixels = torch.empty((0, self._config.channels, side, side), dtype=torch.uint8)
        return Examples({PIXELS: pixels, LABELS: labels})


def scaled(pixels: Tensor, processor: PictureProcessor, *, channels: int = 3) -> Tensor:
    """Turn pixels [b, c, h, w] of 8 bits into what a model takes, float32 [b, channels, h, w]."""
    grey = channels == 1
    mean, deviation = (
        torch.tensor(values[:1] if grey else values, device=pixels.device).view(1, -1, 1, 1)
        for values in (processor.mean, processor.deviation)
    )
    values: Tensor = (pixels.float() * processor.scale - mean) / deviation
    return values.expand(-1, channels, -1, -1)


__all__ = ["FIX", "PIXELS", "ImageClassification", "scaled"]
