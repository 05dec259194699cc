"""A simulation's population: one set of records, dealt out to named institutions."""

from datasets import Dataset
from flwr_datasets.partitioner import DirichletPartitioner, IidPartitioner, NaturalIdPartitioner, Partitioner

from confide.client.data import InstitutionData, SplitShares, drop_repeated, encode_splits, split_records, unit_ids
from confide.client.sources import load_records
from confide.config import DataConfig
from confide.errors import ConfigError, DataError
from confide.privacy.randomness import derive_key, seed_from
from confide.tasks.classification import require_columns
from confide.workload import Workload


def deal_out(config: DataConfig, *, label_column: str, content_columns: tuple[str, ...], secret: bytes) -> dict[str, Dataset]:
    """Load records, count repeated ones once, and deal them out.

    Args:
        config: where from, to whom.
        label_column: what the Dirichlet partitioner skews.
        content_columns: what makes a record what it is.
        secret: of the simulation; decides where ``partition_seed`` is null.

    Returns:
        Institution -> records, in the order of their names.

    Raises:
        DataError: if the records do not suit the partitioner.
        ConfigError: if there are not ``num_clients`` institutions.
    """
    records = load_records(config.path)
    seed = config.partition_seed if config.partition_seed is not None else seed_from(secret, "partition") % 2**32
    records, _ = drop_repeated(records, unit_ids(records, id_column=config.id_column, content_columns=content_columns))
    if config.partitioner != "natural" or config.max_records is not None:
        records = records.shuffle(seed=seed, keep_in_memory=True)
    if config.max_records is not None:
        records = records.select(range(min(len(records), config.max_records)))
    partitioner = _partitioner(config, label_column, records, seed)
    partitioner.dataset = records
    try:
        count = partitioner.num_partitions
        parts = {_name(config, partitioner, index): partitioner.load_partition(index) for index in range(count)}
    except ValueError as error:
        raise DataError(f"data.partitioner={config.partitioner}: {error}") from None
    if len(parts) != config.num_clients:
        raise ConfigError(
            f"data.num_clients={config.num_clients}, but column {config.partition_by} names {len(parts)}: "
            f"{', '.join(sorted(parts))}."
        )
    return parts if config.partitioner != "natural" else dict(sorted(parts.items()))


def _partitioner(config: DataConfig, label_column: str, records: Dataset, seed: int) -> Partitioner:
    if config.num_clients > len(records):
        raise DataError(f"data.num_clients={config.num_clients} exceeds the {len(records)} records of {config.path}; lower it.")
    if config.partitioner == "iid":
        return IidPartitioner(config.num_clients)  # cuts blocks of records that were shuffled before
    column = config.partition_by if config.partitioner == "natural" else label_column
    assert column is not None
    require_columns(records, [column])
    if config.partitioner == "natural":
        nulls = sum(value is None for value in records[column])
        if nulls:
            raise DataError(f"Column {column}: {nulls} of {len(records)} records name no institution; name one or remove them.")
        return NaturalIdPartitioner(column)
    return DirichletPartitioner(config.num_clients, partition_by=column, alpha=config.alpha, min_partition_size=10, seed=seed)


def _name(config: DataConfig, partitioner: Partitioner, index: int) -> str:
    if isinstance(partitioner, NaturalIdPartitioner):
        return str(partitioner.partition_id_to_natural_id[index])
    return f"{config.institution}-{index + 1}"


def encode_institution(
    name: str, records: Dataset, config: DataConfig, *, workload: Workload, secret: bytes
) -> InstitutionData:
    """Split and encode one institution's records as it would itself.

    Raises:
        DataError: naming the institution and what does not fit.
    """
    ids = unit_ids(records, id_column=config.id_column, content_columns=workload.task.content_columns())
    shares = SplitShares(validation=config.validation, test=config.test)
    splits = split_records(records, ids, key=derive_key(secret, "split", name), shares=shares)
    return encode_splits(name, splits, lambda part: workload.prepare(part).to(workload.compute.device))


__all__ = ["deal_out", "encode_institution"]
