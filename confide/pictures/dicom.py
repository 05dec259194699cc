"""DICOM: from stored values to grey, as PS3.3 C.11 and C.7.6.3 say, by a public window."""

import io
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
        dataset = pydicom.dcmread(io.BytesIO(data))
        frame = _first_frame(dataset, seen)
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
        header = pydicom.dcmread(
            io.BytesIO(data), stop_before_pixels=True, specific_tags=["PatientID"]
        )
    except Exception:  # bytes that may be anything; told where the picture is decoded
        return None
    return str(header.get("PatientID", "")).strip() or None


def _first_frame(dataset: Any, seen: Seen) -> NDArray[Any]:
    from pydicom.pixels.processing import apply_color_lut, convert_color_space

    values: NDArray[Any] = dataset.pixel_array
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        seen.note("animated")
        values = values[0]
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


__all__ = ["decode_dicom", "is_dicom", "patient_of"]
