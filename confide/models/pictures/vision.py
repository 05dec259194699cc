"""Pretrained models of pictures: a head on their features, or adapters in them.

What is loaded is a family's own classifier of pictures. Its last layer is taken off, and the new
head takes what that one took: whatever a family does with its tokens or maps before, it still does.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from confide.config.models.vision import VisionConfig
from confide.errors import ModelError, words_of
from confide.models.backbones import (
    content_hash,
    find_backbone,
    load_pretrained,
    load_settings,
    loading,
    quiet_transformers,
)
from confide.models.compute import Compute
from confide.models.encoders.features import FeatureCache
from confide.models.encoders.workloads import head_on_features, tuned_encoder
from confide.models.memory import MOST_OF_PRETRAINED, in_parts, numbers_of_record, refuse_large
from confide.models.networks import Head, OnEncoder, scaled_rows
from confide.models.workload import Order, Workload
from confide.pictures.processor import PictureProcessor, load_processor
from confide.tasks.media.image_classification import PIXELS, scaled
from confide.tasks.task import Batch, Task

AUTO_CLASS = "AutoModelForImageClassification"
CLASSIFIER = "classifier"
"""Name of a family's own head, or of what holds it."""


class VisionClassifier(OnEncoder):
    """A family's classifier of pictures with a head of ours in place of its last layer.

    Args:
        encoder: the family's classifier, on the CPU.
        processor: scales values of pixels.
        num_outputs: of the head.
        row_norm: norm that features are scaled to; None leaves them as they are.

    Raises:
        ModelError: if its last layer is not linear.
    """

    def __init__(
        self,
        encoder: Any,
        processor: PictureProcessor,
        *,
        num_outputs: int,
        row_norm: float | None = None,
    ) -> None:
        super().__init__()
        width = last_width(encoder)
        replace_last(encoder, TakenOff())
        self.encoder, self.head = encoder, Head(width, num_outputs).head
        self._processor, self._row_norm = processor, row_norm

    def pooled(self, pixel_values: Tensor) -> Tensor:
        """Map pixels [b, c, h, w] of 8 bits to features [b, d]."""
        made: Tensor = self.encoder(pixel_values=scaled(pixel_values, self._processor)).logits
        return made.flatten(start_dim=1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map pixels [b, c, h, w] of 8 bits to outputs [b, k]."""
        outputs: Tensor = self.head(scaled_rows(self.pooled(pixel_values), self._row_norm))
        return outputs


class TakenOff(nn.Identity):
    """Stands where a family's last layer was."""


def last_width(model: Any) -> int:
    """Return the width of what a family's last layer takes.

    Raises:
        ModelError: if it is not one linear layer.
    """
    _, _, layer = _last_layer(model)
    assert isinstance(layer, nn.Linear)
    return layer.in_features


def replace_last(model: Any, layer: nn.Module) -> None:
    """Put a layer in place of a family's last one, or back where that was."""
    holder, name, _ = _last_layer(model)
    setattr(holder, name, layer)


def _last_layer(model: Any) -> tuple[nn.Module, str, nn.Module]:
    """Return a family's last layer, with what holds it and its name there."""
    found = list(_last_layers(model))
    if len(found) != 1:
        raise ModelError(
            f"The backbone (model_type={model.config.model_type}) does not end in one linear layer"
            f" called {CLASSIFIER}; choose a family that does, such as ViT, ConvNeXt, ResNet or"
            " MobileNetV2."
        )
    return found[0]


def _last_layers(model: Any) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    head = getattr(model, CLASSIFIER, None)
    if isinstance(head, nn.Linear | TakenOff):
        yield model, CLASSIFIER, head
    elif isinstance(head, nn.Module):
        for name, layer in head.named_children():
            if isinstance(layer, nn.Linear | TakenOff):
                yield head, name, layer
            elif list(layer.parameters()):
                return  # more is learnt there than one layer


class FrozenVision:
    """A pretrained model of pictures under a fresh head, and the features it computes.

    Args:
        config: the backbone.
        folder: where its files are.
        num_outputs: of the head.
    """

    def __init__(self, config: VisionConfig, folder: Path, *, num_outputs: int) -> None:
        self._config, self._folder, self._num_outputs = config, folder, num_outputs

    def load(self) -> VisionClassifier:
        """Load model and head."""
        encoder = load_pretrained(
            self._folder, auto_class=AUTO_CLASS, fresh=(CLASSIFIER,), name=self._config.name
        )
        return VisionClassifier(
            encoder,
            load_processor(self._folder),
            num_outputs=self._num_outputs,
            row_norm=self._config.row_norm,
        )

    @functools.cached_property
    def width(self) -> int:
        """Numbers in a picture's features, without its weights."""
        import transformers

        settings = load_settings(self._folder)
        with quiet_transformers(), loading(self._folder), torch.device("meta"):
            made = getattr(transformers, AUTO_CLASS).from_config(settings)
        return last_width(made)

    def cache(self, compute: Compute) -> FeatureCache | None:
        """Return where features are kept; None for nowhere."""
        if compute.feature_cache is None:
            return None
        identity = (content_hash(self._folder), AUTO_CLASS, str(compute.autocast))
        return FeatureCache(compute.feature_cache, identity)


def build_vision(config: VisionConfig, order: Order) -> Workload:
    """Build a model of pictures.

    Args:
        config: the backbone.
        order: with ``tuning.kind=head``, the model is a head and records become features.

    Raises:
        ModelError: if the backbone cannot be used, or takes no pictures of the schema's size.
    """
    folder = find_backbone(config)
    # The task first: one that is not allowed is refused before weights are read.
    task = order.task_fn({"processor": functools.partial(load_processor, folder)})
    frozen = FrozenVision(config, folder, num_outputs=order.task.num_outputs)
    if order.tuning.kind != "head":
        loaded = frozen.load()
        return tuned_encoder(task, loaded, order, numbers=tried_size(loaded, task))

    @functools.cache
    def encoder() -> tuple[VisionClassifier, int]:
        # Loaded only when a record's features are not in the cache.
        loaded = frozen.load()
        numbers = tried_size(loaded, task)
        return loaded.to(order.compute.device).eval(), numbers

    def encode(batch: Batch) -> Tensor:
        model, numbers = encoder()
        return in_parts(lambda part: model.pooled(**part), batch, numbers)

    return head_on_features(
        task,
        encode,
        order,
        width=frozen.width,
        row_norm=config.row_norm,
        cache=frozen.cache(order.compute),
    )


def tried_size(model: VisionClassifier, task: Task) -> int:
    """Check that a model takes pictures of the size that the task makes them.

    Returns:
        What its layers hand on of one.

    Raises:
        ModelError: if it does not, or one picture would take gibibytes.
    """
    pixels = task.synthetic(2, torch.Generator().manual_seed(0)).columns[PIXELS]
    try:
        numbers = numbers_of_record(model, lambda twin: twin.pooled(pixels[:1]))
        refuse_large(numbers, fix="lower task.size", most=MOST_OF_PRETRAINED)
        with torch.no_grad():
            model.pooled(pixels)
    except ModelError:
        raise
    except Exception as error:  # a model's code may raise anything
        reason = words_of(error)
        raise ModelError(
            f"task.size: the backbone takes no pictures of {list(pixels.shape[2:])} pixels:"
            f" {reason}. Set task.size=null for its own size."
        ) from None
    return numbers


__all__ = [
    "AUTO_CLASS",
    "CLASSIFIER",
    "FrozenVision",
    "TakenOff",
    "VisionClassifier",
    "build_vision",
    "last_width",
    "replace_last",
    "tried_size",
]
