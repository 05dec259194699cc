"""What a plan says of the runs that its model comes from."""

import json
from dataclasses import replace

import pytest
from builders import build_plan

from confide.config.privacy import PrivacyConfig
from confide.errors import ProtocolError
from confide.models.start import parent_of
from confide.protocol.lineage import MOST_PARENTS, Parent
from confide.protocol.plan import TrainingPlan

PARENT = Parent(
    model_sha256="a" * 64,
    plan_sha256="b" * 64,
    job="early",
    num_rounds=5,
    unit="record",
    epsilon=3.0,
    delta=1e-5,
)


def test_a_plan_that_goes_on_from_none_does_not_mention_it() -> None:
    """Institutions of earlier releases, which know of no lineage, understand it."""
    text = build_plan().to_json()
    assert "parents" not in text
    assert "compares" not in text


def test_a_lineage_travels() -> None:
    plan = replace(build_plan(), parents=(PARENT, replace(PARENT, job="later")))
    read = TrainingPlan.from_json(replace(plan, compares=True).to_json())
    assert read.parents == plan.parents
    assert read.compares
    assert read.sha256 != build_plan().sha256


def test_a_run_claims_its_whole_schedule_and_the_larger_of_its_epsilons() -> None:
    plan = build_plan()
    private = replace(
        plan,
        privacy=PrivacyConfig(
            unit="group", epsilon=2.0, delta=1e-6, metrics_epsilon=4.0, spare_rounds=3
        ),
    )
    told = parent_of(private, "c" * 64)
    assert (told.epsilon, told.delta, told.unit) == (4.0, 1e-6, "group")
    assert told.num_rounds == plan.num_rounds + 3
    assert told.plan_sha256 == private.sha256
    exposed = parent_of(replace(plan, privacy=PrivacyConfig(unit="none")), "c" * 64)
    assert (exposed.epsilon, exposed.delta) == (None, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_sha256": "zz"}, "parents.0.model_sha256: expected 64 hexadecimal digits"),
        ({"plan_sha256": "../x"}, "parents.0.plan_sha256: expected 64"),
        ({"job": "a\nb"}, "parents.0.job: expected 1 to 300 printable"),
        ({"num_rounds": 0}, "parents.0.num_rounds=0"),
        ({"unit": "nobody"}, "parents.0.unit: expected"),
        ({"epsilon": None}, "parents.0.epsilon=None, delta=1e-05: expected both"),
        ({"epsilon": -1.0}, "parents.0.epsilon=-1.0, delta=1e-05: expected > 0"),
        ({"unit": "none"}, "parents.0.epsilon=3.0, delta=1e-05: expected both"),
    ],
)
def test_a_hostile_lineage_is_refused(changes: dict[str, object], message: str) -> None:
    plan = replace(build_plan(), parents=(replace(PARENT, **changes),))
    with pytest.raises(ProtocolError, match=message):
        TrainingPlan.from_json(plan.to_json())


def test_an_endless_lineage_is_refused() -> None:
    plan = replace(build_plan(), parents=(PARENT,) * (MOST_PARENTS + 1))
    with pytest.raises(ProtocolError, match=f"parents: expected at most {MOST_PARENTS}"):
        TrainingPlan.from_json(plan.to_json())


def test_unknown_words_of_a_parent_are_refused() -> None:
    plain = json.loads(replace(build_plan(), parents=(PARENT,)).to_json())
    plain["parents"][0]["trust"] = "me"
    with pytest.raises(ProtocolError, match=r"parents\.0\.trust"):
        TrainingPlan.from_json(json.dumps(plain))
