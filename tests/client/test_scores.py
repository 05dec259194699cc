"""Noisy scores at the door: counted before they leave, given again, and never beyond the plan."""

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
    workload_of,
)

from confide.client.institution import Institution
from confide.client.ledger.memory import MemoryLedger
from confide.client.records.encoded import InstitutionData
from confide.client.schedule import score_schedules
from confide.client.told import Told
from confide.client.training.trainer import Trainer
from confide.config.client import ClientConfig
from confide.config.privacy import PolicyConfig, PrivacyConfig
from confide.metrics.outcomes.classification import CLASSIFICATION
from confide.metrics.release import estimates, sensitivity, statistics_of
from confide.metrics.score_table import tables_of
from confide.models.networks import trainable_tensors
from confide.privacy.accounting import epsilon
from confide.protocol.messages import Evaluation, Reply
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors

PRIVACY = PrivacyConfig(unit="record", epsilon=4.0, delta=1e-4)
PLAN = build_plan(client=ClientConfig(batch_size=8, local_steps=2), privacy=PRIVACY, num_rounds=2)
TRAINER = Trainer(workload_of(PLAN), private=True)
DATA = build_records(TRAINER.workload, train=120, validation=400, test=300)
POLICY = PolicyConfig(max_delta=1e-4)
START = trainable_tensors(TRAINER.workload.model)


def door(folder: Path, data: InstitutionData = DATA, **options: Any) -> Institution:
    ledger = build_ledger(folder / "ward.ledger", epsilon=8.0, delta=1e-4)
    given = {"policy": POLICY, "ledger": ledger, "key_fn": None, **options}
    return build_institution(PLAN, data, trainer=TRAINER, **given)


def shifted(by: float) -> Tensors:
    return {name: tensor + by for name, tensor in START.items()}


def evaluate(
    institution: Institution, by: float = 0.0, *splits: str, plan: TrainingPlan = PLAN
) -> Reply:
    asked = build_request(plan, 0, tensors=shifted(by), splits=splits or ("validation",))
    return institution.handle("evaluate", asked)


def train(institution: Institution, server_round: int, plan: TrainingPlan = PLAN) -> Reply:
    return institution.handle("train", build_request(plan, server_round, tensors=shifted(0.1)))


def scores(reply: Reply, split: str = "validation") -> Evaluation:
    assert reply.refusal is None
    return reply.evaluations[split]


def kinds(folder: Path) -> list[str]:
    ledger = build_ledger(folder / "ward.ledger", epsilon=8.0, delta=1e-4)
    return [event.kind for event in ledger._file.log.events]


def test_scores_are_noisy_and_say_by_how_much(tmp_path: Path) -> None:
    told = scores(evaluate(door(tmp_path)))
    assert set(told) == {
        *(name for metric in PLAN.task.metrics for name in (metric, f"{metric}_noise")),
        "num_examples",
    }
    exact = TRAINER.evaluate(shifted(0.0), DATA.validation)
    for name, value in exact.items():
        assert told[name] != value
        assert abs(told[name] - value) < 6 * told[f"{name}_noise"] + 0.01
    assert abs(told["num_examples"] - 400) < 40


def test_tally_is_the_sums_that_metrics_were_worked_out_from(tmp_path: Path) -> None:
    reply = evaluate(door(tmp_path))
    tally, names = reply.tallies["validation"], PLAN.task.metrics
    statistics = statistics_of(names, CLASSIFICATION)
    sums = numpy.concatenate([tally.sums[one.name] for one in statistics])
    told = estimates(sums, names, CLASSIFICATION, classes=len(PLAN.task.labels), std=tally.std)
    assert told == scores(reply)  # nothing more than was released, and paid for
    assert tally.std == pytest.approx(
        score_schedules(PLAN)["validation"].noise_multiplier * sensitivity(statistics)
    )
    again = evaluate(door(tmp_path))  # another process, from the ledger
    assert again.tallies == reply.tallies
    assert kinds(tmp_path).count("score") == 1


def test_release_of_a_ledger_without_tallies_is_told_as_it_was(tmp_path: Path) -> None:
    told = Told.of({"accuracy": 0.5, "accuracy_noise": 0.1, "num_examples": 40})
    assert told == Told(evaluation={"accuracy": 0.5, "accuracy_noise": 0.1, "num_examples": 40})


def test_rounds_tell_no_tally(tmp_path: Path) -> None:
    trained = train(door(tmp_path), 1)
    assert trained.evaluations
    assert trained.tallies == {}


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ({"metrics": ["accuracy"]}, {"hits"}),
        ({"metrics": ["auc", "accuracy"]}, {"hits", "ranks"}),
        ({"metrics_privacy": "none"}, set()),
        ({"min_support": 5000}, set()),
        ({"metrics_privacy": "exact", "metrics": ["accuracy"]}, set()),
        ({"metrics_privacy": "exact", "metrics": ["auc"]}, {"ranks"}),
        ({"metrics_privacy": "exact", "min_support": 401}, set()),
        ({"metrics_privacy": "exact", "min_support": 400, "min_cell": 400}, {"ranks"}),
        ({"metrics_privacy": "exact", "metrics": ["log_loss"]}, set()),
    ],
)
def test_no_more_is_told_than_the_policy_lets_metrics_out(
    policy: dict[str, Any], told: set[str], tmp_path: Path
) -> None:
    institution = door(tmp_path, policy=replace(POLICY, **policy))
    train(institution, 1)
    tallies = evaluate(institution).tallies
    assert {name for tally in tallies.values() for name in tally.sums} == told


@pytest.mark.parametrize(
    ("floor", "least"), [({}, 10), ({"min_cell": 15}, 15), ({"min_support": 4}, 4)]
)
def test_exact_counts_leave_in_bins_of_as_many_records_as_the_policy_says(
    floor: dict[str, int], least: int, tmp_path: Path
) -> None:
    policy = replace(POLICY, metrics_privacy="exact", **floor)
    institution = door(tmp_path, policy=policy)
    train(institution, 1)
    tally = evaluate(institution).tallies["validation"]
    assert tally.std == 0
    tables = tables_of(tally, len(PLAN.task.labels))
    assert tables
    for table in tables:
        assert table.counts.sum() == 400
        assert len(table.edges) > 3
        assert table.counts.sum(axis=1).min() >= least


def test_bins_hold_owners_where_they_are_known_whatever_a_plan_protects(tmp_path: Path) -> None:
    """Forty rows a patient, in a plan that protects records."""
    owned = replace(DATA, held_out_groups={"validation": torch.arange(400) // 40})
    counted = {}
    for least in (1, 3, 11):
        policy = replace(POLICY, metrics_privacy="exact", min_cell=least)
        institution = door(tmp_path / str(least), owned, policy=policy)
        train(institution, 1)
        tally = evaluate(institution).tallies.get("validation")
        counted[least] = None if tally is None else tables_of(tally, len(PLAN.task.labels))
    assert counted[11] is None
    bins, all_bins = (min(len(one.edges) for one in counted[it] or []) for it in (3, 1))
    assert bins < all_bins
    assert min(one.counts.sum(axis=1).min() for one in counted[3] or []) >= 3


def test_model_that_has_diverged_has_no_exact_tally(tmp_path: Path) -> None:
    institution = door(tmp_path, policy=replace(POLICY, metrics_privacy="exact", max_value=1e30))
    train(institution, 1)
    assert evaluate(institution, 1e30).tallies == {}


def test_same_question_has_the_same_answer_at_no_further_cost(tmp_path: Path) -> None:
    answers = [scores(evaluate(door(tmp_path))) for _ in range(3)]  # a process each
    answers.append(scores(evaluate(door(tmp_path), 0.0, "validation", "test")))
    assert all(answer == answers[0] for answer in answers)
    assert kinds(tmp_path).count("score") == 2  # one of each split


def test_other_tensors_and_ledgers_have_noise_of_their_own(tmp_path: Path) -> None:
    first = scores(evaluate(door(tmp_path)))
    others = [evaluate(door(tmp_path), 1e-6), evaluate(door(tmp_path / "b"))]
    values = [first, *map(scores, others)]
    assert len({value["accuracy"] for value in values}) == len(values)
    assert kinds(tmp_path).count("score") == 2


def test_asking_again_does_not_tell_that_records_changed(tmp_path: Path) -> None:
    first = evaluate(door(tmp_path))
    more = build_records(TRAINER.workload, train=120, validation=401)
    assert scores(evaluate(door(tmp_path, more))) == scores(first)
    assert kinds(tmp_path).count("score") == 1


def test_release_beyond_the_declared_number_is_refused_and_training_goes_on(
    tmp_path: Path,
) -> None:
    institution = door(tmp_path)
    declared = score_schedules(PLAN)["validation"].steps
    replies = [evaluate(institution, number / 8) for number in range(declared + 1)]
    assert [reply.refusal for reply in replies] == [None] * declared + ["scores_spent"]
    assert replies[-1].figures == {"asked": declared + 1.0, "allowed": float(declared)}
    assert evaluate(institution).refusal is None  # what was told before is told again
    trained = train(institution, 1)
    assert (trained.refusal, trained.evaluations) == (None, {})


def test_run_that_only_evaluates_is_charged_whole(tmp_path: Path) -> None:
    institution = door(tmp_path)
    told = evaluate(institution)
    account = institution.ledger.population  # type: ignore[attr-defined]
    assert account.committed == pytest.approx(4.0, abs=0.01)
    one = replace(score_schedules(PLAN)["validation"], steps=1)
    assert told.figures["epsilon"] == pytest.approx(epsilon(one, delta=1e-4))
    assert account.spent == pytest.approx(told.figures["epsilon"], abs=1e-6)


def test_scores_cost_nothing_beside_training_and_more_where_the_plan_wants_more(
    tmp_path: Path,
) -> None:
    more = replace(PLAN, job="more", privacy=replace(PRIVACY, metrics_epsilon=6.0))
    committed = []
    for plan in (PLAN, more):
        institution = door(tmp_path / plan.job)
        train(institution, 1, plan)
        committed.append(institution.ledger.population.committed)  # type: ignore[attr-defined]
    assert committed == pytest.approx([4.0, 6.0], abs=0.01)


def test_plan_that_the_budget_does_not_cover_gets_no_scores(tmp_path: Path) -> None:
    dear = replace(PLAN, privacy=replace(PRIVACY, metrics_epsilon=8.0, epsilon=8.0))
    institution = door(tmp_path)
    assert evaluate(institution).refusal is None
    reply = evaluate(institution, plan=replace(dear, job="another"))
    assert (reply.refusal, reply.evaluations) == ("budget_exhausted", {})


def test_job_cannot_ask_again_with_more_epsilon_for_scores(tmp_path: Path) -> None:
    institution = door(tmp_path)
    assert evaluate(institution).refusal is None
    more = replace(PLAN, privacy=replace(PRIVACY, metrics_epsilon=7.0))
    assert evaluate(institution, plan=more).refusal == "plan_changed"


def test_scores_are_written_before_they_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    institution = door(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(institution.ledger, "score", lambda *_: 1 / 0)
        reply = evaluate(institution)
        assert (reply.refusal, reply.evaluations) == ("internal_error", {})
    assert "score" not in kinds(tmp_path)
    assert evaluate(institution).refusal is None


def test_number_of_records_leaves_with_noise_too(tmp_path: Path) -> None:
    told = []
    for size in (400, 401, 402, 403):
        data = build_records(TRAINER.workload, train=120, validation=size)
        told.append(scores(evaluate(door(tmp_path / str(size), data)))["num_examples"])
    assert told != [400, 401, 402, 403]


def test_policy_without_metrics_trains_all_the_same(tmp_path: Path) -> None:
    institution = door(tmp_path, policy=replace(POLICY, metrics_privacy="none"))
    trained = train(institution, 1)
    assert (trained.refusal, trained.evaluations) == (None, {})
    assert evaluate(institution).evaluations == {}
    assert "score" not in kinds(tmp_path)


def test_plan_without_a_unit_gets_no_scores_where_they_are_to_be_noisy() -> None:
    plain = replace(PLAN, privacy=PrivacyConfig())
    institution = build_institution(
        plain, DATA, policy=replace(POLICY, required_unit="none"), ledger=MemoryLedger()
    )
    reply = evaluate(institution, plan=plain)
    assert (reply.refusal, reply.evaluations) == (None, {})


def test_only_metrics_that_plan_and_policy_name_cost_noise(tmp_path: Path) -> None:
    alone = replace(PLAN, task=replace(PLAN.task, metrics=["accuracy"]))
    trainer = Trainer(workload_of(alone), private=True)
    noise = {}
    for name, plan, policy in (
        ("all", PLAN, POLICY),
        ("plan", alone, POLICY),
        ("policy", PLAN, replace(POLICY, metrics=["accuracy"])),
    ):
        ledger = build_ledger(tmp_path / name / "ward.ledger", epsilon=8.0, delta=1e-4)
        institution = build_institution(
            plan, DATA, trainer=trainer, policy=policy, ledger=ledger, key_fn=None
        )
        noise[name] = scores(evaluate(institution, plan=plan))["accuracy_noise"]
    assert noise["plan"] == pytest.approx(noise["all"] / 2, rel=0.3)
    assert noise["policy"] == pytest.approx(noise["all"] / 2, rel=0.3)


def test_group_moves_scores_by_as_much_as_a_record(tmp_path: Path) -> None:
    grouped = replace(PLAN, privacy=replace(PRIVACY, unit="group"))
    owners = torch.arange(400) // 8
    data = replace(
        DATA,
        groups=torch.arange(120),
        held_out_groups={"validation": owners, "test": torch.arange(300)},
    )
    trainer = Trainer(workload_of(grouped), private=True, group_size=16)
    ledger = build_ledger(tmp_path / "ward.ledger", epsilon=30.0, delta=1e-4)
    institution = build_institution(
        grouped, data, trainer=trainer, policy=POLICY, ledger=ledger, key_fn=None
    )
    reply = evaluate(institution, plan=grouped)
    assert abs(scores(reply)["num_examples"] - 50) < 30  # groups, and not records
    unknown = build_institution(
        grouped, DATA, trainer=trainer, policy=POLICY, ledger=MemoryLedger()
    )
    assert evaluate(unknown, plan=grouped).refusal == "privacy"


def test_memory_gives_the_same_answer_again_and_counts_as_a_file_does() -> None:
    institution = build_institution(
        PLAN, DATA, trainer=TRAINER, policy=POLICY, ledger=MemoryLedger(), key_fn=None
    )
    first, again = evaluate(institution), evaluate(institution)
    assert first.evaluations == again.evaluations
    refusals = [evaluate(institution, number / 8).refusal for number in range(1, 4)]
    assert refusals == [None, None, "scores_spent"]


@pytest.mark.parametrize(("every", "scored", "declared"), [(1, 3, 4), (2, 2, 3), (0, 0, 1)])
def test_rounds_that_are_not_due_release_nothing_and_leave_less_noise(
    every: int, scored: int, declared: int, tmp_path: Path
) -> None:
    plan = replace(PLAN, privacy=replace(PRIVACY, metrics_every=every), num_rounds=3)
    releases = score_schedules(plan)["validation"]
    assert releases.steps == declared
    assert (
        releases.noise_multiplier
        <= score_schedules(replace(PLAN, num_rounds=3))["validation"].noise_multiplier
    )
    institution = door(tmp_path)
    replies = [
        institution.handle("train", build_request(plan, number, tensors=shifted(number / 8)))
        for number in (1, 2, 3)
    ]
    assert [reply.refusal for reply in replies] == [None] * 3
    assert sum(bool(reply.evaluations) for reply in replies) == scored
    assert evaluate(institution, plan=plan).evaluations


def test_plans_text_says_nothing_of_scores_where_they_are_as_by_default() -> None:
    assert "metrics_e" not in PLAN.to_json()
    asked = replace(PLAN, privacy=replace(PRIVACY, metrics_epsilon=2.0, metrics_every=3))
    assert TrainingPlan.from_json(asked.to_json()) == asked
