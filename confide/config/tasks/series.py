"""What follows in a series: records are windows, made of readings by whoever has these."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from confide.config.fields import STRICT, setting
from confide.config.outcomes.forecast import AHEAD, ForecastConfig
from confide.config.tasks.task import TaskConfig

WINDOW, AT, BLOCK = "window", "at", "block"
"""Columns of made records: readings as a JSON list of steps, the oldest first; the time of the last
one; and the block of time that all of a record lies in."""


@dataclass
class ReadingConfig:
    """A column of readings: numbers on a public range."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    minimum: float | None = setting(None, "Lowest value of the public range.")
    maximum: float | None = setting(None, "Highest value of the public range.")

    @property
    def span(self) -> tuple[float, float]:
        """The public range; of a config that gives none, which is told as a problem, 0 to 1."""
        if self.minimum is None or self.maximum is None:
            return 0.0, 1.0
        return self.minimum, self.maximum

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.minimum is None or self.maximum is None or self.minimum >= self.maximum:
            yield (
                f"minimum={self.minimum}, maximum={self.maximum}: expected two numbers, minimum <"
                " maximum, that say what is possible and not what occurs."
            )


@dataclass
class SeriesConfig(TaskConfig):
    """What follows a window of a series, or what state it shows.

    An institution has a row for each reading. Of a series' rows, in the order of time, it makes
    records: a window of rows, and the values after it, or the label of its last row.
    """

    kind: str = setting("series", "Kind of task.", choices=("series",))
    series_column: str = setting("series", "Column that names the series, such as a machine.")
    time_column: str = setting(
        "time", "Column of the time: numbers, or dates as 2026-11-29T08:00, then in seconds."
    )
    readings: dict[str, ReadingConfig] = setting(
        dict, "Columns of readings, in order, each with its public range."
    )
    lookback: int = setting(24, "Steps of a window.", ge=2, le=4096)
    stride: int = setting(1, "Steps from one window to the next.", ge=1, le=4096)
    step: float | None = setting(
        None,
        "Time from one row to the next; windows in which rows are further apart or closer are left"
        " out. null: rows follow each other whatever their times.",
        gt=0,
    )
    block: float | None = setting(
        None,
        "Length of a block of time, the unit of data.group_column=block: windows that cross an edge"
        " are left out, and so is as much time after an edge as a window is long. null: a whole"
        " series is the unit.",
        gt=0,
    )
    season: int = setting(
        0, "Steps of a season, for the seasonal forecast beside the model; 0: none.", ge=0, le=4096
    )

    @property
    def ahead(self) -> int:
        """Steps after a window that are predicted; 0 where its state is."""
        return self.outcome.steps if isinstance(self.outcome, ForecastConfig) else 0

    @property
    def content_columns(self) -> tuple[str, ...]:
        """The window, and when it ends: equal windows of two times are two."""
        return (AT, WINDOW)

    @property
    def source_columns(self) -> tuple[str, ...]:
        """Columns of readings."""
        label = tuple(name for name in self.target_columns if name != AHEAD)
        return (self.series_column, self.time_column, *self.readings, *label)

    @property
    def number_columns(self) -> tuple[str, ...]:
        """The readings; times may be dates."""
        return tuple(self.readings)

    @property
    def made_columns(self) -> tuple[str, ...]:
        """The block."""
        return (BLOCK,)

    @property
    def owner_columns(self) -> tuple[str, ...]:
        """The block, where there are some, or the series."""
        return (self.series_column,) if self.block is None else (BLOCK, self.series_column)

    @property
    def num_inputs(self) -> int:
        """Numbers of a window."""
        return self.lookback * len(self.readings)

    def unit_note(self, unit: str) -> str:
        """Say that a value is in many windows."""
        if unit != "record":
            return ""
        shared = -(-(self.lookback + self.ahead) // self.stride)
        owner = self.owner_columns[0]
        return (
            f"privacy.unit=record protects one window, and a value lies in up to {shared} of them,"
            " so that its epsilon flatters: no value, day or machine is protected by it. Choose"
            f" privacy=group data.group_column={owner}."
        )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from super().problems()
        if not self.readings:
            yield "readings={}: expected at least one column of readings with its public range."
        if isinstance(self.outcome, ForecastConfig) and self.outcome.column not in self.readings:
            yield (
                f"outcome.column={self.outcome.column}: expected one of readings,"
                f" {', '.join(self.readings)}, which a window holds until then."
            )
        if self.season > self.lookback:
            yield (
                f"season={self.season} exceeds lookback={self.lookback}: the same moment of the"
                " season before is not in a window; lengthen it, or set season=0."
            )


__all__ = ["AT", "BLOCK", "WINDOW", "ReadingConfig", "SeriesConfig"]
