"""The part of a summary that tells metrics by groups of records, and gaps between them."""

from collections.abc import Mapping
from typing import Any, cast

from confide.metrics.evaluation import Json, Measured
from confide.metrics.intervals import Z
from confide.metrics.subgroups.gaps import RECORDS, Groups, Measure, gaps, ratio
from confide.metrics.subgroups.kind import Context, group_kind
from confide.metrics.subgroups.pooled import pooled


def describe_subgroups(
    kind: str, measured: Measured, section: Mapping[str, Json]
) -> dict[str, Json]:
    """Return the summary's ``evaluation.subgroups``; {} where nothing is told by group.

    Args:
        kind: of the outcome.
        measured: what institutions told.
        section: the rest of ``evaluation``, which has the metrics of institutions; {} where there
            is none, and so nothing by group either.
    """
    its = group_kind(kind)
    if its is None or not (section and measured.subgroups):
        return {}
    statistics = its.statistics_fn(measured.metrics, list(measured.metrics))
    context = Context(
        labels=measured.labels, positive=_positive(measured), settings=measured.settings
    )
    columns: dict[str, Any] = {}
    for its_groups in measured.subgroups:
        sums = pooled(measured.tallies, statistics, its_groups)
        found = {name: its.measures_fn(one, context) for name, one in sums.items()}
        groups = {
            name: they
            for name, they in found.items()
            if they[RECORDS].value >= measured.least_in_group
        }
        if groups:
            columns[its_groups.column] = {
                "groups": [
                    _line(name, they, sums[name].institutions) for name, they in groups.items()
                ],
                "withheld": [name for name in its_groups.names if name not in groups],
                **_compared(groups),
            }
    section_of_groups: dict[str, Json] = {
        "floor": measured.least_in_group,
        "noise": max((tally.std for tally in measured.tallies.values()), default=0.0),
        "positive": None if context.positive is None else measured.labels[context.positive],
        "columns": columns,
        "institutions": _institutions_compared(cast(Any, section.get("clients", {}))),
    }
    return {"subgroups": section_of_groups}


def _positive(measured: Measured) -> int | None:
    """Return the place of the class that is looked for, of two."""
    if len(measured.labels) != 2:
        return None
    return 1 if measured.positive is None else list(measured.labels).index(measured.positive)


def _line(name: str, measures: Mapping[str, Measure], institutions: int) -> dict[str, Json]:
    told = {key: one.as_figure() for key, one in measures.items() if key != RECORDS}
    return {
        "group": name,
        RECORDS: measures[RECORDS].as_figure(),
        "institutions": institutions,
        "measures": dict(told),
    }


def _compared(groups: Groups) -> dict[str, Any]:
    compared: dict[str, Any] = {"gaps": gaps(groups)}
    selected = ratio(groups)
    return compared | ({"selection_ratio": selected} if selected else {})


def _institutions_compared(clients: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Return the gaps between institutions, of the metrics that they tell anyway.

    Args:
        clients: institution -> ``metrics``, figures with their 95 % intervals.
    """
    groups = {
        who: {name: _known(name, one) for name, one in line["metrics"].items()}
        for who, line in clients.items()
    }
    return gaps({who: they for who, they in groups.items() if they})


def _known(name: str, figure: Mapping[str, Any]) -> Measure:
    """Return a figure as a measure, its interval widened as if it were normal."""
    value, ends = figure["value"], figure["interval"]
    if value is None or not ends:
        return Measure(name=name, value=float("nan"), ends_fn=lambda z: None)
    low, high = (abs(end - value) for end in ends)
    return Measure(
        name=name,
        value=value,
        ends_fn=lambda z: (value - low * z / Z, value + high * z / Z),
    )


__all__ = ["describe_subgroups"]
