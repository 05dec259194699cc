"""A check of drift as a page, as JSON, and as lines on a terminal."""

import datetime
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from markupsafe import Markup

from confide.client.drift.findings import ABSENT, KINDS, Finding, Report
from confide.client.drift.pictures import MOST_PICTURES, pictures
from confide.client.drift.profile import Profile
from confide.config.spelling import counted
from confide.pages.page import Cell, PageTable, Row, style, templates_of
from confide.version import __version__

HOLDS = (
    "This holds statistics of an institution's records, exact and without noise. It is for the"
    " institution alone."
)
_SMALLEST = 1e-4
_STYLE = Markup(
    ".mark.bad { color: var(--bad); font-weight: 600; }"
    " td.text { min-width: 18rem; } td:first-child { min-width: 7rem; }"
    " td:first-child small { display: block; }"
)
_EFFECTS = {
    "PSI": "population stability index, large from 0.25 on",
    "MMD": "maximum mean discrepancy, 0 to 1.4",
    "deviations": "rise of the mean loss in standard deviations",
    "mean distance": "between stated and observed probabilities",
}
"""What effects are, by their names."""
_TITLES = {
    "drift": "Drift: {alarms}",
    "no drift": "No drift found",
    "too few records": "Too few records to look for drift",
}


def drift_page(report: Report) -> str:
    """Write the page: one file that loads nothing and runs no script."""
    config = report.config
    return (
        templates_of(__package__)
        .get_template("drift.html.j2")
        .render(
            title=_title(report),
            holds=HOLDS,
            model=report.now.model_sha256[:12],
            reference=_told(report.reference),
            now=_told(report.now),
            rule=(
                f"a p-value of at most {config.alpha:g}, adjusted for all"
                f" {counted(report.tests, 'test')} together (Holm), and an effect of at least its"
                " threshold; or a column that is missing"
            ),
            tiles=[
                (str(len(report.alarms)), "alarms"),
                (str(report.tests), "tests"),
                (f"{report.now.records:,}", "records now"),
                (f"{report.reference.records:,}", "records in the reference"),
            ],
            alarms=[it.sentence for it in report.alarms],
            skipped=report.skipped,
            table=_table(report),
            legend=_legend(report),
            drawn=pictures(report),
            meaning=list(_meaning()),
            style=style() + _STYLE,
            version=__version__,
        )
    )


def _title(report: Report) -> str:
    return _TITLES[report.verdict].format(alarms=counted(len(report.alarms), "alarm"))


def _told(profile: Profile) -> str:
    made = datetime.datetime.fromtimestamp(profile.made, datetime.UTC)
    return f"{profile.source}, {counted(profile.records, 'record')}, {made:%Y-%m-%d %H:%MZ}"


def _table(report: Report) -> PageTable:
    headers = ["what", "", "in words", "effect", "threshold", "adjusted p", "p"]
    rows = [
        Row(
            [
                Cell(_named(it), _what(it)),
                Cell("alarm", mark="bad") if it.is_alarm else Cell("–"),
                Cell(it.sentence),
                Cell(f"{it.effect:.3f}", KINDS[it.kind].effect),
                Cell(f"{it.threshold:g}"),
                Cell(_probability(it, it.adjusted)),
                Cell(_probability(it, it.p_value)),
            ]
        )
        for it in report.findings
    ]
    return PageTable(headers, rows, text=(2,), label="tests")


def _named(finding: Finding) -> str:
    return finding.name or KINDS[finding.kind].title


def _what(finding: Finding) -> str:
    kind = KINDS[finding.kind]
    if not finding.name:
        return kind.test
    part = {"columns": "", "predictions": "predictions, ", "labels": "labels, "}[finding.part]
    return f"{part}{kind.title}, {kind.test}"


def _legend(report: Report) -> str:
    return (
        "p: how often chance alone would give a difference as large, in this test by itself;"
        f" adjusted p: the same, so that it holds for all {counted(report.tests, 'test')} together"
        " (Holm), and the one that alarms go by."
    )


def _probability(finding: Finding, value: float) -> str:
    # Of a test a probability is 0 only where it is too small for a float
    if finding.kind == ABSENT:
        return "certain"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}" if value > _SMALLEST else "<0.0001"


def _meaning() -> Iterator[str]:
    yield (
        "An alarm needs both: chance is ruled out, and the change is as large as its threshold."
        " A column that no record has is one by itself. Without drift a check raises any alarm at"
        " all in at most that share of cases."
    )
    yield (
        "PSI, the population stability index, compares shares of bins: below 0.1 little changed,"
        " above 0.25 much. MMD compares the records as the model sees them. Performance is the rise"
        " of the mean loss in standard deviations; calibration the distance between two curves of"
        " stated and observed probability."
    )
    yield (
        f"Pictures show at most {MOST_PICTURES} variables. Outlines are records of the reference,"
        " full bars those now."
    )


def as_json(report: Report) -> dict[str, Any]:
    """Return the check for other programs."""
    return {
        "holds": HOLDS,
        "verdict": report.verdict,
        "model_sha256": report.now.model_sha256,
        "checked": report.now.made,
        "records": {"reference": report.reference.records, "now": report.now.records},
        "metrics": {"reference": dict(report.reference.metrics), "now": dict(report.now.metrics)},
        "thresholds": asdict(report.config),
        "alarms": len(report.alarms),
        "findings": [
            asdict(it) | {"test": KINDS[it.kind].test, "effect_name": KINDS[it.kind].effect}
            for it in report.findings
        ],
        "skipped": list(report.skipped),
    }


def in_words(report: Report) -> Iterator[str]:
    """Yield lines for people: the verdict, alarms with the worst first, what was not compared."""
    tests = counted(report.tests, "test")
    yield (
        f"{_title(report)}: {counted(report.now.records, 'record')} against"
        f" {report.reference.records} of {report.reference.source}, {tests}, model"
        f" {report.now.model_sha256[:12]}."
    )
    for it in report.alarms:
        kind = KINDS[it.kind]
        chance = _probability(it, it.adjusted)
        figures = f"{kind.effect} {it.effect:.2f}, p {chance}"
        yield f"  {it.sentence} ({chance if it.kind == ABSENT else figures})"
    for sentence in report.skipped:
        yield f"  {sentence}"
    if any(it.kind != ABSENT for it in report.alarms):
        yield f"  {_shown_legend(report)}"


def _shown_legend(report: Report) -> str:
    """Say what stands in the brackets of alarms."""
    effects = dict.fromkeys(KINDS[it.kind].effect for it in report.alarms)
    told = "; ".join(f"{name}: {_EFFECTS[name]}" for name in effects if name in _EFFECTS)
    return (
        f"({told}; p: chance of as large a difference without drift, adjusted for all"
        f" {counted(report.tests, 'test')} together.)"
    )


__all__ = ["HOLDS", "as_json", "drift_page", "in_words"]
