"""Small models of pictures: backbones with random weights in folders, and their workloads."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pictures_made import build_pictures
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from confide.config.models.cnn import CnnConfig
from confide.config.models.vision import VisionConfig
from confide.config.tunings.lora import LoraConfig
from confide.config.tunings.table import TUNINGS
from confide.config.tunings.tuning import TuningConfig
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload

_VIT = {"image_size": 16, "patch_size": 4, "hidden_size": 16, "intermediate_size": 16}
MODELS: dict[str, Any] = {
    "vit": lambda: ViTForImageClassification(
        ViTConfig(**_VIT, num_hidden_layers=2, num_attention_heads=2, hidden_dropout_prob=0.3)
    ),
    "bare vit": lambda: ViTModel(
        ViTConfig(**_VIT, num_hidden_layers=2, num_attention_heads=2), add_pooling_layer=False
    ),
    "mobilenet": lambda: MobileNetV2ForImageClassification(
        MobileNetV2Config(depth_multiplier=0.1, min_depth=8, finegrained_output=False)
    ),
    "resnet": lambda: ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])
    ),
    "convnext": lambda: ConvNextForImageClassification(
        ConvNextConfig(hidden_sizes=[8, 8], depths=[1, 1], num_stages=2, drop_path_rate=0.2)
    ),
}
_KIND = {"vit": "ViT", "bare vit": "ViT", "mobilenet": "MobileNetV2", "resnet": "ConvNext"}
SIZE = 16


def make_vision(folder: Path, family: str, **fields: Any) -> VisionConfig:
    """Write a backbone, and return what names it."""
    torch.manual_seed(0)
    place = folder / family.replace(" ", "-")
    model = MODELS[family]()
    for name, buffer in model.named_buffers():  # statistics that a trained one would have
        if name.endswith("running_mean"):
            buffer.uniform_(-0.5, 0.5)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    model.save_pretrained(place)
    values = {
        "image_processor_type": f"{_KIND.get(family, 'ConvNext')}ImageProcessorFast",
        "size": {"height": SIZE, "width": SIZE},
        "image_mean": [0.4, 0.5, 0.6],
        "image_std": [0.2, 0.3, 0.4],
    }
    if values["image_processor_type"].startswith("ConvNext"):
        values |= {"size": {"shortest_edge": SIZE}, "crop_pct": 1.0}
    if values["image_processor_type"].startswith("MobileNetV2"):
        values |= {"size": {"shortest_edge": 20}, "crop_size": {"height": SIZE, "width": SIZE}}
    (place / "preprocessor_config.json").write_text(json.dumps(values))
    return VisionConfig(name=str(place), **fields)


def tuning_of(kind: str) -> TuningConfig:
    """Return a small tuning of a kind."""
    made = TUNINGS[kind].schema(kind=kind)
    return replace(made, rank=2).seeded(0) if isinstance(made, LoraConfig) else made


def vision_workload(folder: Path, family: str, tuning: str, **fields: Any) -> Workload:
    """Build a small pretrained model of pictures on a grey task."""
    return build_workload(
        build_pictures(**{"size": SIZE, **fields}),
        make_vision(folder, family),
        tuning_of(tuning),
        compute=Compute(),
        seed=0,
    )


def cnn_workload(**fields: Any) -> Workload:
    """Build a small network from scratch."""
    return build_workload(
        build_pictures(**fields),
        CnnConfig(widths=[4, 6]),
        TuningConfig(kind="full"),
        compute=Compute(),
        seed=0,
    )
