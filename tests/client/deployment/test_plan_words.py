"""A plan's words name the groups by which it wants metrics told."""

from dataclasses import replace

from builders import build_plan, build_task

from confide.client.deployment.plan_words import asked


def test_groups_are_named_where_a_plan_declares_any() -> None:
    plan = build_plan()
    grouped = replace(plan, task=build_task(subgroups={"sex": ["F", "M"], "age": [40]}))
    assert asked(plan).endswith("1 rounds")
    assert asked(grouped) == f"{asked(plan)}, test metrics by groups of sex, age"
