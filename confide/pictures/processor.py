"""How large a model takes pictures, and how it scales their values: what its folder says.

Resizing is Pillow's, by the class of transformers that needs no torchvision: with the other one
sites where torchvision is installed would resize otherwise than those without. What scales values
is part of the model, so that a picture is held in 8 bits until then.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray
from PIL import Image

from confide.errors import ModelError, words_of
from confide.pictures.decode import Pixels

_FILE = "preprocessor_config.json"
_ENDINGS = ("ImageProcessorFast", "ImageProcessorPil", "ImageProcessor", "FeatureExtractor")
_PLAIN = "ViTImageProcessor"
_PROPORTIONS = ((40, 40), (30, 60), (60, 30))
WIDEST = 1024
"""Largest side in pixels, as of ``task.size``: a folder is the coordinator's choice."""


@dataclass(frozen=True, kw_only=True)
class PictureProcessor:
    """What prepares pictures for a model.

    Attributes:
        scale: value of a pixel, times this, less mean, over deviation, is what the model takes.
        mean: of each of three channels.
        deviation: of each of three channels.
        resample: number of Pillow's filter.
        processor: of transformers, for pictures whose size the schema leaves to it; None where it
            has to say one.
    """

    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    deviation: tuple[float, ...] = (0.5, 0.5, 0.5)
    resample: int = Image.Resampling.BILINEAR.value
    processor: Any = None

    def resized(self, pixels: Pixels, size: int | None) -> NDArray[numpy.uint8]:
        """Resize one picture.

        Args:
            pixels: shape [h, w, c].
            size: side of the result; None: as the processor says.

        Returns:
            Shape [c, h, w].
        """
        grey = pixels.shape[2] == 1
        if size is not None or self.processor is None:
            side = pixels.shape[0] if size is None else size
            image = Image.fromarray(pixels[:, :, 0] if grey else pixels)
            made = numpy.asarray(image.resize((side, side), Image.Resampling(self.resample)))
            return made[None] if grey else made.transpose(2, 0, 1)
        image = Image.fromarray(numpy.repeat(pixels, 3, axis=2) if grey else pixels)
        made = self.processor(
            images=[image], do_rescale=False, do_normalize=False, return_tensors="np"
        )["pixel_values"][0]
        whole: Pixels = numpy.rint(made).clip(0, 255).astype(numpy.uint8)
        return whole[:1] if grey else whole

    def refuse_unlike_sizes(self) -> None:
        """Check that pictures of all proportions become one size, where the schema says none.

        Raises:
            ModelError: if they do not: then a picture's neighbours would decide whether it fits.
        """
        if self.processor is None:
            return
        try:
            sizes = {
                self.resized(numpy.zeros((*sides, 3), numpy.uint8), None).shape[1:]
                for sides in _PROPORTIONS
            }
        except Exception as error:  # what a folder says may be anything
            why = words_of(error)
            raise ModelError(
                f"task.size=null: {_FILE} cannot be used: {why}; set task.size."
            ) from None
        if len(sizes) > 1:
            raise ModelError(
                f"task.size=null: {_FILE} leaves pictures of unlike proportions with unlike sizes;"
                " set task.size, to which every picture is resized."
            )

    def write(self, folder: Path, size: int | None) -> None:
        """Write what transformers loads, with the schema's size if it says one."""
        if self.processor is not None and size is None:
            self.processor.save_pretrained(folder)
            return
        values: dict[str, Any] = {
            "image_processor_type": _PLAIN,
            "do_resize": True,
            "size": {"height": size, "width": size},
            "resample": self.resample,
            "do_rescale": True,
            "rescale_factor": self.scale,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.deviation),
        }
        (folder / _FILE).write_text(json.dumps(values, indent=2) + "\n")


def load_processor(folder: Path) -> PictureProcessor:
    """Load what prepares pictures for the model of a folder.

    Raises:
        ModelError: if the folder does not say, or says what cannot be done.
    """
    try:
        return _loaded(folder)
    except ModelError:
        raise
    except Exception as error:  # values may be anything
        why = words_of(error)
        raise ModelError(
            f"{folder}: {_FILE} cannot be used: {why}; bring it as the backbone's family wrote it."
        ) from None


def _loaded(folder: Path) -> PictureProcessor:
    import transformers

    try:
        values = json.loads((folder / _FILE).read_text())
        named = str(values.get("image_processor_type") or values["feature_extractor_type"])
    except (OSError, ValueError, KeyError):
        raise ModelError(
            f"{folder}: expected {_FILE} with an image_processor_type, which says how large the"
            " model takes pictures and how their values are scaled; bring the whole folder."
        ) from None
    widest = max(_sides(values), default=0)
    if widest > WIDEST:
        raise ModelError(
            f"{folder}: {_FILE} asks for pictures of {widest:,} pixels, expected at most"
            f" {WIDEST:,}; choose another backbone."
        )
    family = next((named.removesuffix(end) for end in _ENDINGS if named.endswith(end)), named)
    made = getattr(transformers, f"{family}ImageProcessorPil", None)
    if made is None:
        raise ModelError(
            f"{folder}: {_FILE} names {named}, of which transformers {transformers.__version__} has"
            " no form that resizes with Pillow; choose a backbone of another family."
        )
    processor = made(**{key: value for key, value in values.items() if not key.endswith("_type")})
    return _of(processor, folder)


def _sides(values: Mapping[str, Any]) -> Iterator[float]:
    """Yield the numbers of all entries that are called a size."""
    for name, value in values.items():
        if name.endswith("size"):
            yield from value.values() if isinstance(value, dict) else (value or 0,)


def _of(processor: Any, folder: Path) -> PictureProcessor:
    def said(name: str, otherwise: Any) -> Any:
        value = getattr(processor, name, None)
        return otherwise if value is None else value

    if said("rescale_offset", False) or said("do_flip_channel_order", False):
        raise ModelError(
            f"{folder}: {_FILE} asks for rescale_offset or do_flip_channel_order, which no model"
            " here does; choose another backbone."
        )
    scales, norms = said("do_rescale", True), said("do_normalize", True)
    resample = processor.resample
    scale = float(said("rescale_factor", 1 / 255)) if scales else 1.0
    mean = _three(said("image_mean", 0.0)) if norms else (0.0,) * 3
    deviation = _three(said("image_std", 1.0)) if norms else (1.0,) * 3
    if not all(map(math.isfinite, (scale, *mean, *deviation))) or 0 in deviation:
        raise ModelError(
            f"{folder}: {_FILE} says rescale_factor={scale}, image_mean={list(mean)},"
            f" image_std={list(deviation)}; expected finite numbers, and none of image_std 0."
        )
    return PictureProcessor(
        scale=scale,
        mean=mean,
        deviation=deviation,
        resample=int(2 if resample is None else resample),
        processor=processor,
    )


def _three(values: Any) -> tuple[float, ...]:
    listed = [values] if isinstance(values, int | float) else list(values)
    made = tuple(float(one) for one in (listed * 3 if len(listed) == 1 else listed))
    if len(made) != 3:
        raise ValueError(f"expected one number or three, got {len(made)}")
    return made


__all__ = ["WIDEST", "PictureProcessor", "load_processor"]
