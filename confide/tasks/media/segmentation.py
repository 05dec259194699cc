"""Pictures with a mask each, both of one size."""

import json
from collections.abc import Mapping, Sequence

import numpy
import torch
from datasets import Dataset
from torch import Tensor

from confide.config.outcomes.mask import MaskConfig
from confide.config.tasks.media.segmentation import SegmentationConfig
from confide.held import parse_held
from confide.pictures.masks import Masks
from confide.pictures.opening import Pictures
from confide.pictures.processor import PictureProcessor
from confide.tasks.media.image_classification import FIX, PIXELS, ImageClassification
from confide.tasks.media.room import room
from confide.tasks.outcomes.mask import Mask, run_lengths
from confide.tasks.task import LABELS, Batch, Examples


class Segmentation(ImageClassification):
    """Pictures in, a class for every pixel out.

    Args:
        config: columns, size, classes.
    """

    def __init__(self, config: SegmentationConfig) -> None:
        # The size is the schema's: no backbone of it has one of its own.
        super().__init__(config, processor=PictureProcessor())
        assert isinstance(config.outcome, MaskConfig)
        self._mask_outcome = Mask(config.outcome, config.labelling)
        self._masks, self._side = config.masks, config.size or 1
        self._names = config.outcome.labels

    def encode(self, records: Dataset) -> Examples:
        """Decode and resize: ``pixel_values`` [n, c, h, w] and ``labels`` [n, h, w], uint8.

        Raises:
            DataError: naming every problem: a missing column, pictures or masks that cannot be
                read, a mask that is not as large as its picture.
        """
        self.read(records)
        opened, masks = Pictures(self._config.files), Masks(self._masks)
        sides, columns = (self._side, self._side), (self._config.image_column, self._masks.column)
        pixels = room(len(records), (self._config.channels, *sides), torch.uint8, fix=FIX)
        labels = room(len(records), sides, torch.uint8, fix=FIX)
        for index, cells in enumerate(zip(*(records[name] for name in columns), strict=True)):
            picture, mask = map(parse_held, cells)
            assert picture is not None  # reading has looked
            assert mask is not None
            shown = opened.pixels(picture)
            classes = masks.classes(mask, self._side, like=shown.shape[:2])
            resized = self._processor.resized(shown, self._side)
            pixels[index] = torch.from_numpy(numpy.array(resized))
            labels[index] = torch.from_numpy(classes)
        return Examples({PIXELS: pixels, LABELS: labels})

    def tally(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return what each record adds, shape [b, w], float64."""
        return self._mask_outcome.tally(outputs, batch[LABELS])

    def predictions(self, outputs: Tensor, batch: Batch) -> Mapping[str, Sequence[object]]:
        """Return each picture's mask as run lengths in JSON, at the size that the model has."""
        told = outputs.argmax(dim=1).numpy().astype(numpy.uint8)
        return {"prediction": [self._written(classes) for classes in told]}

    def _written(self, classes: numpy.ndarray) -> str:
        runs = run_lengths(classes)
        named = {self._names[int(number)]: run for number, run in runs.items()}
        return json.dumps({"size": list(classes.shape), "runs": named})


__all__ = ["Segmentation"]
