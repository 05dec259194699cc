"""Rows of a table: a unit is a column, whatever it is encoded to."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from datasets import Dataset
from torch import Tensor

from confide.config.tasks.tabular import TabularConfig
from confide.explaining.case import Case, Layout, Unit, expanded
from confide.explaining.network import Network
from confide.explaining.rows import MISSING, Rows, columns_of
from confide.inference.predictor import Predictor
from confide.tasks.tabular import FEATURES, Tabular


class Columns:
    """Takes rows apart by their columns.

    Args:
        predictor: of a table.
        network: the same, whole.
        baseline: name of what rows are compared with.
    """

    layout: Layout = "bars"
    what = "column"
    baselines: ClassVar[Mapping[str, str]] = {
        "centre": "the middle of each column's public range, and no category",
        "missing": "a row with every value missing",
        "least": "the lowest value of each column's public range, and no category",
    }

    def __init__(self, predictor: Predictor, network: Network, baseline: str) -> None:
        self._predictor, self._network = predictor, network
        self._rows = Rows(predictor, network)
        choose: dict[str, Callable[[str], str]] = {
            "centre": self._rows.centre,
            "missing": lambda name: MISSING,
            "least": self._rows.least,
        }
        self._baseline = {name: choose[baseline](name) for name in self._rows.schema}

    def case(self, record: Dataset) -> Case:
        """Take one row apart."""
        row = {name: values[0] for name, values in columns_of(record).items()}
        without = {**row, **self._baseline}
        both = Dataset.from_dict({name: [row[name], without[name]] for name in row})
        examples = self._predictor.task.encode(both)
        batch = examples.take(torch.tensor([0]))
        inputs, baseline = examples.columns[FEATURES].split(1)
        names = list(self._baseline)

        def outputs(features: Tensor) -> Tensor:
            return self._network.outputs(expanded(batch, FEATURES, features))

        def mixed(on: Tensor) -> Tensor:
            # As rows, and not as they are encoded: where rows have one norm each column moves all
            kept = on.bool().T.tolist()
            changed = {
                name: [row[name] if it else without[name] for it in kept[place]]
                for place, name in enumerate(names)
            }
            others = {name: [row[name]] * len(on) for name in row if name not in changed}
            return self._rows.outputs({**others, **changed})

        groups = self._groups(inputs.shape[1])
        return Case(
            units=[Unit(name, self._rows.shown(name, row[name])) for name in names],
            inputs=inputs,
            baseline=baseline,
            groups=groups,
            outputs_fn=outputs,
            mixed_fn=mixed,
            has_gradient=groups is not None and self._network.has_gradient(outputs, inputs),
            batch=batch,
        )

    def _groups(self, width: int) -> Tensor | None:
        """Return which column each input is of; None where a custom task encodes by itself."""
        schema = self._predictor.plan.encoded_task
        if not isinstance(schema, TabularConfig) or not isinstance(self._predictor.task, Tabular):
            return None
        widths = [column.width(schema.numeric) for column in schema.columns.values()]
        if sum(widths) != width or type(self._predictor.task).encode is not Tabular.encode:
            return None
        return torch.arange(len(widths)).repeat_interleave(torch.tensor(widths))


__all__ = ["Columns"]
