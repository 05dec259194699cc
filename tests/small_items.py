"""A small catalogue, users who prefer some of its items, and runs on them."""

from pathlib import Path

import numpy
import pandas
import torch

from confide.models.encoders.items import write_items

ITEMS, DIMENSIONS = 30, 8


def make_catalogue(folder: Path, *, items: int = ITEMS) -> Path:
    """Write a catalogue's folder: items "i1", "i2", ... with vectors drawn by a seed."""
    vectors = torch.randn((items, DIMENSIONS), generator=torch.Generator().manual_seed(1))
    ids = [f"i{number}" for number in range(1, items + 1)]
    write_items(folder, ids, [f"item {name}" for name in ids], vectors - vectors.mean(dim=0))
    return folder


def interactions(users: int = 60, *, items: int = ITEMS, longest: int = 12) -> pandas.DataFrame:
    """Invent a row for each item that a user took; each keeps to a part of the catalogue."""
    rng = numpy.random.default_rng(0)
    rows = []
    for user in range(users):
        liked = rng.permutation(numpy.arange(user % 3, items, 3))[: rng.integers(2, longest)]
        for time, item in enumerate(liked):
            rows.append((f"u{user}", f"i{item + 1}", time, f"shop-{user % 2 + 1}"))
    return pandas.DataFrame(rows, columns=["user", "item", "time", "shop"])


def words(folder: Path, *more: str) -> list[str]:
    """Write catalogue and interactions into a folder; return the overrides of a run on them."""
    make_catalogue(folder / "catalogue")
    interactions().to_csv(folder / "interactions.csv", index=False)
    return [
        "task=recommendation",
        f"data.path={folder / 'interactions.csv'}",
        "data.public=true",
        "data.group_column=user",
        "data.partition_by=shop",
        "backbone=items",
        f"backbone.name={folder / 'catalogue'}",
        "backbone.width=4",
        "tuning=head",
        "privacy=none",
        "client.optimizer.kind=adam",
        "client.optimizer.learning_rate=0.02",
        "server.num_rounds=4",
        "simulation.baselines=[]",
        "tracking=none",
        *more,
    ]
