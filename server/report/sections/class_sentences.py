"""Sentences on a classification's test, in words that fit any task: who reads them knows it."""

from collections.abc import Mapping, Sequence
from typing import Any

_NAMED = 8


def percent(value: float) -> str:
    """Return a share as text.

    >>> percent(0.5), percent(0.0051)
    ('50 %', '0.51 %')
    """
    shown = 100 * value
    return f"{shown:.2g} %" if shown < 9.95 else f"{shown:.0f} %"


def within(figure: Mapping[str, Any], digits: int = 2) -> str:
    """Return a figure's 95 % interval as text, in brackets and a space first; '' for none."""
    ends = figure.get("interval")
    return f" ({ends[0]:.{digits}f} to {ends[1]:.{digits}f})" if ends else ""


def percent_within(figure: Mapping[str, Any]) -> str:
    """Return a share and its 95 % interval as text."""
    if figure["value"] is None:
        return "an unknown share"
    ends = figure.get("interval")
    more = f" ({percent(ends[0])} to {percent(ends[1])})" if ends else ""
    return percent(figure["value"]) + more


def counted(evaluation: Mapping[str, Any]) -> str:
    """Return a sentence about what the figures are made of."""
    names = listed_names(evaluation["counted"])
    noise = evaluation["noise"]
    sure = (
        f" Institutions released these counts with noise, of a standard deviation of {noise:.3g}"
        " records each; intervals cover noise and number of records."
        if noise
        else " Intervals are of 95 %, and follow from the number of records."
    )
    return (
        f"Counts of {evaluation['records']:,.0f} test records of {names}, by score in"
        f" {evaluation['bins']:,} bins and by class.{sure}"
    )


def listed_names(who: Sequence[str] | int) -> str:
    """Name institutions, or say how many they are, as a summary of many does."""
    if isinstance(who, int):
        return f"{who:,} institutions"
    if len(who) == 1:
        return who[0]
    few = len(who) <= _NAMED
    return f"{', '.join(who[:-1])} and {who[-1]}" if few else f"{len(who):,} institutions"


def calibrated(name: str, one: Mapping[str, Any]) -> str:
    """Return sentences about how far a class's probabilities can be believed."""
    error, predicted = one["calibration_error"], one["predicted"]
    if error["value"] is None:
        return ""
    return (
        f"The model expects {percent(predicted)} of the records to be “{name}”, and"
        f" {percent_within(one['observed'])} are. Probabilities are off by {error['value']:.3f} on"
        f" average{within(error, 3)}; with so many records"
        f"{' and this noise' if one.get('noise') else ''} a perfectly calibrated model would seem"
        f" off by {error['by_chance']:.3f}."
    )


def cheapest(thresholds: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Return sentences about the threshold that costs least, and why it is that one."""
    costs = thresholds["costs"]
    missed, wrong = costs["false_negative"], costs["false_positive"]
    ratio = (
        "Both mistakes cost the same"
        if missed == wrong
        else f"A missed one costs {missed:g} and a false alarm {wrong:g}"
    )
    on = "validation" if thresholds["chosen_on"] == "validation" else "these very test"
    at = f"{thresholds['chosen']:.3f}"
    if thresholds["chosen_by"] == "costs":
        which = (
            f"The threshold that follows from these costs is {at}, and no other is cheaper on {on}"
            " records beyond chance"
        )
    else:
        which = (
            f"The cheapest threshold on {on} records is {at}; if probabilities were right, it would"
            f" be {thresholds['if_calibrated']:.3f}"
        )
    return (
        f"{ratio} (report.costs). {which}. A record then costs"
        f" {row['cost']['value']:.3f}{within(row['cost'])}, against"
        f" {thresholds['cost_of_nobody']:.3f} if none is taken and"
        f" {thresholds['cost_of_everybody']:.3f} if every one is."
    )


def below(positive: str, row: Mapping[str, Any]) -> str:
    """Return what a threshold does with the records below it: approved, or sent home."""
    return (
        f"Below {row['threshold']:.3f} are {percent_within(complement(row['flagged']))} of all"
        f" records, and {percent_within(complement(row['npv']))} of these turn out “{positive}”."
        f" Of the records that are not, {percent_within(complement(row['specificity']))} are at or"
        " above it."
    )


def at_or_above(positive: str, row: Mapping[str, Any], thresholds: Mapping[str, Any]) -> str:
    """Return what a threshold does with the records at or above it: declined, or examined."""
    ppv, found = row["ppv"]["value"], row["sensitivity"]
    each = f", {1 / ppv:.2g} for each one that is “{positive}”" if ppv else ""
    return (
        f"At or above {row['threshold']:.3f} are {percent_within(row['flagged'])} of all"
        f" records{each}, and it misses {percent_within(complement(found))} of those that are"
        f" “{positive}”. Its net benefit is {row['net_benefit']['value']:.3f}"
        f"{within(row['net_benefit'])}, against {thresholds['net_benefit_of_everybody']:.3f} of"
        " taking every record and 0 of taking none."
    )


def complement(figure: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figure of what is left of a share."""
    value, ends = figure["value"], figure.get("interval")
    return {
        "value": None if value is None else 1 - value,
        "interval": [1 - ends[1], 1 - ends[0]] if ends else None,
    }


__all__ = [
    "at_or_above",
    "below",
    "calibrated",
    "cheapest",
    "complement",
    "counted",
    "listed_names",
    "percent",
    "percent_within",
    "within",
]
