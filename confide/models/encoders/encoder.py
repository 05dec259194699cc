"""Backbones of a pretrained encoder: fine-tuned whole or by adapters, or a head on its features."""

import functools

from confide.config.models.transformer import TransformerConfig
from confide.models.backbones import find_backbone
from confide.models.encoders.assets import folder_assets
from confide.models.encoders.frozen import FrozenEncoder
from confide.models.encoders.workloads import head_on_features, tuned_encoder
from confide.models.memory import in_parts
from confide.models.networks import TextClassifier
from confide.models.workload import Order, Workload


def build_encoder(config: TransformerConfig, order: Order) -> Workload:
    """Build a model of texts.

    Args:
        config: the encoder.
        order: with ``tuning.kind=head``, the model is a head and records become features.
    """
    folder = find_backbone(config)
    task = order.task_fn(folder_assets(folder))
    # The task first: one that is not allowed is refused before weights are read.
    longest = max(order.task.text_limits.values(), default=None)
    frozen = FrozenEncoder(config, folder, num_outputs=order.task.num_outputs, longest=longest)
    if order.tuning.kind != "head":
        loaded = frozen.load()
        return tuned_encoder(task, loaded, order, numbers=loaded.numbers, longest=longest)

    @functools.cache
    def encoder() -> TextClassifier:
        # Loaded only when a record's features are not in the cache.
        return frozen.load().to(order.compute.device).eval()

    return head_on_features(
        task,
        lambda batch: in_parts(lambda part: encoder().pooled(**part), batch, encoder().numbers),
        order,
        width=frozen.width,  # from config.json: a head is built without the encoder's weights
        row_norm=frozen.row_norm,
        cache=frozen.cache(order.compute),
    )


__all__ = ["build_encoder"]
