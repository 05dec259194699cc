"""Two profiles, compared: a finding for each test, and whether any is an alarm."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

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
        threshold: setting of :class:`~confide.config.drift.DriftConfig` that effects are held to.
        effect: what the effect is called.
    """

    title: str
    test: str
    threshold: str
    effect: str


KINDS: dict[str, Kind] = {
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
    """What one test found.

    Attributes:
        part: columns, predictions or labels for a variable; model for what concerns all records.
        name: of the variable; '' of none.
        kind: one of :data:`KINDS`.
        statistic: of the test.
        p_value: of this test alone.
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
        reference: profile at training.
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
    def verdict(self) -> str:
        """One of ``drift``, ``no drift`` and ``too few records``."""
        if not self.is_enough:
            return "too few records"
        return "drift" if self.alarms else "no drift"


Test = Callable[[int, numpy.random.Generator], Compared]
"""Number of draws, generator -> outcome."""


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A test that is to be made."""

    part: str
    name: str
    kind: str
    test: Test
    sentence: str


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
        reference: profile of records at training.
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
    findings = []
    for one in asked:
        made = one.test(draws, rng)
        findings.append(
            Finding(
                part=one.part,
                name=one.name,
                kind=one.kind,
                statistic=made.statistic,
                p_value=made.p_value,
                effect=made.effect,
                threshold=_threshold(one, config),
                sentence=one.sentence or sentences.features(made.effect),
            )
        )
    adjusted = holm([it.p_value for it in findings])
    judged = [
        replace(
            it,
            adjusted=p_value,
            is_alarm=p_value <= config.alpha and it.effect >= it.threshold,
        )
        for it, p_value in zip(findings, adjusted, strict=True)
    ]
    return Report(
        findings=tuple(sorted(judged, key=_worst_first)),
        skipped=tuple(skipped),
        reference=reference,
        now=now,
        config=config,
        is_enough=is_enough,
    )


def _threshold(asked: _Asked, config: DriftConfig) -> float:
    threshold: float = (
        config.label_psi if asked.part == "labels" else getattr(config, KINDS[asked.kind].threshold)
    )
    return threshold


def _worst_first(finding: Finding) -> tuple[bool, float]:
    size = finding.effect / finding.threshold if finding.threshold else finding.effect
    return (
        not finding.is_alarm,
        -size if finding.adjusted < 1 else 1 - finding.p_value - size * 1e-9,
    )


def _asked(reference: Profile, now: Profile, floor: int, skipped: list[str]) -> Iterator[_Asked]:
    for part in PARTS:
        before, after = reference.kept(part), now.kept(part)
        for name, kept in before.items():
            if name in after:
                yield from _of_variable(part, name, kept, after[name], floor, skipped)
            elif part == "columns":
                skipped.append(sentences.gone(name))
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
            sentence=sentences.categories(part, name, bins),
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
            sentence=sentences.missing(part, name, before, after),
        )
    if min(before.present, after.present) < floor:
        skipped.append(sentences.few_values(part, name, before, after, floor))
        return
    yield _Asked(
        part=part,
        name=name,
        kind="numbers",
        test=lambda draws, rng: kolmogorov_smirnov(before, after),
        sentence=sentences.numbers(part, name, before, after),
    )


def _of_model(reference: Profile, now: Profile, floor: int, skipped: list[str]) -> Iterator[_Asked]:
    both = reference, now
    if min(it.features.shape[1] for it in both) and min(len(it.features) for it in both) >= floor:
        yield _Asked(
            part="model",
            name="",
            kind="features",
            test=lambda draws, rng: mean_discrepancy(reference.features, now.features, draws, rng),
            sentence="",
        )
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
        sentence=sentences.performance(reference, now),
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
            sentence=sentences.calibration(errors, scores),
        )


__all__ = ["KINDS", "SEED", "Finding", "Kind", "Report", "compare", "variable_bins"]
