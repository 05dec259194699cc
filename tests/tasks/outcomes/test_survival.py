"""Survival as an outcome: what is read, refused and told, and its settings."""

import numpy
import pytest
import torch

from confide.config.outcomes.outcome import Labelling
from confide.config.outcomes.survival import SurvivalConfig
from confide.tasks.outcomes.survival import Survival, in_intervals

NOTHING = Labelling(labels=(), column="label")
ENDS = (12.0, 24.0, 48.0)


def outcome(**settings: object) -> Survival:
    return Survival(SurvivalConfig(**{"horizon": 40.0, "intervals": 4} | settings), NOTHING)


def table(times: list[object], events: list[object]) -> dict[str, list[object]]:
    return {"time": times, "event": events}


def test_targets_are_places_in_the_intervals_and_events() -> None:
    read = outcome().read(table(["0", "5", "10.0", "15", "40"], ["1", "0", "1", "1.0", "0"]))
    assert read.values.tolist() == [[0, 1], [0.5, 0], [1, 1], [1.5, 1], [4, 0]]
    assert read.values.dtype == numpy.float32
    assert read.known.all()
    assert not read.problems
    assert not read.notes


def test_what_lies_beyond_the_horizon_is_censored_there_and_counted() -> None:
    read = outcome().read(table(["39", "41", "80", "1000"], ["1", "1", "0", "1"]))
    assert read.values.tolist() == [[pytest.approx(3.9), 1], [4, 0], [4, 0], [4, 0]]
    assert not read.problems
    (note,) = read.notes
    assert note.text == (
        "Column time: 3 of 4 times are beyond the horizon, 40; these records are censored there, 2"
        " of them with a later event."
    )
    assert note.record == 1


@pytest.mark.parametrize(
    ("times", "events", "told"),
    [
        (["1", "-2", "-0.5"], ["1", "0", "1"], "Column time: 2 of 3 times are negative"),
        (["1", None, ""], ["1", "0", "1"], "Column time: 2 of 3 times are missing"),
        (["1", "x", "nan"], ["1", "0", "1"], "Column time: 2 of 3 times are not numbers"),
        (["1", "inf", "2"], ["1", "0", "1"], "Column time: 1 of 3 times are not numbers"),
        (["1", "2", "3"], ["1", None, " "], "Column event: 2 of 3 values are missing"),
        (["1", "2", "3"], ["1", "2", "2"], r"Column event: '2' \(2 records\): neither in outcome"),
    ],
)
def test_what_is_no_time_or_event_is_named(
    times: list[object], events: list[object], told: str
) -> None:
    read = outcome().read(table(times, events))
    (problem,) = read.problems
    with pytest.raises(ValueError, match=told):
        raise ValueError(problem.text)
    assert read.known.tolist() == [number != problem.record for number in range(3)] or (
        int((~read.known).sum()) == 2
    )
    assert problem.record == int(numpy.argmin(read.known))


def test_events_are_named_in_the_words_of_the_records() -> None:
    words = outcome(event_values=["died", "transplanted"], censored_values=["alive"])
    read = words.read(table(["1", "2", "3"], ["died", "alive", "transplanted"]))
    assert read.values[:, 1].tolist() == [1, 0, 1]
    truths = outcome(event_values=["true"], censored_values=["false"])
    assert truths.read(table(["1", "2"], ["TRUE", "0"])).values[:, 1].tolist() == [1, 0]


def test_predictions_are_a_risk_and_a_probability_at_each_end() -> None:
    made = outcome(interval_ends=list(ENDS), horizon=None)
    scores = made.scores(torch.zeros((2, 3))).numpy()
    columns = made.predictions(scores)
    assert list(columns) == list(made.prediction_columns())
    assert list(columns) == ["risk", "survival_12", "survival_24", "survival_48"]
    assert columns["survival_24"] == pytest.approx([(5 / 6) ** 2] * 2)
    assert columns["risk"] == pytest.approx([1 - ((5 / 6) + (5 / 6) ** 2 + (5 / 6) ** 3) / 3] * 2)


def test_a_placeholder_reads_as_a_record() -> None:
    made = outcome(event_values=["dead"], censored_values=["alive"])
    read = made.read({name: [value] for name, value in made.placeholder().items()})
    assert read.known.all()


def test_few_events_are_told_and_few_censored_are_not() -> None:
    counts = outcome().counts(numpy.array([[1.0, 0.0], [2.0, 0.0]]))
    assert counts == {"event": 0, "censored": 2}
    (told,) = outcome().count_problems(counts, total=2, minimum=1)
    assert "Events by the horizon, 40: 0 of 2 records" in told
    assert not list(outcome().count_problems({"event": 1, "censored": 0}, total=1, minimum=1))


# --- settings


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"horizon": None}, "horizon=null, interval_ends=.*expected a public horizon"),
        ({"interval_ends": [3.0, 2.0], "horizon": None}, "expected at most 100 numbers above 0"),
        ({"interval_ends": [0.0, 2.0], "horizon": None}, "expected at most 100 numbers above 0"),
        ({"interval_ends": [1.0, 2.0]}, "horizon=40, but interval_ends ends at 2"),
        ({"event_values": []}, "expected at least one value each"),
        ({"event_values": ["1"], "censored_values": ["1.0"]}, "none twice"),
        ({"event_column": "time"}, "event_column=time is time_column"),
        ({"loss": "cox"}, "no record has a loss or a gradient of its own.*logistic_hazards"),
        ({"loss": "weibull"}, "loss=weibull; set loss=logistic_hazards"),
    ],
)
def test_settings_that_contradict_are_named(settings: dict[str, object], told: str) -> None:
    config = SurvivalConfig(**{"horizon": 40.0} | settings)
    (problem,) = config.problems()
    with pytest.raises(ValueError, match=told):
        raise ValueError(problem)


def test_intervals_of_one_length_end_where_they_say() -> None:
    assert SurvivalConfig(horizon=1.0, intervals=10).ends[2] == 0.3
    assert SurvivalConfig(horizon=45.0, intervals=5).ends == (9, 18, 27, 36, 45)
    assert not list(SurvivalConfig(interval_ends=[1.0, 5.0], horizon=5.0).problems())


# --- places of times in intervals


def test_places_are_in_intervals_of_unlike_lengths() -> None:
    times = numpy.array([0, 6, 12, 18, 24, 36, 48], dtype=float)
    assert in_intervals(times, ENDS).tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3]


def test_a_time_just_after_an_edge_stays_in_its_interval() -> None:
    for end in (1e6, 2e6):
        after = in_intervals(numpy.array([numpy.nextafter(end, numpy.inf)]), [1e6, 2e6, 3e6])
        assert numpy.ceil(after) - 1 == end / 1e6
        before = in_intervals(numpy.array([numpy.nextafter(end, 0)]), [1e6, 2e6, 3e6])
        assert numpy.ceil(before) - 1 == end / 1e6 - 1


def test_places_keep_the_order_of_times() -> None:
    times = numpy.sort(numpy.random.default_rng(0).uniform(0, 48, 5000))
    assert (numpy.diff(in_intervals(times, ENDS)) >= 0).all()
