"""Pictures with a light square, and masks of it."""

from pathlib import Path

import numpy
import pandas
from PIL import Image


def write_squares(folder: Path, count: int = 12, side: int = 16) -> Path:
    """Write pictures and masks, and return a table that names both."""
    folder.mkdir()
    generator, rows = numpy.random.default_rng(1), []
    for number in range(count):
        picture = generator.integers(0, 90, (side, side), dtype=numpy.uint8)
        mask = numpy.zeros((side, side), numpy.uint8)
        top, left = generator.integers(0, side - 6, 2)
        picture[top : top + 6, left : left + 6] += 150
        mask[top : top + 6, left : left + 6] = 255
        names = f"{number}.png", f"{number}_mask.png"
        for name, values in zip(names, (picture, mask), strict=True):
            Image.fromarray(values).save(folder / name)
        rows.append((*names, ("east", "west")[number % 2]))
    table = pandas.DataFrame(rows, columns=["image", "mask", "ward"])
    table.to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


def job(table: Path) -> list[str]:
    """Return the overrides of a private run of two wards."""
    return [
        *("task=masks", "task.outcome.labels=[background,square]", "task.outcome.values=[0,255]"),
        *("task.size=16", "task.channels=1", f"data.path={table}", "data.partition_by=ward"),
        *("data.public=true", "data.test=0.3", "data.validation=0.1"),
        *("backbone=unet", "backbone.widths=[4,8]", "tuning=full", "simulation.baselines=[]"),
        *("privacy.epsilon=8", "server.num_rounds=3", "client.local_steps=2"),
    ]
