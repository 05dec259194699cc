"""Invented pictures, for checks that need no real ones."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy
from PIL import Image

from confide.config.tasks.media.segmentation import SegmentationConfig
from confide.held import BYTES, embedded
from confide.pictures.masks import Masks
from confide.pictures.opening import Pictures

_SIDES = (8, 49)


def pictures(
    config: Any, count: int, generator: numpy.random.Generator
) -> Mapping[str, Sequence[object]]:
    """Invent files of unlike sizes, some grey, each a smooth picture with noise.

    Args:
        config: a schema with ``pictures``.
        count: how many.
        generator: draws them.
    """
    opened = Pictures(config.files)
    made = [opened.look(BYTES, embedded(_file(generator))).text for _ in range(count)]
    return {config.files.column: made}


def pictures_with_masks(
    config: SegmentationConfig, count: int, generator: numpy.random.Generator
) -> Mapping[str, Sequence[object]]:
    """Invent pictures and masks as large, of a few blobs of each class."""
    shown, opened = Pictures(config.files), Masks(config.masks)
    levels = numpy.array(config.masks.levels, numpy.uint8)
    rows: dict[str, list[object]] = {config.files.column: [], config.masks.column: []}
    for _ in range(count):
        file = _file(generator)
        coarse = Image.fromarray(levels[generator.integers(0, len(levels), (4, 4))])
        written = io.BytesIO()
        with Image.open(io.BytesIO(file)) as picture:
            coarse.resize(picture.size, Image.Resampling.NEAREST).save(written, "PNG")
        rows[config.files.column].append(shown.look(BYTES, embedded(file)).text)
        rows[config.masks.column].append(opened.look(BYTES, embedded(written.getvalue())).text)
    return rows


def _file(generator: numpy.random.Generator) -> bytes:
    height, width = generator.integers(*_SIDES, size=2)
    coarse = Image.fromarray(generator.integers(0, 256, (3, 3, 3), dtype=numpy.uint8))
    smooth = numpy.asarray(coarse.resize((int(width), int(height))), dtype=numpy.float64)
    noisy = smooth + generator.normal(0, 16, smooth.shape)
    image = Image.fromarray(noisy.clip(0, 255).astype(numpy.uint8))
    written = io.BytesIO()
    # Now and then a grey one: it becomes what the schema takes
    (image.convert("L") if generator.random() < 0.2 else image).save(written, "PNG")
    return written.getvalue()


__all__ = ["pictures", "pictures_with_masks"]
