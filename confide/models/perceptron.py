"""Backbones without weights: logistic regression and perceptrons on rows of numbers."""

from typing import cast

from confide.config.model import LogisticConfig, MlpConfig
from confide.models.networks import Mlp
from confide.models.workload import Order, Workload
from confide.tasks.task import TableTask


def build_perceptron(config: LogisticConfig | MlpConfig, order: Order) -> Workload:
    """Build a perceptron; without hidden layers, logistic regression.

    Args:
        config: with ``hidden`` widths, or without.
        order: whose task encodes rows of numbers.
    """
    # Without weights there is no folder in which anything could lie beside them.
    task = cast(TableTask, order.task_fn({}))
    hidden = config.hidden if isinstance(config, MlpConfig) else []
    model = Mlp([task.num_inputs, *hidden, order.task.num_outputs]).to(order.compute.device)
    return Workload(task, model, task.encode, task.synthetic, order.compute)


__all__ = ["build_perceptron"]
