"""Bytes of a file -> pixels of 8 bits, with everything told that was done to them on the way.

Pillow converts silently: a picture of 16 bits is cut at 255, colours come back that were
transparent, a rotation is not applied. Here each of these is done by what is public or refused.
"""

import io
import warnings
from typing import Any

import numpy
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from confide.config.tasks.media.pictures import PictureReading
from confide.held import UnusableError
from confide.pictures.dicom import decode_dicom, is_dicom, pixels_of_dicom
from confide.pictures.findings import Seen
from confide.pictures.ranges import windowed

Pixels = NDArray[numpy.uint8]
"""Shape [h, w, c], with c the channels of the schema."""

_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_PNG = b"\x89PNG\r\n\x1a\n"
_BITS_A_SAMPLE = 258  # TIFF's tag
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
"""Formats that Pillow decodes by itself. For others it may start programs, such as Ghostscript for
PostScript, which no file from outside may ask for."""
_CUT_OFF = ("truncated", "broken data", "incomplete", "unrecognized data stream", "premature")


def decode_file(data: bytes, reading: PictureReading, seen: Seen) -> Pixels:
    """Decode the bytes of a file.

    Args:
        data: a picture in one of :data:`FORMATS`, or DICOM.
        reading: what the schema says.
        seen: what is found.

    Raises:
        UnusableError: if it cannot be used.
    """
    if is_dicom(data):
        try:
            return finished(decode_dicom(data, reading, seen), reading, seen)
        except UnusableError:
            raise
        except Exception:  # of headers that may say anything
            raise UnusableError("no_picture") from None
    with warnings.catch_warnings():
        # Of a picture that would fill the memory Pillow warns at 89 million pixels
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning)
        try:
            with open_picture(data) as image:
                image.load()
                return finished(_converted(image, data, reading, seen), reading, seen)
        except UnusableError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise UnusableError("too_large") from None
        except UnidentifiedImageError:
            raise UnusableError("no_picture") from None
        except Exception as error:  # decoders of unlike formats, on bytes that may be anything
            cut_off = any(word in str(error).lower() for word in _CUT_OFF)
            raise UnusableError("truncated" if cut_off else "no_picture") from None


def pixels_of(data: bytes) -> int:
    """Return how many pixels a file says that its picture has; 0 if it is none."""
    if is_dicom(data):
        return pixels_of_dicom(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with open_picture(data) as image:
                return image.width * image.height
        except Exception:  # bytes that may be anything; told where the picture is decoded
            return 0


def open_picture(data: bytes) -> Image.Image:
    """Open a file of one of :data:`FORMATS`; what else there is raises as of Pillow."""
    Image.init()
    return Image.open(io.BytesIO(data), formats=[one for one in FORMATS if one in Image.OPEN])


def _converted(image: Image.Image, data: bytes, reading: PictureReading, seen: Seen) -> Pixels:
    """Return grey [h, w] or colour [h, w, 3]."""
    if getattr(image, "n_frames", 1) > 1:
        seen.note("animated")
    if image.getexif().get(0x0112, 1) not in (0, 1):
        seen.note("rotated")
        image = ImageOps.exif_transpose(image)
    if image.mode in _DEEP:
        return windowed(numpy.asarray(image).astype(numpy.float64), reading, seen)
    if _is_deep_colour(image, data):
        seen.note("deep_colour")
    if image.mode in ("P", "PA"):
        seen.note("palette")
    if image.mode == "CMYK":
        seen.note("cmyk")
    if image.has_transparency_data:
        image = _over_background(image, reading, seen)
    grey = image.mode in ("1", "L")
    return numpy.asarray(image.convert("L" if grey else "RGB"))


def _is_deep_colour(image: Image.Image, data: bytes) -> bool:
    """Say whether Pillow has dropped the lower half of 16 bits, which it does without a word."""
    if data.startswith(_PNG):
        return data[24] == 16  # of the header: bit depth
    bits = getattr(image, "tag_v2", {}).get(_BITS_A_SAMPLE, ())
    return any(int(one) > 8 for one in (bits if isinstance(bits, tuple) else (bits,)))


def _over_background(image: Image.Image, reading: PictureReading, seen: Seen) -> Image.Image:
    """Lay a picture on the background: what is transparent may hide any colour."""
    grey = image.mode in ("L", "LA", "La")
    layers = image.convert("RGBA")
    if numpy.asarray(layers.getchannel("A")).min() < 255:
        seen.note("alpha")
    below = Image.new("RGBA", layers.size, (reading.background,) * 3 + (255,))
    flat = Image.alpha_composite(below, layers)
    return flat.convert("L" if grey else "RGB")


def decode_array(values: NDArray[Any], reading: PictureReading, seen: Seen) -> Pixels:
    """Convert one picture of an array, such as MedMNIST's, [h, w] or [h, w, 1, 3 or 4].

    Raises:
        UnusableError: if it cannot be used.
    """
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if not values.size or values.dtype.kind not in "buif":
        raise UnusableError("shape")
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise UnusableError("shape")
    if values.dtype == numpy.bool_:
        values = values.astype(numpy.uint8) * 255
    if values.dtype != numpy.uint8:
        values = windowed(values.astype(numpy.float64), reading, seen)
    if values.ndim == 3 and values.shape[2] == 4:
        values = numpy.asarray(_over_background(Image.fromarray(values), reading, seen))
    return finished(values, reading, seen)


def finished(values: Pixels, reading: PictureReading, seen: Seen) -> Pixels:
    """Return grey [h, w] or colour [h, w, 3] with the channels of the schema."""
    if values.min() == values.max():
        seen.note("flat")
    if values.ndim == 2:
        return numpy.repeat(values[:, :, None], reading.channels, axis=2)
    if reading.channels == 3:
        return values
    if (values != values[:, :, :1]).any():
        seen.note("colour")
    return numpy.asarray(Image.fromarray(values).convert("L"))[:, :, None]


__all__ = [
    "FORMATS",
    "Pixels",
    "decode_array",
    "decode_file",
    "finished",
    "open_picture",
    "pixels_of",
]
