"""Groups are public words of the schema, and what cannot be told by them is refused."""

import pytest

from confide.config.composing.compose import compose
from confide.errors import ConfigError, ProtocolError
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan

HEART = "experiment=heart_disease"


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        compose(list(overrides))
    return list(error.value.problems)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ("{age: [60, 40]}", "expected finite edges in ascending order"),
        (f"{{age: [1{'0' * 400}]}}", "expected finite edges"),
        ("{age: [40, old]}", "expected names alone, or numbers alone"),
        ("{age: []}", "expected public categories"),
        ("{sex: [Male, Male]}", "two of them are one value"),
        ("{sex: [Male, not stated]}", "is a group of every column"),
        ("{num: []}", "this is what is predicted"),
        (f"{{age: {list(range(40))}}}", "expected at most 32"),
        ("{" + ", ".join(f"c{i}: [1]" for i in range(9)) + "}", "names 9 columns"),
    ],
)
def test_groups_that_are_none_are_refused(groups: str, said: str) -> None:
    (problem,) = problems(HEART, f"task.subgroups={groups}")
    assert problem.startswith("task.subgroups")
    assert said in problem


@pytest.mark.parametrize(
    ("experiment", "reason"),
    [
        ("titles", "each label has a rate in each group"),
        ("dialysis", "observed for unlike times"),
        ("tweet_entities", "many a record"),
        ("movies", "many a record"),
        ("stations", "of nobody's group"),
    ],
)
def test_outcome_that_has_no_rates_by_group_says_why(experiment: str, reason: str) -> None:
    told = problems(f"experiment={experiment}", "task.subgroups.site=[a,b]")
    assert any(reason in problem for problem in told)


def test_masked_sums_carry_no_groups() -> None:
    told = problems(HEART, "task.subgroups.sex=[]", "aggregation=secure")
    assert told == [
        "task.subgroups=['sex']: in a masked sum travel the metrics of all test records, and no"
        " sums by group; leave task.subgroups out, or set aggregation=plain."
    ]


def test_column_may_be_no_input_and_groups_are_named() -> None:
    task = compose([HEART, "task.subgroups={sex: [], age: [45.5], place: [x, y]}"]).task
    names = {one.column: one.names for one in task.told_apart}
    assert names == {
        "sex": ("Male", "Female", "not stated"),
        "age": ("under 45.5", "45.5 and over", "not stated"),
        "place": ("x", "y", "not stated"),
    }


def test_plan_carries_groups_and_says_nothing_where_there_are_none() -> None:
    plans = [
        make_plan(compose([HEART, *more]), backbone_sha256=None)
        for more in ((), ("task.subgroups={sex: [], age: [45]}",))
    ]
    texts = [plan.to_json() for plan in plans]
    assert "subgroups" not in texts[0]
    assert [TrainingPlan.from_json(text) for text in texts] == plans
    assert plans[1].encoded_task.told_apart == plans[1].task.told_apart


@pytest.mark.parametrize("values", ['[45,"x"]', "[[45]]", "[null]", '{"a":1}', "[NaN]", "[true]"])
def test_plan_with_groups_that_are_none_is_refused(values: str) -> None:
    plan = make_plan(compose([HEART, "task.subgroups.age=[45]"]), backbone_sha256=None)
    assert "[45]" in plan.to_json()
    with pytest.raises(ProtocolError):
        TrainingPlan.from_json(plan.to_json().replace("[45]", values))
