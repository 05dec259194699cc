"""``confide partition``: writes a simulation's records, a file for each institution."""

import csv
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from confide.config.composing.compose import compose
from confide.config.composing.folders import own_configs
from confide.config.custom import look_in_current_folder
from confide.errors import ConfigError, StorageError
from confide.storage.files import folder_name, replace_file
from confide.terminal import plain

if TYPE_CHECKING:
    from datasets import Dataset

_HELP = """Write the partitioned records of a simulation, one CSV file for each institution.

usage: confide partition FOLDER [--config-dir DIR] [OVERRIDES ...]

--config-dir DIR (-cd) adds a folder of your own configs; conf/ in the current folder is found by
itself.

  confide partition records experiment=heart_disease

With them a deployment can be tried: the files hold the records that `confide simulate` with the
same overrides trains on, so that a deployment in which every kit says data.public=true and
policy.allow_reproducible_noise=true gives the same model. Only for records that anybody may
read."""


def main(argv: Sequence[str]) -> int:
    """Run ``confide partition``.

    Args:
        argv: arguments after ``partition``.

    Returns:
        The exit status.

    Raises:
        ConfigError: if the command or its config is wrong.
        DataError: if the records do not fit.
    """
    words = list(argv)
    if not words or words[0] in {"-h", "--help", "help"}:
        print(_HELP)
        return 0
    with own_configs(words) as rest:
        return _partition(rest)


def _partition(words: Sequence[str]) -> int:
    folders = [word for word in words if "=" not in word]
    if len(folders) != 1:
        raise ConfigError("confide partition FOLDER [OVERRIDES ...]: name one folder to write to.")
    config = compose([word for word in words if "=" in word])
    look_in_current_folder(config.custom_parts)
    # Imported once the config is known to be right: reading records takes pandas and datasets.
    from confide.client.records.sources.files import write_files
    from confide.privacy.keys import seeded_secret
    from confide.simulations.population import partition_records

    if config.simulation.seed is None:
        raise ConfigError(
            "simulation.seed=null: these files could never be made again; set a seed."
        )
    population = partition_records(
        config.data, task=config.task, secret=seeded_secret(config.simulation.seed)
    )
    folder = Path(folders[0])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made: {error}.") from None
    for name, records in population.parts.items():
        path = folder / f"{folder_name(name)}.csv"
        if config.task.files is not None:
            records = write_files(records, config.task.files, folder)
        replace_file(path, functools.partial(_write_csv, records), mode=0o600)
        print(plain(f"{path}: {len(records)} records of {name}"))
    for sentence in population.tally.sentences():
        print(plain(f"confide partition: {sentence}"), file=sys.stderr)
    return 0


def _write_csv(records: "Dataset", path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(records.column_names)
        writer.writerows(zip(*(records[name][:] for name in records.column_names), strict=True))


__all__ = ["main"]
