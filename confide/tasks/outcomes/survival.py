"""Survival: how long until an event, where some records are only known to have gone without it.

Targets are (place, event), float32 of shape [n, 2]: where in the public intervals a record's
observation ends, and whether the event ended it. Scores are the probabilities of being free of the
event at the end of each interval, [n, K].
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy
from numpy.typing import NDArray

from confide.config.outcomes.outcome import Labelling
from confide.config.outcomes.survival import SurvivalConfig
from confide.config.spelling import counted, name_index, spelled_in, written
from confide.metrics.ends import risk
from confide.tasks.outcomes.outcome import Targets, Values, all_there
from confide.tasks.reading import Problem, distinct_of, first, number_of

if TYPE_CHECKING:
    from torch import Tensor

EVENT, CENSORED = "event", "censored"
RISK = "risk"
"""Column of a prediction that ranks records, beside those of probabilities."""
_SHOWN = 5

Flags = NDArray[numpy.bool_]


class Survival:
    """Discrete survival time, learnt by logistic hazards.

    Args:
        config: columns, and the public intervals.
        labelling: not read.
    """

    target_shape = (2,)
    score_name, score_unit = "survival", 1.0

    def __init__(self, config: SurvivalConfig, labelling: Labelling) -> None:
        self._config = config
        self._ends = config.ends
        self._columns = config.columns(labelling)

    @property
    def score_shape(self) -> tuple[int, ...]:
        """One probability an interval."""
        return (len(self._ends),)

    # --- records

    def read(self, columns: Mapping[str, Sequence[object]]) -> Targets:
        """Read times and events; a time beyond the horizon is censored there."""
        times, problems = self._times(columns[self._config.time_column])
        events, known, others = self._events(columns[self._config.event_column])
        problems += others
        known &= ~numpy.isnan(times)
        horizon = self._ends[-1]
        beyond = known & (times > horizon)
        notes = []
        if beyond.any():
            notes.append(
                Problem(
                    f"Column {self._config.time_column}: {beyond.sum()} of {len(times)} times are"
                    f" beyond the horizon, {horizon:.12g}; these records are censored there,"
                    f" {(beyond & events).sum()} of them with a later event.",
                    first(beyond),
                )
            )
        places = in_intervals(numpy.where(known, times, 0.0).clip(0, horizon), self._ends)
        values = numpy.stack([places, events & ~beyond & known], axis=1).astype(numpy.float32)
        return Targets(values, known, problems, notes)

    def _times(self, values: Sequence[object]) -> tuple[NDArray[numpy.float64], list[Problem]]:
        """Read times; NaN where there is none that fits."""
        column = self._config.time_column
        codes, distinct = distinct_of(values)
        text = [str(value).strip() for value in distinct]
        numbers = numpy.array([*map(number_of, text), numpy.nan])
        empty = numpy.array([*(one == "" for one in text), True])[codes]
        times = numbers[codes]
        problems = []
        for wrong, what in (
            (empty, "times are missing; say until when each record was observed, or remove it"),
            (numpy.isnan(times) & ~empty, "times are not numbers; correct them"),
            (times < 0, "times are negative; count them from where observation began"),
        ):
            if wrong.any():
                text_of = f"Column {column}: {wrong.sum()} of {len(times)} {what}."
                problems.append(Problem(text_of, first(wrong)))
        times[times < 0] = numpy.nan
        return times, problems

    def _events(self, values: Sequence[object]) -> tuple[Flags, Flags, list[Problem]]:
        """Read whether the event was seen, and where that is known."""
        config = self._config
        names = [*config.event_values, *config.censored_values]
        index = name_index(names)
        codes, distinct = distinct_of(values)
        text = [str(value) for value in distinct]
        found = numpy.array([*(index.get(spelled_in(index, one), -1) for one in text), -1])[codes]
        empty = numpy.array([*(one.strip() == "" for one in text), True])[codes]
        strange = (found < 0) & ~empty
        problems = []
        if empty.any():
            told = (
                f"Column {config.event_column}: {empty.sum()} of {len(found)} values are missing;"
                " say whether the event was seen, or remove these records."
            )
            problems.append(Problem(told, first(empty)))
        if strange.any():
            counts = Counter(text[code] for code in codes[strange].tolist()).most_common(_SHOWN)
            shown = ", ".join(
                f"{written(value)} ({counted(count, 'record')})" for value, count in counts
            )
            told = (
                f"Column {config.event_column}: {shown}: neither in"
                f" outcome.event_values={config.event_values} nor in"
                f" outcome.censored_values={config.censored_values}; correct the records, or name"
                " these values there."
            )
            problems.append(Problem(told, first(strange)))
        known: Flags = found >= 0
        return known & (found < len(config.event_values)), known, problems

    def counts(self, values: Values) -> dict[str, int]:
        """Count records with the event, and censored ones."""
        events = int((values[:, 1] > 0).sum())
        return {EVENT: events, CENSORED: len(values) - events}

    def count_problems(
        self, counts: Mapping[str, int], *, total: int, minimum: int
    ) -> Iterator[str]:
        """Yield a sentence if too few events were seen; nobody has to be censored."""
        if counts[EVENT] < minimum:
            yield (
                f"Events by the horizon, {self._ends[-1]:.12g}: {counts[EVENT]} of {total} records,"
                f" expected at least data.min_per_label={minimum}; bring more, raise the horizon,"
                " or lower data.min_per_label."
            )

    def strata(self, values: Values) -> list[str]:
        """Say of each record whether its event was seen."""
        return [EVENT if seen else CENSORED for seen in (values[:, 1] > 0).tolist()]

    def invent(self, count: int, generator: numpy.random.Generator) -> Mapping[str, list[str]]:
        """Draw times, some beyond the horizon, and whether the event was seen."""
        times = generator.uniform(0, 1.1 * self._ends[-1], count)
        seen = [self._config.event_values[0], self._config.censored_values[0]]
        columns = ([repr(time) for time in times.tolist()], generator.choice(seen, count).tolist())
        return dict(zip(self._columns, columns, strict=True))

    # --- a model

    def loss(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the loss of logistic hazards."""
        from confide.tasks.outcomes.hazards import hazard_losses

        return hazard_losses(outputs, targets)

    def scores(self, outputs: "Tensor") -> "Tensor":
        """Return probabilities of being free of the event at the end of each interval."""
        from confide.tasks.outcomes.hazards import survival

        return survival(outputs)

    def measured(self, scores: Values, targets: Values) -> tuple[Values, Values]:
        """Return both as float64."""
        return scores.astype(numpy.float64), targets.astype(numpy.float64)

    # --- predictions

    def prediction_columns(self) -> Sequence[str]:
        """Name the risk's column and one an interval's end."""
        return (RISK, *(f"{self.score_name}_{end:.12g}" for end in self._ends))

    def predictions(self, scores: Values) -> Mapping[str, Sequence[object] | Values]:
        """Give each record's risk, and its probability of being free of the event at each end."""
        columns = self.prediction_columns()
        return dict(zip(columns, [risk(scores), *scores.T], strict=True))

    def placeholder(self) -> Mapping[str, str]:
        """Return a record that was not observed at all."""
        return dict(zip(self._columns, ("0", self._config.censored_values[0]), strict=True))

    def labelled(self, columns: Mapping[str, Sequence[str | None]]) -> list[bool]:
        """Say which records have a time, and whether the event was seen then."""
        return all_there(columns, self._columns)


def in_intervals(times: NDArray[numpy.float64], ends: Sequence[float]) -> NDArray[numpy.float32]:
    """Return where in the intervals times are: 2.5 in the middle of the third one.

    A moment between two intervals belongs to the one that it ends.

    Args:
        times: from 0 to the last end, shape [n].
        ends: of the intervals, ascending; the first one begins at 0.
    """
    edges = numpy.array([0.0, *ends])
    interval = (numpy.searchsorted(edges, times, side="left") - 1).clip(0, len(ends) - 1)
    exact = interval + (times - edges[interval]) / numpy.diff(edges)[interval]
    # Up into its own interval: as a float32, a moment just after an end could be that end
    single = exact.astype(numpy.float32)
    first_after = numpy.nextafter(interval.astype(numpy.float32), numpy.float32(numpy.inf))
    placed: NDArray[numpy.float32] = numpy.where(
        times > edges[interval], numpy.maximum(single, first_after), single
    )
    return placed


__all__ = ["CENSORED", "EVENT", "RISK", "Survival", "in_intervals"]
