"""Backbones without weights: logistic regression and perceptrons on rows of numbers."""

from typing import cast

from torch import nn

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
    widths = [task.num_inputs, *hidden, order.task.num_outputs]
    model = Mlp(widths, row_norm=config.row_norm).to(order.compute.device)
    if config.row_norm is not None and not hidden:
        # What a random start adds to logits would take noisy steps to unlearn
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
    return Workload(task, model, task.encode, task.synthetic, order.compute)


__all__ = ["build_perceptron"]
