"""Settings of survival: until when records were observed, and the public intervals of time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from confide.config.fields import setting
from confide.config.outcomes.outcome import Labelling, LossBounds, OutcomeConfig, listed
from confide.config.spelling import repeats
from confide.metrics.metric import Metric
from confide.metrics.outcomes.survival import SURVIVAL

_MOST = 100
COX = (
    "a Cox partial likelihood compares the record that has the event with all that are still at"
    " risk, so that no record has a loss or a gradient of its own: none can be clipped, and sums of"
    " institutions are not those of all records"
)
"""Why it is not offered."""


@dataclass
class SurvivalConfig(OutcomeConfig):
    """Time until an event, some records censored, learnt by logistic hazards on public intervals.

    Gensheimer and Narasimhan, PeerJ 2019.
    """

    metrics: ClassVar[Mapping[str, Metric]] = SURVIVAL
    linear_model: ClassVar[str] = "a logistic regression of hazards"

    kind: str = setting(
        "survival", "Chosen by its group: task/outcome=survival.", choices=("survival",)
    )
    loss: str = setting(
        "logistic_hazards",
        "Loss of a record. logistic_hazards: cross entropy of the event in each interval in which"
        " the record is at risk. (cox is refused, and says why.)",
    )
    time_column: str = setting(
        "time", "Column that holds how long a record was observed, from 0, in any unit."
    )
    event_column: str = setting(
        "event", "Column that says whether the event ended the observation."
    )
    event_values: list[str] = setting(lambda: ["1"], "Values of event_column that mean the event.")
    censored_values: list[str] = setting(
        lambda: ["0"], "Values of event_column that mean that observation ended without it."
    )
    horizon: float | None = setting(
        None,
        "Public end of the last interval, in the unit of time_column; whoever is observed for"
        " longer is censored there.",
        gt=0,
    )
    intervals: int = setting(
        5, "Intervals of one length from 0 to horizon, if interval_ends is empty.", ge=1, le=_MOST
    )
    interval_ends: list[float] = setting(
        list,
        "Public ends of the intervals, ascending, the last one the horizon; empty: intervals of one"
        " length.",
    )

    @property
    def ends(self) -> tuple[float, ...]:
        """Ends of the intervals, ascending."""
        if self.interval_ends or self.horizon is None:
            return tuple(self.interval_ends)
        # Multiplied first: 3 of 10 intervals of 1 end at 0.3, and not at 0.30000000000000004
        return tuple(self.horizon * (k + 1) / self.intervals for k in range(self.intervals))

    def columns(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the columns of time and event."""
        return self.time_column, self.event_column

    def output_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the hazards, by where their intervals end."""
        return tuple(f"hazard_{end:.12g}" for end in self.ends)

    def label_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name nothing: it is no label."""
        return ()

    def bounds(self, labelling: Labelling) -> LossBounds:
        """Return those of logistic hazards (:mod:`confide.tasks.outcomes.hazards`).

        The Hessian is diagonal, h (1 - h) at most; a gradient has one h - y an interval; and each
        hazard follows from one output.
        """
        return LossBounds(smoothness=0.25, gradient=len(self.ends) ** 0.5, noise=1.0)

    def describe(self, labelling: Labelling, *, purpose: str, records: str) -> str:
        """Say what is predicted, and up to when."""
        return (
            f"Predicts for {records} the probability of being free of the event after"
            f" {listed([f'{end:.12g}' for end in self.ends])}, in the unit of “{self.time_column}”"
        )

    def intended(self, labelling: Labelling) -> str:
        """Say what to use it for."""
        return (
            "rank records of the same kind, from institutions like those that took part, by risk,"
            f" and tell how likely the event is by {self.ends[-1]:.12g}"
        )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.loss != "logistic_hazards":
            why = f": {COX}" if self.loss == "cox" else ""
            yield f"loss={self.loss}{why}; set loss=logistic_hazards."
        named = [*self.event_values, *self.censored_values]
        if not self.event_values or not self.censored_values or repeats(named):
            yield (
                f"event_values={self.event_values}, censored_values={self.censored_values}:"
                " expected at least one value each, and none twice."
            )
        if self.time_column == self.event_column:
            yield f"event_column={self.event_column} is time_column; name another column."
        yield from self._interval_problems()

    def _interval_problems(self) -> Iterator[str]:
        if not self.interval_ends:
            if self.horizon is None:
                yield (
                    "horizon=null, interval_ends=[]: expected a public horizon, such as the longest"
                    " follow-up of the study, or the ends of the intervals."
                )
            return
        edges = [0.0, *self.interval_ends]
        ascending = all(one < other for one, other in pairwise(edges))
        if not ascending or len(edges) > _MOST + 1 or edges[-1] == float("inf"):
            yield (
                f"interval_ends={self.interval_ends[:_MOST]}: expected at most {_MOST} numbers"
                " above 0, ascending."
            )
        if self.horizon not in (None, self.interval_ends[-1]):
            yield (
                f"horizon={self.horizon:.12g}, but interval_ends ends at"
                f" {self.interval_ends[-1]:.12g}; leave one of them out."
            )


__all__ = ["COX", "SurvivalConfig"]
