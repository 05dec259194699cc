"""Which records can be had one institution at a time."""

from confide.config.data import DataConfig
from confide.config.tasks.task import TaskConfig
from confide.simulations.generators.source import generated_source
from confide.simulations.populations.parquet import parquet_source
from confide.simulations.populations.source import RecordSource


def record_source(config: DataConfig, task: TaskConfig) -> RecordSource | None:
    """Return a config's population as a source that makes or reads one institution at a time.

    Args:
        config: settings of the records.
        task: what they must fit.

    Returns:
        The source; None where records have to be read together: whoever partitions them, or puts
        them in the order of institutions, has to see them all.

    Raises:
        DataError: if they cannot be read.
    """
    if config.generator is not None:
        return generated_source(config)
    return parquet_source(config, task)


__all__ = ["record_source"]
