"""A population of made-up institutions, of which one is made at a time."""

from dataclasses import dataclass

import pyarrow
import torch
from datasets import Dataset


@dataclass
class Made:
    """Institutions that hold ``rows`` rows of one number and a label, a RecordSource.

    ``spoilt`` is the index of one whose records do not fit.
    """

    num_institutions: int
    rows: int = 30
    spoilt: int | None = None

    def name(self, index: int) -> str:
        return f"client-{index + 1:0{len(str(self.num_institutions))}}"

    def index(self, name: str) -> int:
        number = name.removeprefix("client-")
        index = int(number) - 1 if number.isdigit() else -1
        if not 0 <= index < self.num_institutions or self.name(index) != name:
            raise KeyError(name)
        return index

    def num_records(self, index: int) -> int:
        return self.rows

    def records(self, index: int) -> Dataset:
        drawn = torch.rand(self.rows, generator=torch.Generator().manual_seed(index)).tolist()
        labels = ["yes" if value > 0.5 else "no" for value in drawn]
        if index == self.spoilt:
            labels[0] = "perhaps"
        table = pyarrow.table({"a": [f"{value:.6f}" for value in drawn], "label": labels})
        return Dataset(table, fingerprint=f"made-{index}-{self.rows}")
