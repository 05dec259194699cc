"""Times and windows that were measured, from files."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import pandas

from confide.config.delays.trace import TraceDelaysConfig
from confide.errors import ConfigError
from confide.simulations.virtual.times import DrawFn


def trace(settings: TraceDelaysConfig) -> DrawFn:
    """Take a client's times in the order of its rows, and from the first again.

    Raises:
        ConfigError: if the file cannot be read, or a value is no time.
    """
    setting = "simulation.delays.path"
    rows = read_trace(setting, settings.path, ("seconds",))

    def draw(client: str, number: int, source: Random) -> float:
        times = rows.get(client)
        if times is None:
            raise ConfigError(
                f"{setting}={settings.path} has no row of client {client}; add one, or choose"
                " another simulation/delays."
            )
        return times[(number - 1) % len(times)][0]

    return draw


def windows(path: str) -> Mapping[str, Sequence[tuple[float, float]]]:
    """Read when clients are there: client -> (start, end), ascending and apart.

    Raises:
        ConfigError: if the file cannot be read, or windows overlap or are empty.
    """
    setting = "simulation.delays.availability.trace"
    read = read_trace(setting, path, ("start_s", "end_s"))
    found = {client: [(row[0], row[1]) for row in sorted(rows)] for client, rows in read.items()}
    for client, spans in found.items():
        ends = [0.0, *(end for _, end in spans)]
        if any(end <= start for start, end in spans) or any(
            start < before for (start, _), before in zip(spans, ends, strict=False)
        ):
            raise ConfigError(
                f"{setting}={path}: the windows of {client} overlap, or one ends before it starts;"
                " correct them."
            )
    return found


def read_trace(
    setting: str, path: str, columns: Sequence[str]
) -> dict[str, list[tuple[float, ...]]]:
    """Read a table of ``client`` and numbers >= 0: client -> its rows.

    Args:
        setting: that names the file, for errors.
        path: .csv or .parquet.
        columns: of numbers.

    Raises:
        ConfigError: if the file cannot be read, lacks a column, or has a value that is no number.
    """
    read_fn = pandas.read_parquet if Path(path).suffix == ".parquet" else pandas.read_csv
    try:
        table = read_fn(path)
    except (OSError, ValueError, ImportError) as error:
        told = isinstance(error, OSError) and error.strerror
        reason = told or str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(f"{setting}={path} cannot be read: {reason}.") from None
    lacking = [name for name in ("client", *columns) if name not in table]
    if lacking or not len(table):
        what = f"lacks the column {', '.join(lacking)}" if lacking else "has no rows"
        raise ConfigError(f"{setting}={path} {what}; expected client, {', '.join(columns)}.")
    rows: dict[str, list[tuple[float, ...]]] = {}
    clients = table["client"].astype(str)
    values = [pandas.to_numeric(table[name], errors="coerce").tolist() for name in columns]
    for place, client in enumerate(clients):
        row = tuple(float(column[place]) for column in values)
        if not all(math.isfinite(value) and value >= 0 for value in row):
            raise ConfigError(
                f"{setting}={path}, row {place + 1}: expected {', '.join(columns)} >= 0."
            )
        rows.setdefault(client, []).append(row)
    return rows


__all__ = ["read_trace", "trace", "windows"]
