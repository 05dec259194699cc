"""How records are partitioned: Flower's partitioners by name, and one of our own.

``flwr_datasets`` loads seaborn and SciPy, for plots that nothing here draws, which takes longer
than a whole simulation of a small model. So each is imported where it is chosen, and institutions
that a column names, which need no arithmetic, do without it.
"""

from datasets import Dataset

from confide.client.records.units import take

_FLOWER = "flwr_datasets.partitioner."

PARTITIONERS: dict[str, str] = {
    "continuous": f"{_FLOWER}ContinuousPartitioner",
    "dirichlet": f"{_FLOWER}DirichletPartitioner",
    "distribution": f"{_FLOWER}DistributionPartitioner",
    "exponential": f"{_FLOWER}ExponentialPartitioner",
    "grouped_natural": f"{_FLOWER}GroupedNaturalIdPartitioner",
    "iid": f"{_FLOWER}IidPartitioner",
    "inner_dirichlet": f"{_FLOWER}InnerDirichletPartitioner",
    "linear": f"{_FLOWER}LinearPartitioner",
    "natural": "confide.simulations.partitioners.NaturalPartitioner",
    "pathological": f"{_FLOWER}PathologicalPartitioner",
    "shard": f"{_FLOWER}ShardPartitioner",
    "size": f"{_FLOWER}SizePartitioner",
    "square": f"{_FLOWER}SquarePartitioner",
}
"""``data.partitioner`` -> dotted path of its class."""


class NaturalPartitioner:
    """An institution for each value of a column, as Flower's NaturalIdPartitioner makes them.

    Args:
        partition_by: name of the column.
    """

    def __init__(self, partition_by: str) -> None:
        self._partition_by = partition_by
        self._dataset: Dataset | None = None
        self._rows: dict[str, list[int]] = {}

    @property
    def dataset(self) -> Dataset | None:
        """Records that are partitioned."""
        return self._dataset

    @dataset.setter
    def dataset(self, dataset: Dataset) -> None:
        rows: dict[str, list[int]] = {}
        for row, value in enumerate(dataset[self._partition_by][:]):
            rows.setdefault(value, []).append(row)
        self._dataset, self._rows = dataset, dict(sorted(rows.items()))

    @property
    def num_partitions(self) -> int:
        """Number of institutions."""
        return len(self._rows)

    @property
    def partition_id_to_natural_id(self) -> dict[int, str]:
        """Number of each institution -> its value of the column."""
        return dict(enumerate(self._rows))

    def load_partition(self, partition_id: int) -> Dataset:
        """Return an institution's records, in their order."""
        return take(self._dataset, list(self._rows.values())[partition_id])


__all__ = ["PARTITIONERS", "NaturalPartitioner"]
