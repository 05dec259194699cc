"""Pictures that tests draw, in every form that files have them."""

import io
from pathlib import Path
from typing import Any

import numpy
from PIL import Image

from confide.config.tasks.media.image_classification import ImageClassificationConfig
from confide.config.tasks.media.pictures import PictureReading
from confide.held import BYTES, embedded
from confide.pictures.opening import Pictures

GREY = PictureReading(column="image", channels=1)
COLOUR = PictureReading(column="image", channels=3)


def build_pictures(**fields: Any) -> ImageClassificationConfig:
    """Build a task on grey pictures of 8 pixels, label dark or light."""
    return ImageClassificationConfig(
        **{"labels": ["dark", "light"], "size": 8, "channels": 1, **fields}
    )


def drawn(seed: int = 0, shape: tuple[int, ...] = (8, 9)) -> numpy.ndarray:
    """Draw values of 8 bits."""
    return numpy.random.default_rng(seed).integers(0, 256, shape, dtype=numpy.uint8)


def file_of(values: numpy.ndarray | Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """Write a file."""
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    written = io.BytesIO()
    image.save(written, form, **options)
    return written.getvalue()


def cell(values: numpy.ndarray | bytes, reading: PictureReading = GREY) -> str:
    """Return a picture as records hold it."""
    data = values if isinstance(values, bytes) else file_of(values)
    return Pictures(reading).look(BYTES, embedded(data)).text


def lights(count: int, seed: int = 0) -> tuple[list[numpy.ndarray], list[str]]:
    """Draw pictures, half of them dark and half light."""
    generator = numpy.random.default_rng(seed)
    made, labels = [], []
    for number in range(count):
        light = number % 2
        values = generator.normal(80 + 96 * light, 40, (10, 8)).clip(0, 255)
        made.append(values.astype(numpy.uint8))
        labels.append("light" if light else "dark")
    return made, labels


def write_folder(folder: Path, count: int = 24, seed: int = 0) -> Path:
    """Write CLASS/FILE."""
    for number, (values, label) in enumerate(zip(*lights(count, seed), strict=True)):
        place = folder / label / f"{number:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file_of(values))
    return folder
