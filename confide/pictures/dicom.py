"""DICOM: from stored values to grey, as PS3.3 C.11 and C.7.6.3 say, by a public window."""

import io
import zlib
from importlib.util import find_spec
from math import isfinite
from typing import Any

import numpy
from numpy.typing import NDArray

from confide.config.tasks.media.pictures import PictureReading
from confide.held import UnusableError
from confide.pictures.findings import Seen
from confide.pictures.ranges import stretched, windowed

_PREAMBLE = 128
_GROUP = _PREAMBLE + 4
"""Where a file's own description begins; its first element says how long the rest of it is."""
_FIRST = 12
_DEFLATED = b"1.2.840.10008.1.2.1.99"
MOST_PIXELS = 89_478_485
"""Of a picture, as Pillow has it."""
_MOST_INFLATED = 8 * MOST_PIXELS
_COLOURS = ("RGB", "PALETTE COLOR")


def is_dicom(data: bytes) -> bool:
    """Say whether bytes are a DICOM file."""
    return data[_PREAMBLE : _PREAMBLE + 4] == b"DICM"


def decode_dicom(data: bytes, reading: PictureReading, seen: Seen) -> NDArray[numpy.uint8]:
    """Decode a DICOM file to grey [h, w] or colour [h, w, 3].

    Stored values become what they measure (RescaleSlope, RescaleIntercept), and that becomes grey
    by the window: the schema's, the file's own if the schema says so, or none for unscaled values
    of 8 bits.

    Raises:
        UnusableError: if it cannot be used.
    """
    if find_spec("pydicom") is None:
        raise UnusableError("no_pydicom")
    import pydicom

    try:
        _refuse_bomb(data)
        dataset = pydicom.dcmread(io.BytesIO(data))
        if _pixels_of(dataset) > MOST_PIXELS:
            raise UnusableError("too_large")
        frame = _first_frame(dataset, seen)
    except UnusableError:
        raise
    except (NotImplementedError, RuntimeError):  # no decoder for its transfer syntax
        raise UnusableError("dicom_codec") from None
    except Exception as error:  # bytes that may be anything
        cut_off = any(word in str(error).lower() for word in ("length", "unexpected", "eof"))
        raise UnusableError("truncated" if cut_off else "no_picture") from None
    if frame.ndim == 3:
        return _colour(frame)
    grey = _grey(dataset, frame, reading, seen)
    if str(dataset.get("PhotometricInterpretation", "")) == "MONOCHROME1":
        seen.note("inverted")
        grey = 255 - grey
    return grey


def patient_of(data: bytes) -> str | None:
    """Return a DICOM file's PatientID; None if it is none, or names nobody."""
    if not is_dicom(data) or find_spec("pydicom") is None:
        return None
    import pydicom

    try:
        _refuse_bomb(data)
        header = pydicom.dcmread(
            io.BytesIO(data), stop_before_pixels=True, specific_tags=["PatientID"]
        )
    except Exception:  # bytes that may be anything; told where the picture is decoded
        return None
    return str(header.get("PatientID", "")).strip() or None


def pixels_of_dicom(data: bytes) -> int:
    """Return how many pixels a DICOM file says that a picture of it has; 0 if it is none."""
    if find_spec("pydicom") is None:
        return 0
    import pydicom

    try:
        _refuse_bomb(data)
        return _pixels_of(
            pydicom.dcmread(
                io.BytesIO(data), stop_before_pixels=True, specific_tags=["Rows", "Columns"]
            )
        )
    except Exception:  # bytes that may be anything; told where the picture is decoded
        return 0


def _pixels_of(dataset: Any) -> int:
    return int(dataset.get("Rows", 0) or 0) * int(dataset.get("Columns", 0) or 0)


def _refuse_bomb(data: bytes) -> None:
    """Refuse a deflated file that would fill the memory: it is inflated before anything is read.

    Raises:
        UnusableError: if so.
    """
    start = _GROUP + _FIRST + int.from_bytes(data[_GROUP + 8 : _GROUP + _FIRST], "little")
    if _DEFLATED not in data[_GROUP:start]:
        return
    inflating, left, size = zlib.decompressobj(-zlib.MAX_WBITS), data[start:], 0
    while left and not inflating.eof:
        size += len(inflating.decompress(left, 2**24))
        left = inflating.unconsumed_tail
        if size > _MOST_INFLATED:
            raise UnusableError("too_large")


def _first_frame(dataset: Any, seen: Seen) -> NDArray[Any]:
    from pydicom.pixels.processing import apply_color_lut, convert_color_space

    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        seen.note("animated")
    # The others are not decoded: a small file may say that it has very many
    dataset.pixel_array_options(index=0)
    values: NDArray[Any] = dataset.pixel_array
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if photometric == "PALETTE COLOR":
        seen.note("palette")
        return numpy.asarray(apply_color_lut(values, dataset))
    # pixel_array has converted what a decoder gave as YBR; raw values keep their colour space
    if values.ndim == 3 and photometric.startswith("YBR") and not _is_compressed(dataset):
        return numpy.asarray(convert_color_space(values, photometric, "RGB"))
    return values


def _is_compressed(dataset: Any) -> bool:
    return bool(dataset.file_meta.TransferSyntaxUID.is_compressed)


def _colour(frame: NDArray[Any]) -> NDArray[numpy.uint8]:
    if frame.shape[2] != 3:
        raise UnusableError("shape")
    if frame.dtype == numpy.uint8:
        return frame
    return (frame >> 8).astype(numpy.uint8)  # of a palette, which has 16 bits


def _grey(
    dataset: Any, frame: NDArray[Any], reading: PictureReading, seen: Seen
) -> NDArray[numpy.uint8]:
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    scaled = (slope, intercept) != (None, None)
    values = frame.astype(numpy.float64)
    if scaled:
        values = values * float(1 if slope is None else slope) + float(intercept or 0)
    window = _own_window(dataset) if reading.own_window else None
    if window is not None:
        seen.note("own_window")
        return stretched(values, *window, seen)
    is_plain = int(dataset.get("BitsStored", 16)) <= 8 and frame.min() >= 0
    if reading.minimum is None and is_plain and (slope in (None, 1) and not intercept):
        return frame.astype(numpy.uint8)
    return windowed(values, reading, seen)


def _own_window(dataset: Any) -> tuple[float, float] | None:
    """Return what a file's own window maps to black and white (PS3.3 C.11.2.1.2)."""
    centre, width = dataset.get("WindowCenter"), dataset.get("WindowWidth")
    if centre is None or width is None:
        return None
    # Several are alternatives for people to choose from
    centre, width = (
        float(one[0] if hasattr(one, "__len__") and not isinstance(one, str) else one)
        for one in (centre, width)
    )
    if not (isfinite(centre) and isfinite(width) and width > 1):
        return None
    return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2


__all__ = ["decode_dicom", "is_dicom", "patient_of", "pixels_of_dicom"]
