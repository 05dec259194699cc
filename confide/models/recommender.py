"""A model of users on the vectors of items' texts.

A user is a linear map of the mean and of the newest of the last items' vectors; an item's output is
the cosine of both along the axes on which items differ most, and what the user's numbers say of it
alone: popularity is learnt there, under the same guarantee, and not counted.
"""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from confide.config.models.items import ItemsConfig
from confide.config.tasks.recommendation import RecommendationConfig
from confide.errors import ConfigError, ModelError
from confide.models.backbones import find_backbone
from confide.models.encoders.items import read_catalogue, read_items
from confide.models.workload import Order, Workload
from confide.tasks.recommendation import without_items

SCALE = 8.0
"""Of a cosine, in a logit."""


class Recommender(nn.Module):
    """Maps histories to one output an item.

    Args:
        vectors: of N items' texts, shape [N, d].
        places: of items along their axes, shape [N, a].
        width: numbers of a user, at most a.
        recent: last items that are looked at.
        repeats: whether items of a history may be recommended.
    """

    vectors: Tensor
    axes: Tensor

    def __init__(
        self, vectors: Tensor, places: Tensor, *, width: int, recent: int, repeats: bool
    ) -> None:
        super().__init__()
        # By place, of which 0 is no item. Buffers: public, and in the folder that all start from.
        padded = torch.cat([torch.zeros_like(vectors[:1]), vectors])
        self.register_buffer("vectors", padded)
        self.register_buffer("axes", functional.normalize(places[:, :width], dim=1))
        self.recent, self.repeats = recent, repeats
        self.user = nn.Linear(2 * vectors.shape[1], width)
        self.item = nn.Linear(width, len(vectors))
        nn.init.zeros_(self.item.weight)
        nn.init.zeros_(self.item.bias)

    def forward(self, history: Tensor) -> Tensor:
        """Map places [b, h], the newest last, to outputs [b, N]."""
        last = history[:, -self.recent :]
        found = self.vectors[last]
        count = (last > 0).sum(dim=1, keepdim=True).clamp(min=1)
        user = self.user(torch.cat([found.sum(dim=1) / count, found[:, -1]], dim=1))
        outputs: Tensor = SCALE * functional.normalize(user, dim=1) @ self.axes.T
        outputs = outputs + self.item(user.tanh())
        return outputs if self.repeats else without_items(outputs, history)


def build_recommender(config: ItemsConfig, order: Order) -> Workload:
    """Build a model of users.

    Args:
        config: where the items are.
        order: whose task reads histories.

    Raises:
        ModelError: if the folder holds no catalogue, or fewer axes than the model is wide.
    """
    if not isinstance(order.task, RecommendationConfig):
        raise ConfigError(f"backbone.kind=items does not fit task.kind={order.task.kind}.")
    folder = find_backbone(config)
    task = order.task_fn({"catalogue": functools.partial(read_catalogue, folder)})
    catalogue, places = read_items(folder)
    if places.shape[1] < config.width:
        raise ModelError(
            f"backbone.width={config.width} exceeds the {places.shape[1]} axes of {config.name};"
            " lower it."
        )
    model = Recommender(
        catalogue.vectors,
        places,
        width=config.width,
        recent=order.task.recent,
        repeats=order.task.repeats,
    )
    return Workload(
        task, model.to(order.compute.device), task.encode, task.synthetic, order.compute
    )


__all__ = ["SCALE", "Recommender", "build_recommender"]
