"""What was compared, in plain words."""

from collections.abc import Sequence

import numpy

from confide.client.drift.comparing import Bins
from confide.client.drift.kept import MISSING, UNSEEN, Kept, Numbers
from confide.client.drift.profile import Profile
from confide.config.spelling import counted

_OF = {"columns": "", "predictions": "predicted ", "labels": "label "}
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


def gone(name: str) -> str:
    """Say that a column of the reference is not there."""
    return f"{name}: the records now have no such column; not compared."


def few_values(part: str, name: str, before: Kept, now: Kept, floor: int) -> str:
    """Say that one variable has too few values."""
    return (
        f"{_named(part, name)}: {counted(now.present, 'value')} now and {before.present} in the"
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
            f"{_named(part, name)}: {_share(now.missing / now.records)} of records have no value,"
            f" {_share(now.odd / now.records)} something that is no number; {_share(first)} one of"
            " both at training."
        )
    return (
        f"{_named(part, name)}: {_share(second)} of records have no value; {_share(first)} at"
        " training."
    )


def numbers(part: str, name: str, before: Numbers, now: Numbers) -> str:
    """Compare medians and the middle 80 %."""
    of = "texts are" if before.measures_length else "values are"
    first, second = (numpy.quantile(it.values, [0.1, 0.5, 0.9]) for it in (before, now))
    way = "higher" if second[1] > first[1] else "lower" if second[1] < first[1] else "spread"
    if before.measures_length:
        way = {"higher": "longer", "lower": "shorter", "spread": "spread"}[way]
    change = f"{of} {way}" if way != "spread" else f"{of} spread otherwise"
    unit = " characters" if before.measures_length else ""
    return (
        f"{_named(part, name)}: {change}: median {second[1]:.4g}{unit}, {first[1]:.4g} at training;"
        f" eight in ten from {second[0]:.4g} to {second[2]:.4g}, {first[0]:.4g} to {first[2]:.4g}"
        " at training."
    )


def categories(part: str, name: str, bins: Bins) -> str:
    """Tell the category whose share changed most."""
    first, second = bins.reference / bins.reference.sum(), bins.now / bins.now.sum()
    place = int(numpy.abs(second - first).argmax())
    what = bins.names[place]
    told = {MISSING: "have no value", UNSEEN: "have a category that training never saw"}
    begins = f"{_named(part, name)}: {_share(second[place])} of records "
    ends = f"; {_share(first[place])} at training."
    return begins + (told.get(what, f"are {what}")) + ends


def features(distance: float) -> str:
    """Tell how far all records lie from those of the reference."""
    return (
        f"Taken together, as the model sees them, records are {distance:.2f} away from those at"
        " training (0: alike)."
    )


def performance(before: Profile, now: Profile) -> str:
    """Tell the mean loss, and the metric that decides."""
    first, second = float(before.losses.mean()), float(now.losses.mean())
    metric = now.primary_metric
    values = before.metrics.get(metric), now.metrics.get(metric)
    told = ""
    if values[0] is not None and values[1] is not None:
        told = f"{metric} {values[1]:.3f}, {values[0]:.3f} in the reference; "
    way = "worse than" if second > first else "no worse than"
    return (
        f"On {counted(len(now.losses), 'labelled record')} the model does {way} on those of the"
        f" reference: {told}mean loss {second:.3f}, {first:.3f} in the reference."
    )


def calibration(errors: Sequence[float], scores: Sequence[float]) -> str:
    """Tell expected calibration errors and Brier scores, of the reference and now."""
    return (
        f"Stated probabilities are {errors[1]:.3f} from what came true, on average,"
        f" {errors[0]:.3f} in the reference; Brier score {scores[1]:.3f}, {scores[0]:.3f} in the"
        " reference."
    )


def _named(part: str, name: str) -> str:
    return f"{_OF[part]}{name}"


def _share(value: float) -> str:
    """Write a share in per cent, with a digit more where it would be 0 or 100."""
    percent = 100 * value
    whole = f"{percent:.0f} %"
    if whole in ("0 %", "100 %") and percent not in (0, 100):
        return f"{percent:.2g} %" if percent < 1 else f"{percent:.1f} %"
    return whole


__all__ = [
    "NO_LABELS",
    "calibration",
    "categories",
    "features",
    "few_labels",
    "few_values",
    "gone",
    "missing",
    "numbers",
    "performance",
    "too_few",
]
