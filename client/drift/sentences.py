"""What was compared, in plain words."""

from collections.abc import Sequence

import numpy

from confide.client.drift.comparing import Bins
from confide.client.drift.kept import MISSING, UNSEEN, Kept, Numbers
from confide.client.drift.profile import Profile
from confide.config.spelling import counted, written
from confide.pages.wording import in_digits

_OF = {"columns": "", "predictions": "predicted", "labels": "label"}
_STEMS = {"predictions": "predict", "labels": "label"}
"""A name that begins so says by itself what it is of."""
NO_LABELS = (
    "No record that the model was asked about has a label: labels, performance and calibration are"
    " not compared."
)


def too_few(before: int, now: int, floor: int) -> str:
    """Say that nothing can be tested."""
    return (
        f"Too few records to say anything: {now} now and {before} in the reference; at least"
        f" {floor} of each are needed (min_records={floor})."
    )


def absent(name: str, records: int) -> str:
    """Say that no record has a column."""
    return f"Column {name} is missing in all {counted(records, 'record')}."


def not_asked(names: Sequence[str]) -> str:
    """Say that the model could be asked about no record."""
    which = f"column {names[0]}" if len(names) == 1 else f"columns {', '.join(names)}"
    return (
        f"The model needs {which} and was not asked: predictions, records as it sees them,"
        " performance and calibration are not compared."
    )


def refused(refused: int, records: int) -> str:
    """Say how many records have a value that the schema refuses."""
    return (
        f"{refused} of {counted(records, 'record')} have a value that the model's schema refuses,"
        " such as an unknown category; the model was not asked about them."
    )


def unknown_labels(unknown: int, records: int, quoted: Sequence[tuple[str, int]]) -> str:
    """Say how many records have a label that the schema does not know."""
    such = ", ".join(f"{written(name)} ({counted(count, 'record')})" for name, count in quoted)
    return (
        f"{unknown} of {counted(records, 'record')} have a label that the model's schema does not"
        f" know{f', such as {such}' if such else ''}; performance and calibration leave them out."
    )


def no_features(is_now: bool) -> str:
    """Say that a model does not show how it sees records."""
    whose = "this model" if is_now else "the model that made the reference"
    return (
        f"Records as the model sees them are not compared (MMD): {whose} does not show what its"
        " last layer is given, as trees and exported models do not. Of an exported model, name the"
        " RUN that it is of."
    )


def few_features(before: int, now: int, floor: int) -> str:
    """Say that the model was asked about too few records to compare them as it sees them."""
    return (
        f"Records as the model sees them are not compared (MMD): {now} now and {before} in the"
        f" reference, fewer than min_records={floor}."
    )


def few_values(part: str, name: str, before: Kept, now: Kept, floor: int) -> str:
    """Say that one variable has too few values."""
    return (
        f"{named(part, name)}: {counted(now.present, 'value')} now and {before.present} in the"
        f" reference, fewer than min_records={floor}; not compared."
    )


def few_labels(before: int, now: int, floor: int) -> str:
    """Say that too few records have a label."""
    return (
        f"{counted(now, 'record')} with a label now and {before} in the reference, fewer than"
        f" min_records={floor}: performance and calibration are not compared."
    )


def missing(part: str, name: str, before: Numbers, now: Numbers) -> str:
    """Compare shares without a number."""
    first, second = ((it.missing + it.odd) / it.records for it in (before, now))
    if now.odd:
        return (
            f"{named(part, name)}: {_share(now.missing / now.records)} of records have no value,"
            f" {_share(now.odd / now.records)} something that is no number; {_share(first)} one of"
            " both in the reference."
        )
    return (
        f"{named(part, name)}: {_share(second)} of records have no value; {_share(first)} in the"
        " reference."
    )


def numbers(part: str, name: str, before: Numbers, now: Numbers, *, is_sure: bool) -> str:
    """Compare medians and the middle 80 %; say which way they moved where chance is ruled out."""
    first, second = (numpy.quantile(it.values, [0.1, 0.5, 0.9]) for it in (before, now))
    told, now_told = ([in_digits(float(it)) for it in one] for one in (first, second))
    unit = " characters" if before.measures_length else ""
    change = f"{_change(before, first[1], second[1])}: " if is_sure else ""
    return (
        f"{named(part, name)}: {change}median {now_told[1]}{unit}, {told[1]} in the reference;"
        f" eight in ten from {now_told[0]} to {now_told[2]}, {told[0]} to {told[2]} in the"
        " reference."
    )


def _change(before: Numbers, first: float, second: float) -> str:
    of, up, down = "values are", "higher", "lower"
    if before.measures_length:
        of, up, down = "texts are", "longer", "shorter"
    return f"{of} {up if second > first else down if second < first else 'spread otherwise'}"


def categories(part: str, name: str, bins: Bins) -> str:
    """Tell the category whose share changed most."""
    first, second = bins.reference / bins.reference.sum(), bins.now / bins.now.sum()
    place = int(numpy.abs(second - first).argmax())
    what = bins.names[place]
    unseen = "label" if part == "labels" else "category"
    told = {MISSING: "have no value", UNSEEN: f"have a {unseen} that the reference does not"}
    begins = f"{named(part, name)}: {_share(second[place])} of records "
    ends = f"; {_share(first[place])} in the reference."
    return begins + (told.get(what, f"are {what}")) + ends


def features(distance: float) -> str:
    """Tell how far all records lie from those of the reference."""
    return (
        f"Taken together, as the model sees them, records are {distance:.2f} away from those of the"
        " reference (0: alike)."
    )


def performance(before: Profile, now: Profile, *, is_sure: bool) -> str:
    """Tell the mean loss, and the metric that decides; that it is worse where chance is ruled out.

    Args:
        before: profile of the reference.
        now: profile now.
        is_sure: whether chance is ruled out.
    """
    first, second = float(before.losses.mean()), float(now.losses.mean())
    metric = now.primary_metric
    values = before.metrics.get(metric), now.metrics.get(metric)
    told = ""
    if values[0] is not None and values[1] is not None:
        told = f"{metric} {values[1]:.3f}, {values[0]:.3f} in the reference; "
    verdict = "does worse than" if is_sure else "does not surely do worse than"
    return (
        f"On {counted(len(now.losses), 'labelled record')} the model {verdict} on those of the"
        f" reference: {told}mean loss {second:.3f}, {first:.3f} in the reference."
    )


def calibration(errors: Sequence[float], scores: Sequence[float]) -> str:
    """Tell expected calibration errors and Brier scores, of the reference and now."""
    return (
        f"Stated probabilities are {errors[1]:.3f} from what came true, on average,"
        f" {errors[0]:.3f} in the reference; Brier score {scores[1]:.3f}, {scores[0]:.3f} in the"
        " reference."
    )


def named(part: str, name: str) -> str:
    """Name a variable, and what it is of, unless its name says so.

    >>> named("predictions", "prediction"), named("predictions", "score"), named("columns", "age")
    ('prediction', 'predicted score', 'age')
    """
    says_so = name.casefold().startswith(_STEMS.get(part, ""))
    return name if says_so else f"{_OF[part]} {name}"


def _share(value: float) -> str:
    """Write a share in per cent, with a digit more where it would be 0 or 100."""
    percent = 100 * value
    whole = f"{percent:.0f} %"
    if whole in ("0 %", "100 %") and percent not in (0, 100):
        return f"{percent:.2g} %" if percent < 1 else f"{percent:.1f} %"
    return whole


__all__ = [
    "NO_LABELS",
    "absent",
    "calibration",
    "categories",
    "features",
    "few_features",
    "few_labels",
    "few_values",
    "missing",
    "named",
    "no_features",
    "not_asked",
    "numbers",
    "performance",
    "refused",
    "too_few",
    "unknown_labels",
]
