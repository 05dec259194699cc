"""NIID-Bench's Fashion-MNIST (Li, Diao, Chen and He, ICDE 2022, arXiv 2102.02079, table 3).

Ten clients by Dirichlet 0.5 or with one label each, batches of 64, SGD with rate 0.01 and momentum
0.9, 10 local epochs, 50 rounds, mean of three seeds (github.com/Xtra-Computing/NIID-Bench). Whole
runs take an hour of a core each: these are scaled down, as each row's differences say.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy
import yaml
from images import garments
from kept import Figures

import confide
from reproduced.row import Published, Row

_FILES = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
"""Where Debian's package dataset-fashion-mnist, or what was unpacked of it, lies."""
_TRAINING, _TEST, _ROUNDS, _EPOCHS = 6_000, 10_000, 10, 2
ACCURACY = "test accuracy"

_SETTINGS = (
    "task=fashion",
    "backbone=cnn",
    "backbone.widths=[6,16]",
    "tuning=full",
    "privacy=none",
    "data.num_clients=10",
    "data.public=true",
    "data.validation=0",
    "data.test=0",
    "client=default",
    "client.optimizer.kind=sgd",
    "client.batch_size=64",
    f"client.local_epochs={_EPOCHS}",
    f"server.num_rounds={_ROUNDS}",
    "simulation.baselines=[]",
    "tracking=none",
)
_MOMENTUM = (
    "client.optimizer.learning_rate=0.01",
    "client.optimizer.momentum=0.9",
    "client.optimizer.weight_decay=1e-5",
)
_TOLD = (
    f"{_ROUNDS} rounds of {_EPOCHS} local epochs on the first {_TRAINING:,} training pictures, for"
    " 50 rounds of 10 epochs on 60,000; one seed for three.",
    "The network has two 3 x 3 convolutions of 6 and 16 channels with GroupNorm and a linear head,"
    " for 5 x 5 ones without norm and layers of 120 and 84; pixels are from -1 to 1, for 0 to 1.",
)
_ALGORITHMS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "fedavg": (("strategy=fedavg", *_MOMENTUM), ()),
    "fedprox": (
        ("strategy=fedprox", "strategy.objective.proximal_mu=0.01", *_MOMENTUM),
        ("mu is 0.01, for the best of 0.001, 0.01, 0.1 and 1.",),
    ),
    "fednova": (("strategy=fednova", *_MOMENTUM), ()),
    "scaffold": (
        ("strategy=scaffold", "client.optimizer.learning_rate=0.1"),
        (
            "Rate 0.1 without momentum or decay, for 0.01 with momentum 0.9: control variates are"
            " those of plain steps, and SCAFFOLD is refused with momentum.",
        ),
    ),
}
"""Strategy -> its settings, and what differs from the published one's."""
_DEALT: Mapping[str, tuple[str, ...]] = {
    "dirichlet": ("data.partitioner=dirichlet", "data.alpha=0.5"),
    "one-label": (
        "data.partitioner=pathological",
        "data.partitioner_args={num_classes_per_partition: 1,"
        " class_assignment_mode: deterministic}",
    ),
}
_PUBLISHED: Mapping[str, Mapping[str, tuple[float, float | None]]] = {
    "dirichlet": {
        "fedavg": (88.09, None),
        "fedprox": (88.15, None),
        "fednova": (88.22, None),
        "scaffold": (88.44, None),
    },
    "one-label": {
        "fedavg": (28.39, None),
        "fedprox": (32.65, None),
        "fednova": (16.86, None),
        "scaffold": (10.00, None),
    },
}


def measure(words: Sequence[str], seed: int, folder: Path) -> Figures:
    """Run a federation, and score its model on the test pictures, which no client has."""
    pictures = garments({"train": _TRAINING, "t10k": _TEST}, _FILES)
    for name in ("train", "t10k"):
        arrays = {f"{name}_{kind}": pictures[f"{name}_{kind}"] for kind in ("images", "labels")}
        numpy.savez(folder / f"{name}.npz", **arrays)
    result = confide.simulate(
        [*words, f"data.path={folder / 'train.npz'}", f"simulation.seed={seed}"],
        run_dir=folder / "run",
        overwrite=True,
    )
    found = result.predict(folder / "t10k.npz")
    names = yaml.safe_load((result.run_dir / "config.yaml").read_text())["task"]["labels"]
    truth = numpy.array(names)[pictures["t10k_labels"]]
    return {ACCURACY: 100 * float((found["prediction"].to_numpy() == truth).mean())}


def _rows() -> dict[str, Row]:
    rows = {}
    for dealt, settings in _DEALT.items():
        for strategy, (words, told) in _ALGORITHMS.items():
            value, deviation = _PUBLISHED[dealt][strategy]
            rows[f"garments-{dealt}-{strategy}"] = Row(
                source="NIID-Bench, Fashion-MNIST",
                words=(*_SETTINGS, *settings, *words),
                seeds=(0,),
                published={ACCURACY: Published(value=value, deviation=deviation)},
                measure_fn=measure,
                differences=(*_TOLD, *told),
                needs=strategy,
            )
    return rows


ROWS = _rows()
"""Name -> row."""
