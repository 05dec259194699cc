"""Backbones without weights: logistic regression, sums of curves, and perceptrons on rows."""

from typing import cast

from torch import nn

from confide.config.models.perceptrons import AdditiveConfig, LogisticConfig, MlpConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.task import TaskConfig
from confide.errors import ModelError
from confide.models.networks import Mlp, Span
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
    is_additive = isinstance(config, AdditiveConfig)
    pairs = pair_spans(config, order.task) if isinstance(config, AdditiveConfig) else ()
    products = sum((end - start) * (last - other) for start, end, other, last in pairs)
    widths = [task.num_inputs + products, *hidden, order.task.num_outputs]
    model = Mlp(widths, row_norm=config.row_norm, pairs=pairs).to(order.compute.device)
    if is_additive or (config.row_norm is not None and not hidden):
        # What a random start adds to logits would take noisy steps to unlearn
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
    return Workload(task, model, task.encode, task.synthetic, order.compute)


def pair_spans(config: AdditiveConfig, task: TaskConfig) -> tuple[Span, ...]:
    """Return where in an encoded row the two columns of each pair are.

    Raises:
        ModelError: if the task has no such column, or encodes rows by itself.
    """
    if not config.pairs:
        return ()
    if not isinstance(task, TabularConfig) or task._target_ is not None:
        raise ModelError(f"backbone.pairs={config.pairs}: expected a table's own encoding.")
    missing = {name for pair in config.pairs for name in pair} - set(task.columns)
    if missing:
        raise ModelError(
            f"backbone.pairs names {', '.join(sorted(missing))}; the task has no such column."
        )
    spans: list[Span] = []
    for one, two in config.pairs:
        start, other = task.places([one, two])
        end = start + task.columns[one].width(task.numeric)
        spans.append((start, end, other, other + task.columns[two].width(task.numeric)))
    return tuple(spans)


__all__ = ["build_perceptron", "pair_spans"]
