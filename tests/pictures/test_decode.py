"""Every form of a picture becomes 8 bits by what is public, and what was done is told."""

import numpy
import pytest
from pictures_made import COLOUR, GREY, cell, drawn, file_of
from PIL import Image

from confide.config.tasks.media.masks import MaskReading
from confide.config.tasks.media.pictures import PictureReading
from confide.held import BYTES, UnusableError, embedded, parse_held
from confide.pictures.decode import decode_array, decode_file
from confide.pictures.findings import Seen
from confide.pictures.masks import Masks

DEEP = PictureReading(column="image", channels=1, minimum=0, maximum=65535)
SHORT = numpy.array([[0, 257, 65535], [32896, 300, 128]], dtype=numpy.uint16)


def decoded(data: bytes, reading: PictureReading) -> tuple[numpy.ndarray, tuple[str, ...]]:
    seen = Seen()
    return decode_file(data, reading, seen), seen.names


def why(data: bytes, reading: PictureReading = GREY) -> str:
    with pytest.raises(UnusableError) as caught:
        decode_file(data, reading, Seen())
    return caught.value.finding


def test_grey_stays_as_it_is_and_becomes_three_equal_channels() -> None:
    values = drawn()
    pixels, names = decoded(file_of(values), GREY)
    assert (pixels[:, :, 0] == values).all()
    assert names == ()
    pixels, _ = decoded(file_of(values), COLOUR)
    assert pixels.shape == (8, 9, 3)
    assert (pixels == values[:, :, None]).all()


def test_sixteen_bits_need_a_public_range_and_keep_their_levels() -> None:
    data = file_of(SHORT)
    assert why(data) == "deep"
    pixels, names = decoded(data, DEEP)
    assert pixels[:, :, 0].tolist() == [[0, 1, 255], [128, 1, 0]]
    assert names == ()
    window = PictureReading(column="image", channels=1, minimum=100, maximum=355)
    pixels, names = decoded(data, window)
    assert pixels[:, :, 0].tolist() == [[0, 157, 255], [255, 200, 28]]
    assert names == ("clipped",)


def test_floats_of_a_tiff_need_a_range_too_and_have_to_be_numbers() -> None:
    values = numpy.linspace(0, 1, 12, dtype=numpy.float32).reshape(3, 4)
    data = file_of(values, "TIFF")
    assert why(data) == "deep"
    unit = PictureReading(column="image", channels=1, minimum=0, maximum=1)
    pixels, _ = decoded(data, unit)
    assert pixels.ravel().tolist() == numpy.rint(values.ravel() * 255).tolist()
    values[0, 0] = numpy.nan
    assert why(file_of(values, "TIFF"), unit) == "not_finite"


def test_colours_under_transparency_do_not_come_back() -> None:
    hidden = numpy.dstack([drawn(0, (4, 4, 3)), numpy.zeros((4, 4), numpy.uint8)])
    pixels, names = decoded(file_of(hidden), COLOUR)
    assert (pixels == 255).all()
    assert names == ("alpha", "flat")
    dark = PictureReading(column="image", channels=3, background=0)
    assert not decoded(file_of(hidden), dark)[0].any()
    # Grey with alpha, and a palette with one transparent colour
    grey = Image.fromarray(drawn()).convert("LA")
    grey.putalpha(0)
    assert (decoded(file_of(grey), GREY)[0] == 255).all()
    palette = Image.fromarray(numpy.zeros((3, 3), numpy.uint8)).convert("P")
    pixels, names = decoded(file_of(palette, transparency=0), COLOUR)
    assert (pixels == 255).all()
    assert names == ("palette", "alpha", "flat")


def test_opaque_alpha_changes_nothing_and_is_not_told() -> None:
    values = drawn(0, (4, 4, 3))
    opaque = numpy.dstack([values, numpy.full((4, 4), 255, numpy.uint8)])
    pixels, names = decoded(file_of(opaque), COLOUR)
    assert (pixels == values).all()
    assert names == ()


def test_exif_rotation_is_applied() -> None:
    image = Image.fromarray(drawn(0, (4, 6)))
    exif = image.getexif()
    exif[0x0112] = 6
    pixels, names = decoded(file_of(image, exif=exif), GREY)
    assert (pixels[:, :, 0] == numpy.rot90(drawn(0, (4, 6)), -1)).all()
    assert names == ("rotated",)


def test_other_colour_models_are_told() -> None:
    image = Image.fromarray(drawn(0, (16, 16, 3)))
    assert "cmyk" in decoded(file_of(image.convert("CMYK"), "JPEG"), COLOUR)[1]
    assert "palette" in decoded(file_of(image.convert("P"), "GIF"), COLOUR)[1]
    assert "colour" in decoded(file_of(image), GREY)[1]


def test_first_frame_of_several_is_used_and_told() -> None:
    first, second = Image.fromarray(drawn(0)), Image.fromarray(drawn(1))
    data = file_of(first, "GIF", save_all=True, append_images=[second])
    pixels, names = decoded(data, GREY)
    assert (pixels[:, :, 0] == drawn(0)).all()
    assert "animated" in names


def test_deep_colour_loses_its_lower_bits_and_is_told() -> None:
    # Pillow writes no PNG of 16 bits a colour: this one is put together by hand.
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    row = b"\0" + struct.pack(">6H", 65535, 257, 0, 32768, 1, 511)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row))
    pixels, names = decoded(data + chunk(b"IEND", b""), COLOUR)
    assert pixels.tolist() == [[[255, 1, 0], [128, 0, 1]]]
    assert names == ("deep_colour",)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF"])
def test_files_that_were_cut_off_are_refused(form: str) -> None:
    data = file_of(drawn(0, (64, 64)), form)
    assert why(data[: len(data) * 2 // 3]) in ("truncated", "no_picture")


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"DICM"])
def test_other_bytes_are_no_picture(data: bytes) -> None:
    assert why(data) in ("no_picture", "truncated")


def test_bombs_are_refused_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert why(file_of(drawn())) == "too_large"
    assert why(file_of(drawn(0, (3, 4)))) == "too_large"


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3), (5, 4, 4)])
def test_arrays_of_every_shape_are_read(shape: tuple[int, ...]) -> None:
    pixels = decode_array(drawn(0, shape), COLOUR, Seen())
    assert pixels.shape == (5, 4, 3)


def test_arrays_of_truth_values_and_of_more_bits() -> None:
    values = drawn() > 127
    assert (decode_array(values, GREY, Seen())[:, :, 0] == values * 255).all()
    assert decode_array(SHORT, DEEP, Seen())[:, :, 0].tolist() == [[0, 1, 255], [128, 1, 0]]
    with pytest.raises(UnusableError):
        decode_array(drawn(0, (5, 4, 7)), GREY, Seen())


def test_no_format_is_read_that_pillow_starts_a_program_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[str] = []
    monkeypatch.setattr(
        "PIL.EpsImagePlugin.Ghostscript", lambda *args, **more: started.append("gs")
    )
    data = file_of(numpy.zeros((4, 4), numpy.uint8), "EPS")
    found = parse_held(cell(data))
    assert found is not None
    assert found.findings == ("no_picture",)
    masks = Masks(MaskReading(column="mask", levels=(0, 1)))
    assert masks.look(BYTES, embedded(data)).findings == ("no_picture",)
    assert not started


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"])
def test_formats_of_pictures_are_read(form: str) -> None:
    found = parse_held(cell(file_of(drawn(), form)))
    assert found is not None
    assert found.sha256


def test_a_mask_that_would_fill_the_memory_is_told() -> None:
    data = file_of(Image.new("1", (10_000, 9_000)))
    found = Masks(MaskReading(column="mask", levels=(0, 1))).look(BYTES, embedded(data))
    assert found.findings == ("too_large",)
