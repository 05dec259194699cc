"""DICOM becomes grey by what its values measure and by a public window."""

import io
from typing import Any

import numpy
import pytest

pytest.importorskip("pydicom")
import pydicom
from pictures_made import COLOUR, drawn
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from confide.config.tasks.media.pictures import PictureReading
from confide.held import UnusableError
from confide.pictures.decode import decode_file, pixels_of
from confide.pictures.dicom import patient_of
from confide.pictures.findings import Seen

STORED = numpy.array([[0, 24, 1024], [1524, 2024, 4000]], dtype=numpy.uint16)
CT = PictureReading(column="image", channels=1, minimum=-1000, maximum=1000)


def dicom(values: numpy.ndarray, **fields: Any) -> bytes:
    """Write a file with pixels that are stored as they are."""
    made, meta = Dataset(), FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.file_meta = meta
    made.PatientID = "ward-7"
    made.Rows, made.Columns = values.shape[-2:] if values.ndim == 2 else values.shape[:2]
    made.SamplesPerPixel = 3 if values.ndim == 3 and values.shape[2] == 3 else 1
    made.PhotometricInterpretation = "MONOCHROME2"
    bits = values.dtype.itemsize * 8
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit, made.PixelRepresentation = bits - 1, int(values.dtype.kind == "i")
    if made.SamplesPerPixel == 3:
        made.PhotometricInterpretation, made.PlanarConfiguration = "RGB", 0
    made.PixelData = values.tobytes()
    for name, value in fields.items():
        setattr(made, name, value)
    written = io.BytesIO()
    made.save_as(written, enforce_file_format=True)
    return written.getvalue()


def deflated(values: numpy.ndarray) -> bytes:
    made, file = pydicom.dcmread(io.BytesIO(dicom(values))), io.BytesIO()
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def grey(data: bytes, reading: PictureReading = CT) -> tuple[list[list[int]], tuple[str, ...]]:
    seen = Seen()
    return decode_file(data, reading, seen)[:, :, 0].tolist(), seen.names


def test_values_are_rescaled_and_windowed_by_the_public_range() -> None:
    values, names = grey(dicom(STORED, RescaleSlope=1, RescaleIntercept=-1024))
    # -1024 -1000 0 / 500 1000 2976 Hounsfield
    assert values == [[0, 0, 128], [191, 255, 255]]
    assert names == ("clipped",)


def test_signed_values_are_read_as_signed() -> None:
    values, _ = grey(dicom(numpy.array([[-1000, 1000]], dtype=numpy.int16)))
    assert values == [[0, 255]]


def test_monochrome1_is_inverted_and_told() -> None:
    data = dicom(numpy.array([[-1000, 1000]], numpy.int16), PhotometricInterpretation="MONOCHROME1")
    assert grey(data) == ([[255, 0]], ("inverted",))


def test_own_window_is_used_only_if_the_schema_says_so() -> None:
    fields = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    data = dicom(STORED, WindowCenter=0.5, WindowWidth=1001, **fields)
    assert grey(data)[0] == [[0, 0, 128], [191, 255, 255]]
    own = PictureReading(column="image", channels=1, own_window=True)
    values, names = grey(data, own)
    assert values == [[0, 0, 128], [255, 255, 255]]
    assert "own_window" in names
    with pytest.raises(UnusableError) as caught:  # another file has none
        decode_file(dicom(STORED, **fields), own, Seen())
    assert caught.value.finding == "deep"


def test_without_a_range_only_plain_values_of_eight_bits_are_read() -> None:
    plain = PictureReading(column="image", channels=1)
    assert grey(dicom(drawn()), plain)[0] == drawn().tolist()
    with pytest.raises(UnusableError):
        decode_file(dicom(drawn(), RescaleSlope=2, RescaleIntercept=0), plain, Seen())
    with pytest.raises(UnusableError):
        decode_file(dicom(STORED), plain, Seen())


def test_colours_and_frames() -> None:
    values = drawn(0, (4, 5, 3))
    assert (decode_file(dicom(values), COLOUR, Seen()) == values).all()
    frames = numpy.stack([STORED, STORED + 1])
    grey_ones = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
    fields = {**grey_ones, "NumberOfFrames": 2, "Rows": 2, "Columns": 3}
    values, names = grey(dicom(frames, RescaleSlope=1, RescaleIntercept=-1024, **fields))
    assert values == [[0, 0, 128], [191, 255, 255]]
    assert "animated" in names


def test_files_that_say_that_they_have_more_pixels_than_a_picture_may_are_refused_unread() -> None:
    data = dicom(STORED, Rows=20_000, Columns=20_000)
    assert pixels_of(data) == 20_000**2
    with pytest.raises(UnusableError, match="too_large"):
        decode_file(data, CT, Seen())


def test_a_deflated_file_is_read_unless_it_would_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = deflated(STORED)
    assert (pixels_of(data), patient_of(data)) == (6, "ward-7")
    decode_file(data, CT, Seen())
    monkeypatch.setattr("confide.pictures.dicom._MOST_INFLATED", 100)
    assert (pixels_of(data), patient_of(data)) == (0, None)
    with pytest.raises(UnusableError, match="too_large"):
        decode_file(data, CT, Seen())


def test_of_many_pictures_in_a_file_the_first_is_decoded_alone() -> None:
    frames = numpy.concatenate([STORED.ravel(), numpy.zeros(6 * 99, numpy.uint16)])
    data = dicom(STORED, NumberOfFrames=100, PixelData=frames.tobytes())
    values, names = grey(data)
    assert (values, "animated" in names) == (grey(dicom(STORED))[0], True)
    # Of compressed ones the others need not even be there
    written = pydicom.dcmread(io.BytesIO(dicom(STORED, NumberOfFrames=100)))
    written.compress(RLELossless, arr=numpy.stack([STORED] * 100), encoding_plugin="pydicom")
    written.PixelData = encapsulate(
        list(generate_frames(written.PixelData, number_of_frames=100))[:1]
    )
    file = io.BytesIO()
    written.save_as(file, enforce_file_format=True)
    assert grey(file.getvalue())[0] == values


def test_damaged_files_are_refused_and_the_patient_is_read_without_pixels() -> None:
    data = dicom(STORED)
    with pytest.raises(UnusableError):
        decode_file(data[:-4], CT, Seen())
    assert patient_of(data[:-4]) == "ward-7"
    assert patient_of(b"no picture") is None


@pytest.mark.parametrize(
    ("fields", "finding"),
    [
        ({"RescaleSlope": [1, 2]}, "no_picture"),
        ({"BitsStored": [8, 8]}, "no_picture"),
    ],
)
def test_headers_that_say_what_cannot_be_are_told(fields: dict[str, Any], finding: str) -> None:
    plain = PictureReading(column="image", channels=1)
    with pytest.raises(UnusableError) as caught:
        decode_file(dicom(STORED, **fields), plain, Seen())
    assert caught.value.finding == finding


def test_a_window_that_is_no_number_is_none() -> None:
    own = PictureReading(column="image", channels=1, minimum=0, maximum=4000, own_window=True)
    data = dicom(STORED, WindowCenter="40", WindowWidth="1e400")
    assert "own_window" not in grey(data, own)[1]
