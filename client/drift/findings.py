"""Two profiles, compared: a finding for each test, and whether any is an alarm."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy

from confide.client.drift import sentences
from confide.client.drift.comparing import (
    Bins,
    Compared,
    brier,
    calibration_change,
    category_bins,
    chi_square,
    expected_error,
    higher_mean,
    holm,
    kolmogorov_smirnov,
    mean_discrepancy,
    missing_shares,
    number_bins,
)
from confide.client.drift.kept import Categories, Kept, Numbers
from confide.client.drift.profile import PARTS, Profile
from confide.config.drift import DriftConfig

_LEAST_DRAWS = 999
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What of a model's world a test is about.

    Attributes:
        title: in a table.
        test: name of the test.
        threshold: setting of :class:`~confide.config.drift.DriftConfig` that effects are held to;
            '' for one that always counts.
        effect: what the effect is called.
    """

    title: str
    test: str
    threshold: str
    effect: str


ABSENT = "absent"
"""Kind of finding that needs no test."""
KINDS: dict[str, Kind] = {
    ABSENT: Kind(title="column", test="no test: it is certain", threshold="", effect="share"),
    "numbers": Kind(title="values", test="Kolmogorov-Smirnov", threshold="psi", effect="PSI"),
    "categories": Kind(title="categories", test="chi-square", threshold="psi", effect="PSI"),
    "missing": Kind(title="missing values", test="Fisher", threshold="psi", effect="PSI"),
    "features": Kind(
        title="records as the model sees them",
        test="MMD, permutations",
        threshold="mmd",
        effect="MMD",
    ),
    "performance": Kind(
        title="performance",
        test="permutations of losses",
        threshold="performance",
        effect="deviations",
    ),
    "calibration": Kind(
        title="calibration",
        test="permutations of gaps",
        threshold="calibration",
        effect="mean distance",
    ),
}
"""Tests, by name."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one test found, or what is certain without one.

    Attributes:
        part: columns, predictions or labels for a variable; model for what concerns all records.
        name: of the variable; '' of none.
        kind: one of :data:`KINDS`.
        statistic: of the test; 0 without one.
        p_value: of this test alone; 0 for what is certain.
        adjusted: p-value that holds for all tests of the check together.
        effect: how large the difference is.
        threshold: from which effect on it counts.
        is_alarm: whether it is both sure and large.
        sentence: what is the case, in plain words.
    """

    part: str
    name: str
    kind: str
    statistic: float
    p_value: float
    effect: float
    threshold: float
    sentence: str
    adjusted: float = 1.0
    is_alarm: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """A check of drift.

    Attributes:
        findings: the worst first.
        skipped: sentences about what could not be tested.
        reference: profile of the reference.
        now: profile now.
        config: thresholds.
        is_enough: whether both have enough records to test anything.
    """

    findings: tuple[Finding, ...]
    skipped: tuple[str, ...]
    reference: Profile
    now: Profile
    config: DriftConfig
    is_enough: bool

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """Findings that are alarms, the worst first."""
        return tuple(it for it in self.findings if it.is_alarm)

    @property
    def tests(self) -> int:
        """Number of tests; what is certain needs none."""
        return sum(it.kind != ABSENT for it in self.findings)

    @property
    def verdict(self) -> str:
        """One of ``drift``, ``no drift`` and ``too few records``."""
        if self.alarms:
            return "drift"
        return "no drift" if self.is_enough else "too few records"


Test = Callable[[int, numpy.random.Generator], Compared]
"""Number of draws, generator -> outcome."""


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A test that is to be made."""

    part: str
    name: str
    kind: str
    test: Test
    tell: "TellFn"


TellFn = Callable[[Compared, bool], str]
"""Outcome, whether chance is ruled out -> sentence."""


def variable_bins(reference: Kept, now: Kept) -> Bins:
    """Count a variable of both sides in the same bins."""
    if isinstance(reference, Categories) and isinstance(now, Categories):
        return category_bins(reference, now)
    assert isinstance(reference, Numbers)
    assert isinstance(now, Numbers)
    return number_bins(reference, now)


def compare(reference: Profile, now: Profile, config: DriftConfig) -> Report:
    """Compare records with those of the reference.

    Args:
        reference: profile of the reference's records.
        now: profile of records now, of the same model.
        config: thresholds.
    """
    floor, skipped = config.min_records, list[str]()
    is_enough = min(reference.records, now.records) >= floor
    if not is_enough:
        skipped.append(sentences.too_few(reference.records, now.records, floor))
    asked = list(_asked(reference, now, floor, skipped)) if is_enough else []
    # So many that the smallest p-value they can give survives Holm's factor
    draws = max(_LEAST_DRAWS, math.ceil(2 * len(asked) / config.alpha))
    rng = numpy.random.default_rng(SEED)
    made = [one.test(draws, rng) for one in asked]
    adjusted = holm([it.p_value for it in made])
    findings = [_judged(*each, config=config) for each in zip(asked, made, adjusted, strict=True)]
    findings += [_absent(name, now.records) for name in _lacking(reference, now)]
    return Report(
        findings=tuple(sorted(findings, key=_worst_first)),
        skipped=(*skipped, *reference.told, *now.told),
        reference=reference,
        now=now,
        config=config,
        is_enough=is_enough,
    )


def _judged(asked: _Asked, made: Compared, adjusted: float, *, config: DriftConfig) -> Finding:
    setting = "label_psi" if asked.part == "labels" else KINDS[asked.kind].threshold
    threshold, is_sure = float(getattr(config, setting)), adjusted <= config.alpha
    return Finding(
        part=asked.part,
        name=asked.name,
        kind=asked.kind,
        statistic=made.statistic,
        p_value=made.p_value,
        effect=made.effect,
        threshold=threshold,
        sentence=asked.tell(made, is_sure),
        adjusted=adjusted,
        is_alarm=is_sure and made.effect >= threshold,
    )


def _lacking(reference: Profile, now: Profile) -> list[str]:
    """Name the columns that the model needs, or the reference has, and no record has now."""
    gone = [name for name in reference.columns if name not in now.columns]
    return list(dict.fromkeys([*now.absent, *gone]))


def _absent(name: str, records: int) -> Finding:
    return Finding(
        part="columns",
        name=name,
        kind=ABSENT,
        statistic=0.0,
        p_value=0.0,
        effect=1.0,
        threshold=1.0,
        sentence=sentences.absent(name, records),
        adjusted=0.0,
        is_alarm=True,
    )


def _worst_first(finding: Finding) -> tuple[bool, bool, float]:
    size = finding.effect / finding.threshold if finding.threshold else finding.effect
    return (
        not finding.is_alarm,
        finding.kind != ABSENT,
        -size if finding.adjusted < 1 else 1 - finding.p_value - size * 1e-9,
    )


def _asked(reference: Profile, now: Profile, floor: int, skipped: list[str]) -> Iterator[_Asked]:
    for part in PARTS:
        before, after = reference.kept(part), now.kept(part)
        for name, kept in before.items():
            if name in after:
                yield from _of_variable(part, name, kept, after[name], floor, skipped)
    yield from _of_model(reference, now, floor, skipped)


def _of_variable(
    part: str, name: str, before: Kept, after: Kept, floor: int, skipped: list[str]
) -> Iterator[_Asked]:
    if isinstance(before, Categories) and isinstance(after, Categories):
        if min(before.records, after.records) < floor:
            skipped.append(sentences.few_values(part, name, before, after, floor))
            return
        bins = category_bins(before, after)
        yield _Asked(
            part=part,
            name=name,
            kind="categories",
            test=lambda draws, rng: chi_square(bins, draws, rng),
            tell=lambda made, is_sure: sentences.categories(part, name, bins),
        )
        return
    assert isinstance(before, Numbers)
    assert isinstance(after, Numbers)
    lacking = before.missing + before.odd + after.missing + after.odd
    if lacking and min(before.records, after.records) >= floor:
        yield _Asked(
            part=part,
            name=name,
            kind="missing",
            test=lambda draws, rng: missing_shares(before, after),
            tell=lambda made, is_sure: sentences.missing(part, name, before, after),
        )
    if min(before.present, after.present) < floor:
        skipped.append(sentences.few_values(part, name, before, after, floor))
        return
    yield _Asked(
        part=part,
        name=name,
        kind="numbers",
        test=lambda draws, rng: kolmogorov_smirnov(before, after),
        tell=lambda made, is_sure: sentences.numbers(part, name, before, after, is_sure=is_sure),
    )


def _of_model(reference: Profile, now: Profile, floor: int, skipped: list[str]) -> Iterator[_Asked]:
    if not now.predictions:  # none was asked about, and that is told
        return
    yield from _of_features(reference, now, floor, skipped)
    both = reference, now
    if not len(now.losses):
        skipped.append(sentences.NO_LABELS)
        return
    if min(len(it.losses) for it in both) < floor:
        skipped.append(sentences.few_labels(len(reference.losses), len(now.losses), floor))
        return
    yield _Asked(
        part="model",
        name="",
        kind="performance",
        test=lambda draws, rng: higher_mean(reference.losses, now.losses, draws, rng),
        tell=lambda made, is_sure: sentences.performance(reference, now, is_sure=is_sure),
    )
    if min(len(it.stated) for it in both) >= floor:
        errors, scores = (
            [fn(it.stated, it.came_true) for it in both] for fn in (expected_error, brier)
        )
        yield _Asked(
            part="model",
            name="",
            kind="calibration",
            test=lambda draws, rng: calibration_change(
                (reference.stated, reference.came_true), (now.stated, now.came_true), draws, rng
            ),
            tell=lambda made, is_sure: sentences.calibration(errors, scores),
        )


def _of_features(
    reference: Profile, now: Profile, floor: int, skipped: list[str]
) -> Iterator[_Asked]:
    both = reference, now
    blind = [not it.features.shape[1] for it in both]
    if any(blind):
        skipped.append(sentences.no_features(is_now=blind[1]))
        return
    if min(len(it.features) for it in both) < floor:
        before, after = (len(it.features) for it in both)
        skipped.append(sentences.few_features(before, after, floor))
        return
    yield _Asked(
        part="model",
        name="",
        kind="features",
        test=lambda draws, rng: mean_discrepancy(reference.features, now.features, draws, rng),
        tell=lambda made, is_sure: sentences.features(made.effect),
    )


__all__ = ["ABSENT", "KINDS", "SEED", "Finding", "Kind", "Report", "compare", "variable_bins"]
