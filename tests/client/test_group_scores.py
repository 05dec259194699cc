"""Sums by group at the door: in the release that is paid for, or of enough records."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from builders import (
    build_institution,
    build_ledger,
    build_plan,
    build_records,
    build_request,
    build_task,
    workload_of,
)

from confide.client.evaluation_quota import Evaluations
from confide.client.group_scores import declaration
from confide.client.institution import Institution
from confide.client.records.encoded import InstitutionData
from confide.client.schedule import score_schedules
from confide.client.training.trainer import Trainer
from confide.config.client import ClientConfig
from confide.config.privacy import PolicyConfig, PrivacyConfig
from confide.config.tasks.columns import ColumnConfig
from confide.models.networks import trainable_tensors
from confide.privacy.accounting import Schedule, epsilon
from confide.protocol.messages import Reply
from confide.protocol.plan import TrainingPlan

PRIVACY = PrivacyConfig(unit="record", epsilon=4.0, delta=1e-4)
TASK = build_task(subgroups={"sex": ["F", "M"], "age": [40, 60]}, metrics=["accuracy", "macro_f1"])
PLAN = build_plan(
    task=TASK, client=ClientConfig(batch_size=8, local_steps=2), privacy=PRIVACY, num_rounds=2
)
WITHOUT = replace(PLAN, task=replace(TASK, subgroups={}))
TRAINER = Trainer(workload_of(PLAN), private=True)
POLICY = PolicyConfig(max_delta=1e-4)
EXACT = replace(POLICY, metrics_privacy="exact")
START = trainable_tensors(TRAINER.workload.model)


def records(women: int = 150, count: int = 300, *, young: int = 100) -> InstitutionData:
    sex = torch.tensor([0] * women + [1] * (count - women))
    age = (torch.arange(count) * 7) % count  # the same of women and men
    bands = torch.where(age < young, 0, torch.where(age < 2 * young, 1, 2))
    data = build_records(TRAINER.workload, train=120, validation=40, test=count)
    return replace(data, test_subgroups=torch.stack([sex, bands], dim=1))


def door(
    folder: Path,
    data: InstitutionData | None = None,
    plan: TrainingPlan = PLAN,
    **options: Any,
) -> Institution:
    ledger = build_ledger(folder / "ward.ledger", epsilon=20.0, delta=1e-4)
    given = {"policy": POLICY, "ledger": ledger, "key_fn": None, **options}
    return build_institution(plan, data or records(), trainer=TRAINER, **given)


def evaluate(institution: Institution, plan: TrainingPlan = PLAN, by: float = 0.0) -> Reply:
    tensors = {name: tensor + by for name, tensor in START.items()}
    asked = build_request(plan, 0, tensors=tensors, splits=("validation", "test"))
    reply = institution.handle("evaluate", asked)
    if reply.refusal == "not_trained":  # exact scores are for those who train
        institution.handle("train", build_request(plan, 1, tensors=tensors))
        reply = institution.handle("evaluate", asked)
    assert reply.refusal is None
    return reply


def names(reply: Reply, split: str = "test") -> set[str]:
    return set(reply.tallies[split].sums)


def cells(*columns: tuple[str, int]) -> set[str]:
    return {f"cells/{name}/{group}" for name, count in columns for group in range(count)}


def test_noisy_sums_by_group_leave_in_the_one_release_of_the_test_records(tmp_path: Path) -> None:
    reply = evaluate(door(tmp_path))
    assert names(reply) == {"hits", "outcomes"} | cells(("sex", 2), ("age", 3))
    assert names(reply, "validation") == {"hits", "outcomes"}
    tally, declared = reply.tallies["test"], score_schedules(PLAN)["test"]
    # Two statistics of all records, and one of each column
    assert tally.std == pytest.approx(declared.noise_multiplier * math.sqrt(4))
    ledger = build_ledger(tmp_path / "ward.ledger", epsilon=20.0, delta=1e-4)
    releases = [event for event in ledger._file.log.events if event.kind == "score"]
    assert len(releases) == 2  # of either split, as without groups
    release = Schedule(noise_multiplier=tally.std / math.sqrt(4), sampling_rate=1.0, steps=1)
    told = epsilon(release, delta=1e-4)
    assert told <= 4.0 + 1e-9
    assert told == pytest.approx(4.0, abs=0.01)


def test_groups_cost_noise_and_no_epsilon(tmp_path: Path) -> None:
    told = {}
    for name, plan in (("with", PLAN), ("without", WITHOUT)):
        institution = door(tmp_path / name, plan=plan)
        reply = evaluate(institution, plan)
        account = institution.ledger.population  # type: ignore[attr-defined]
        told[name] = reply.tallies["test"].std, reply.tallies["validation"].std
        assert account.committed == pytest.approx(4.0, abs=0.01)
        assert reply.figures["epsilon"] <= 4.0 + 1e-9
    assert told["with"][0] == pytest.approx(math.sqrt(2) * told["without"][0])
    assert told["with"][1] == told["without"][1]


def test_answer_with_groups_is_given_again_from_the_ledger(tmp_path: Path) -> None:
    first = evaluate(door(tmp_path))
    assert evaluate(door(tmp_path, records(149))).tallies == first.tallies


@pytest.mark.parametrize("few", [0, 1, 2, 19])
def test_noisy_groups_of_few_are_left_out_by_their_noisy_number(few: int, tmp_path: Path) -> None:
    """Whether a group has one member more is told as noisily as all else."""
    kept = []
    for seed in range(6):
        policy = replace(POLICY, min_support=40)
        told = names(evaluate(door(tmp_path / str(seed), records(few), policy=policy)))
        kept.append("cells/sex/0" in told)
        assert "cells/sex/1" in told
    assert not any(kept)


def test_two_groups_that_differ_by_a_record_are_told_apart_no_better_than_noise_allows() -> None:
    """The best test of one draw, over all sums that leave: its advantage is within the promise."""
    multiplier = score_schedules(PLAN)["test"].noise_multiplier
    std = multiplier * math.sqrt(4)
    rng = numpy.random.default_rng(0)
    # A record moves four sums by 1 each; projected on that direction all other noise is the same
    distance = math.sqrt(4)
    with_it = rng.normal(distance, std, 20_000)
    without = rng.normal(0, std, 20_000)
    threshold = distance / 2
    power, false = (with_it > threshold).mean(), (without > threshold).mean()
    bound = (math.exp(4.0) - 1) / (math.exp(4.0) + 1) + 1e-4
    assert power - false < bound
    assert multiplier > 0.5


def test_exact_sums_by_group_add_up_to_the_records(tmp_path: Path) -> None:
    reply = evaluate(door(tmp_path, policy=EXACT))
    tally = reply.tallies["test"]
    assert tally.std == 0
    by_sex = [sum(tally.sums[f"cells/sex/{group}"]) for group in range(2)]
    by_age = [sum(tally.sums[f"cells/age/{group}"]) for group in range(3)]
    assert (by_sex, by_age) == ([150, 150], [100, 100, 100])
    right = reply.evaluations["test"]["accuracy"] * 300
    diagonal = [tally.sums[f"cells/sex/{group}"] for group in range(2)]
    told = sum(one[0] + one[3] if len(one) == 4 else one[0] for one in diagonal)
    assert told == pytest.approx(right)


@pytest.mark.parametrize("women", [1, 19, 20])
def test_exact_groups_of_fewer_than_metrics_may_be_told_of_are_kept(
    women: int, tmp_path: Path
) -> None:
    told = names(evaluate(door(tmp_path, records(women), policy=EXACT)))
    assert ({"cells/sex/0", "cells/sex/1"} <= told) == (women >= 20)
    assert ("cells/sex/1" in told) == (women >= 20)  # all less men are those women
    assert cells(("age", 3)) <= told


def test_one_record_more_or_less_is_no_difference_of_two_exact_groups(tmp_path: Path) -> None:
    """Of two columns that part the same people but for one, one at most is told."""
    data = records()
    assert data.test_subgroups is not None
    codes = data.test_subgroups.clone()
    codes[:, 1] = codes[:, 0]
    codes[0, 1] = 1
    told = names(evaluate(door(tmp_path, replace(data, test_subgroups=codes), policy=EXACT)))
    assert not {"cells/sex/0", "cells/age/0"} <= told
    assert not {"cells/sex/1", "cells/age/1"} <= told


def test_exact_groups_of_another_job_have_to_be_the_same(tmp_path: Path) -> None:
    """Under 40 of one job and under 41 of the next would tell of those who are 40."""
    given = Evaluations(tmp_path / "scores", most=50)

    def asked(name: str, subgroups: dict[str, list[Any]]) -> set[str]:
        plan = replace(PLAN, job=name, task=replace(TASK, subgroups=subgroups))
        institution = door(tmp_path / name, plan=plan, policy=EXACT, evaluations=given)
        tally = evaluate(institution, plan).tallies.get("test")
        return set() if tally is None else set(tally.sums)

    same = {"sex": ["F", "M"], "age": [40, 60]}
    assert asked("first", same) == cells(("sex", 2), ("age", 3))
    assert asked("moved", {"sex": ["F", "M"], "age": [41, 60]}) == set()
    # Those who are 40 exactly are above the one edge and below the other
    assert asked("hardly", {"sex": ["F", "M"], "age": [40.00004, 60]}) == set()
    assert asked("again", same) == cells(("sex", 2), ("age", 3))


@pytest.mark.parametrize("policy", [POLICY, EXACT], ids=["noisy", "exact"])
def test_policy_that_lets_accuracy_alone_out_tells_who_is_right_alone(
    policy: PolicyConfig, tmp_path: Path
) -> None:
    tally = evaluate(door(tmp_path, policy=replace(policy, metrics=["accuracy"]))).tallies["test"]
    by_group = {name: sums for name, sums in tally.sums.items() if "/" in name}
    assert set(by_group) == cells(("sex", 2), ("age", 3))
    assert {len(sums) for sums in by_group.values()} == {2}


def test_policy_without_metrics_tells_no_group(tmp_path: Path) -> None:
    assert evaluate(door(tmp_path, policy=replace(POLICY, metrics_privacy="none"))).tallies == {}


def test_what_is_told_of_all_records_is_the_same_with_groups_and_without(tmp_path: Path) -> None:
    plans = {"with": PLAN, "without": WITHOUT}
    told = {
        name: evaluate(door(tmp_path / name, plan=plan, policy=EXACT), plan)
        for name, plan in plans.items()
    }
    assert told["with"].evaluations == told["without"].evaluations
    assert not told["without"].tallies  # of two classes scores alone are told, and auc is not named


def test_what_counts_as_missing_is_a_part_of_the_declared_groups() -> None:
    declared = set()
    for missing in ([], ["57"], ["58"]):
        columns = {"a": ColumnConfig(minimum=0.0, maximum=100.0, missing_values=missing)}
        task = replace(TASK, columns=columns, subgroups={"a": [40]})
        declared.add(declaration(replace(PLAN, task=task)))
    assert len(declared) == 3
