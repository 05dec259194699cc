"""Two profiles compared: what is an alarm, and what is not."""

from dataclasses import replace

import numpy
import pytest
from drift_profiles import profile

from confide.client.drift.findings import Report, compare
from confide.client.drift.kept import Categories, numbers_of
from confide.config.drift import DriftConfig

CONFIG = DriftConfig()


def alarms(report: Report) -> list[tuple[str, str, str]]:
    return [(it.part, it.name, it.kind) for it in report.alarms]


def test_without_drift_alarms_are_as_rare_as_alpha() -> None:
    config = replace(CONFIG, psi=0.0, label_psi=0.0, mmd=0.0, performance=0.0, calibration=0.0)
    raised = [bool(compare(profile(2 * n), profile(2 * n + 1), config).alarms) for n in range(40)]
    # 7 of 40 have probability 0.003 at alpha 0.05
    assert sum(raised) < 7


def test_each_drift_is_found_and_named_for_what_it_is() -> None:
    before = profile(0)
    assert alarms(compare(before, profile(1), CONFIG)) == []
    assert alarms(compare(before, profile(1, shift=1.0), CONFIG)) == [("columns", "age", "numbers")]
    assert alarms(compare(before, profile(1, ill=0.6), CONFIG)) == [
        ("labels", "state", "categories")
    ]
    worse = replace(profile(1), losses=profile(1).losses + 1)
    assert alarms(compare(before, worse, CONFIG)) == [("model", "", "performance")]


def test_of_many_records_a_small_change_is_sure_and_no_alarm() -> None:
    report = compare(profile(0, 20_000), profile(1, 20_000, shift=0.08), CONFIG)
    (age,) = [it for it in report.findings if (it.name, it.kind) == ("age", "numbers")]
    assert age.adjusted < CONFIG.alpha
    assert age.effect < CONFIG.psi
    assert report.verdict == "no drift"


def test_a_column_that_empties_is_told_in_shares() -> None:
    now = profile(1)
    age = now.columns["age"]
    emptier = numbers_of(numpy.zeros(100), numpy.random.default_rng(0), missing=200)
    now = replace(now, columns={**now.columns, "age": emptier})
    report = compare(profile(0), now, CONFIG)
    missing = next(it for it in report.alarms if it.kind == "missing")
    assert missing.sentence == "age: 67 % of records have no value; 2 % in the reference."
    assert age.missing == 6


@pytest.mark.parametrize(("before", "after"), [(300, 49), (49, 300)])
def test_too_few_records_are_no_alarm_and_say_how_many_it_takes(before: int, after: int) -> None:
    report = compare(profile(0, before), profile(1, after, shift=9), CONFIG)
    assert (report.verdict, report.findings) == ("too few records", ())
    assert report.skipped == (
        f"Too few records to say anything: {after} now and {before} in the reference; at least 50"
        " of each are needed (min_records=50).",
    )


def test_a_column_with_few_values_is_left_out_and_said() -> None:
    few = numbers_of(numpy.zeros(3), numpy.random.default_rng(0), missing=297)
    now = profile(1)
    now = replace(now, columns={**now.columns, "age": few})
    report = compare(profile(0), now, CONFIG)
    assert [it.kind for it in report.findings if it.name == "age"] == ["missing"]
    assert report.skipped == (
        "age: 3 values now and 294 in the reference, fewer than min_records=50; not compared.",
    )


def test_a_column_that_is_gone_is_the_worst_alarm_and_no_test() -> None:
    now = replace(profile(1, shift=1.0), columns={"age": profile(1, shift=1.0).columns["age"]})
    report = compare(profile(0), now, CONFIG)
    assert report.alarms[0].sentence == "Column sex is missing in all 300 records."
    assert report.tests == len(report.findings) - 1
    few = compare(profile(0), replace(now, records=5), CONFIG)
    assert (few.verdict, few.tests) == ("drift", 0)


def test_a_change_is_claimed_where_chance_is_ruled_out_alone() -> None:
    # A mean loss that is higher by chance, and an age that is
    alike = compare(profile(0), profile(1), CONFIG)
    told = {(it.name, it.kind): it.sentence for it in alike.findings}
    assert told["age", "numbers"].startswith("age: median ")
    assert "does not surely do worse than" in told["", "performance"]
    worse = replace(profile(1, shift=1.0), losses=profile(1).losses + 1)
    told = {(it.name, it.kind): it.sentence for it in compare(profile(0), worse, CONFIG).findings}
    assert told["age", "numbers"].startswith("age: values are higher: median ")
    assert "the model does worse than" in told["", "performance"]


def test_no_word_is_doubled_by_what_a_variable_is_of() -> None:
    doubled = {"prediction": Categories({"a": 200, "b": 100})}
    labels = {"label": Categories({"a": 200, "b": 100})}
    before, now = (replace(profile(at), predictions=doubled, labels=labels) for at in (0, 1))
    told = [it.sentence for it in compare(before, now, CONFIG).findings]
    assert [it for it in told if "predicted prediction" in it or "label label" in it] == []


def test_findings_come_worst_first() -> None:
    report = compare(profile(0), profile(1, shift=0.7, ill=0.9), CONFIG)
    sizes = [it.effect / it.threshold for it in report.alarms]
    assert len(sizes) > 1
    assert sizes == sorted(sizes, reverse=True)
    flags = [it.is_alarm for it in report.findings]
    assert flags == sorted(flags, reverse=True)


def test_without_labels_the_rest_is_compared() -> None:
    nothing = numpy.zeros((0, 0))
    now = replace(
        profile(1), labels={}, losses=numpy.zeros(0), stated=nothing, came_true=nothing, metrics={}
    )
    report = compare(profile(0), now, CONFIG)
    assert {it.part for it in report.findings} == {"columns", "predictions", "model"}
    assert report.skipped == (
        "No record that the model was asked about has a label: labels, performance and calibration"
        " are not compared.",
    )
