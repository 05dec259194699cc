"""Kinds of release: how plans name them, and how far one unit moves what they add up."""

import dataclasses
import json

import pytest
from builders import build_plan

from confide.config.models.perceptrons import LogisticConfig
from confide.config.privacy import PrivacyConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.errors import ProtocolError
from confide.protocol.plan import TrainingPlan
from confide.protocol.releases import release_plan, release_shapes
from confide.releases.table import RELEASES

TASK = TabularConfig(
    labels=["no", "yes"],
    columns={
        "age": ColumnConfig(minimum=0.0, maximum=100.0),
        "sex": ColumnConfig(kind="categorical", categories=["f", "m"]),
        "tsh": ColumnConfig(minimum=0.0, maximum=530.0, indicator=True),
    },
    numeric=NumericConfig(bins=4, edges="released"),
)
PLAN = build_plan(
    task=TASK,
    backbone=LogisticConfig(row_norm=3.0),
    privacy=PrivacyConfig(unit="record", epsilon=2.0),
    seed=None,
)


@pytest.mark.parametrize("kind", RELEASES)
def test_a_question_is_read_as_it_was_asked(kind: str) -> None:
    asked = release_plan(PLAN, kind, epsilon=0.5)
    assert TrainingPlan.from_json(asked.to_json()) == asked
    assert asked.privacy.epsilon == 0.5
    assert asked.job.startswith(f"{RELEASES[kind].job}-")
    assert set(release_shapes(asked)) == set(RELEASES[kind].scales_fn(asked))


def test_jobs_of_kinds_and_prices_differ() -> None:
    jobs = {release_plan(PLAN, kind, epsilon=e).job for kind in RELEASES for e in (0.3, 0.5)}
    assert len(jobs) == 2 * len(RELEASES)


def test_quantiles_are_asked_for_as_before_there_were_others() -> None:
    """Ledgers know a question by its text."""
    assert json.loads(release_plan(PLAN).to_json())["releases"] is True
    assert "releases" not in json.loads(PLAN.to_json())


@pytest.mark.parametrize("value", ["medians", 1, False, None, ["quantiles"]])
def test_what_is_no_kind_is_refused(value: object) -> None:
    raw = json.loads(release_plan(PLAN).to_json())
    with pytest.raises(ProtocolError):
        TrainingPlan.from_json(json.dumps({**raw, "releases": value}))


@pytest.mark.parametrize("kind", RELEASES)
def test_a_release_counts_every_record_once(kind: str) -> None:
    asked = release_plan(PLAN, kind, epsilon=0.5)
    for change in (
        {"num_rounds": 2},
        {"client": dataclasses.replace(asked.client, sampling_rate=0.5)},
        {"privacy": dataclasses.replace(asked.privacy, spare_rounds=1)},
    ):
        with pytest.raises(ProtocolError, match="one round and none to spare"):
            TrainingPlan.from_json(dataclasses.replace(asked, **change).to_json())  # type: ignore[arg-type]
