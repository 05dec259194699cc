"""The policy: each rule denies and allows, with the values.

Nothing that a plan says loosens one.
"""

import dataclasses
import datetime
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import confide.cli
from confide.client.commands.policy import load_policy
from confide.client.ledger.file import LedgerFile
from confide.client.policy import Policy
from confide.client.schedule import epsilon_alone, make_schedule, workplan
from confide.client.secure_sums.rules import sum_rules
from confide.client.secure_sums.seat import SumRules
from confide.client.verdicts import Verdict
from confide.config.composing.compose import compose
from confide.config.fields import range_problems
from confide.config.models.transformer import TransformerConfig
from confide.config.privacy import BudgetConfig, PolicyConfig, SecureSumsPolicyConfig
from confide.config.strategies.strategy import ObjectiveConfig
from confide.errors import ConfigError, DeniedError
from confide.protocol.masked_sums import MaskedSums
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan
from confide.protocol.releases import release_plan

RECORDS = 200
HASH = "a" * 64
PLAN = make_plan(
    compose(
        [
            "experiment=heart_disease",
            "privacy=record",
            "privacy.epsilon=3",
            "privacy.spare_rounds=5",
        ]
    ),
    backbone_sha256=None,
)
PRETRAINED = replace(
    PLAN, backbone=TransformerConfig(name="pkg://x/y", allow_download=True), backbone_sha256=HASH
)
MASKED = replace(PLAN, sums=MaskedSums(max_value=1024.0))
DRAFTED = replace(PLAN, task=replace(PLAN.task, drafted=list(PLAN.task.table_columns)[:1]))


def judged(
    config: PolicyConfig, plan: TrainingPlan = PLAN, *, is_approved: bool = False
) -> dict[str, Verdict]:
    size = workplan(plan, num_examples=RECORDS)
    return {v.rule: v for v in Policy(config).verdicts(plan, size, is_approved=is_approved)}


def changed(**privacy: Any) -> TrainingPlan:
    return replace(PLAN, privacy=replace(PLAN.privacy, **privacy))


# rule -> (policy and plan that are denied, policy and plan that are allowed, what is asked, what is
# allowed)
PEERS = [f"SHA256:{letter * 43}" for letter in "a+"]
STATISTICS = release_plan(PLAN, "statistics", epsilon=1.0)

RULES: dict[
    str,
    tuple[tuple[dict[str, Any], TrainingPlan], tuple[dict[str, Any], TrainingPlan], object, object],
] = {
    "tasks": (
        ({"tasks": ["text_classification"]}, PLAN),
        ({"tasks": ["tabular"]}, PLAN),
        "tabular",
        "text_classification",
    ),
    "allow_drafted": (
        ({}, DRAFTED),
        ({"allow_drafted": True}, DRAFTED),
        f"unconfirmed: {DRAFTED.task.drafted[0]}",
        "confirmed",
    ),
    "backbones": (
        ({"backbones": ["b" * 64]}, PRETRAINED),
        ({"backbones": [HASH]}, PRETRAINED),
        HASH,
        "b" * 64,
    ),
    "allow_download": (({}, PRETRAINED), ({"allow_download": True}, PRETRAINED), "yes", "no"),
    "required_unit": (
        ({"required_unit": "record"}, changed(unit="none")),
        ({"required_unit": "record"}, PLAN),
        "none",
        "record",
    ),
    "max_epsilon": (({"max_epsilon": 2.9}, PLAN), ({"max_epsilon": 3.0}, PLAN), 3.0, 2.9),
    "max_epsilon_with_peers": (
        ({"max_epsilon_with_peers": 2.9}, PLAN),
        ({"max_epsilon_with_peers": 3.0}, PLAN),
        3.0,
        2.9,
    ),
    "max_delta": (({"max_delta": 1e-6}, PLAN), ({"max_delta": 1e-5}, PLAN), 1e-5, 1e-6),
    "max_rounds": (({"max_rounds": 54}, PLAN), ({"max_rounds": 55}, PLAN), 55, 54),
    "max_epochs": (({"max_epochs": 0.5}, PLAN), ({"max_epochs": 1.0}, PLAN), 1.0, 0.5),
    "release_statistics": (
        ({"release_statistics": "none"}, STATISTICS),
        ({"release_statistics": "federation"}, STATISTICS),
        "statistics",
        "none",
    ),
    "secure.required": (
        ({"secure": SecureSumsPolicyConfig(required=True)}, PLAN),
        ({"secure": SecureSumsPolicyConfig(required=True)}, MASKED),
        "each institution's",
        "sums alone",
    ),
    "approval": (
        ({"approval": "manual"}, PLAN),
        ({"approval": "automatic"}, PLAN),
        "not approved",
        "approved",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_denies_and_allows(rule: str) -> None:
    (denying, denied_plan), (allowing, allowed_plan), asked, allowed = RULES[rule]
    verdict = judged(PolicyConfig(**denying), denied_plan)[rule]
    assert (verdict.holds, verdict.asked, verdict.allowed) == (False, asked, allowed)
    assert judged(PolicyConfig(**allowing), allowed_plan)[rule].holds


def test_every_rule_of_the_config_is_tested_here_or_below() -> None:
    elsewhere = {
        "budget",
        "min_records",
        "public_n",
        "max_update_mb",
        "max_update_norm",
        "max_value",
        "metrics",
        "min_support",
        "min_cell",
        "hours",
        "min_confidence",
    }
    elsewhere |= {"allow_reproducible_noise", "max_evaluations", "metrics_privacy"}
    rules = {rule.partition(".")[0] for rule in RULES}
    assert rules | elsewhere == {field.name for field in dataclasses.fields(PolicyConfig)}


@pytest.mark.parametrize(("largest", "holds"), [(0.0, True), (50.0, True), (50.1, False)])
def test_values_that_came_are_held_against_the_largest(largest: float, holds: bool) -> None:
    policy = Policy(PolicyConfig(max_value=50.0))
    if holds:
        policy.check_values(largest)
        return
    with pytest.raises(DeniedError, match=r"policy\.max_value: asked 50\.1, allowed 50") as caught:
        policy.check_values(largest)
    assert caught.value.figures == {"asked": 50.1, "allowed": 50.0}


def test_a_denial_names_rule_and_both_values_and_tells_the_numbers() -> None:
    policy = Policy(PolicyConfig(max_epsilon=2.5))
    with pytest.raises(DeniedError, match=r"policy\.max_epsilon: asked 3, allowed 2\.5") as caught:
        policy.check_plan(PLAN, workplan(PLAN, num_examples=RECORDS), is_approved=False)
    assert (caught.value.code, caught.value.figures) == (
        "policy_max_epsilon",
        {"asked": 3.0, "allowed": 2.5},
    )


def test_group_satisfies_a_policy_that_wants_record() -> None:
    assert judged(PolicyConfig(required_unit="record"), changed(unit="group"))[
        "required_unit"
    ].holds
    assert not judged(PolicyConfig(required_unit="group"))["required_unit"].holds


# --- noise of others

ONE_STEP = replace(MASKED, client=replace(PLAN.client, local_steps=1), objective=ObjectiveConfig())


def test_a_plan_that_counts_on_others_is_held_against_what_it_costs_alone() -> None:
    counting = replace(
        ONE_STEP, privacy=replace(PLAN.privacy, trust="peers", honest_peers=3, epsilon=3.0)
    )
    size = workplan(counting, num_examples=RECORDS)
    alone = epsilon_alone(counting, size)
    needed = make_schedule(replace(ONE_STEP, sums=None), num_examples=RECORDS)
    part = replace(needed, noise_multiplier=needed.noise_multiplier / math.sqrt(3))
    assert alone == pytest.approx(
        part.epsilon_after(size.max_rounds, delta=1e-5, accountant="pld"), rel=1e-6
    )
    for bound, holds in ((alone - 0.01, False), (alone, True)):
        verdict = judged(PolicyConfig(max_epsilon=bound), counting)["max_epsilon"]
        assert (verdict.holds, verdict.asked) == (holds, alone)
    with_peers = judged(PolicyConfig(max_epsilon=9.0, max_epsilon_with_peers=2.9), counting)
    assert not with_peers["max_epsilon_with_peers"].holds


def test_where_noise_of_others_is_more_than_was_asked_each_cohort_decides() -> None:
    strict = PolicyConfig(max_epsilon_with_peers=1.0)
    assert judged(strict, ONE_STEP)["max_epsilon_with_peers"].asked == (
        "less than epsilon, by each cohort"
    )
    several = replace(ONE_STEP, client=replace(ONE_STEP.client, local_steps=2))
    for plan, holds in ((ONE_STEP, True), (several, False)):
        assert judged(strict, plan)["max_epsilon_with_peers"].holds == holds


# --- masked sums


@pytest.mark.parametrize("plan", [PLAN, STATISTICS, replace(STATISTICS, sums=MASKED.sums)])
def test_what_has_no_masks_is_denied_where_they_are_required(plan: TrainingPlan) -> None:
    policy = Policy(PolicyConfig(secure=SecureSumsPolicyConfig(required=True)))
    with pytest.raises(
        DeniedError, match=r"policy\.secure\.required: .*aggregation=secure"
    ) as caught:
        policy.check_before_loading(plan)
    assert (caught.value.code, caught.value.figures) == ("sum_required", {})
    Policy(PolicyConfig()).check_before_loading(plan)


def test_rules_of_a_seat_are_those_of_the_policy() -> None:
    assert sum_rules(SecureSumsPolicyConfig()) == SumRules()
    rules = {"min_cohort": 4, "max_colluding": 1, "min_survivors": 5}
    assert sum_rules(SecureSumsPolicyConfig(**rules, peers=[*PEERS, PEERS[0]])) == SumRules(
        **rules, peers=frozenset(PEERS)
    )


@pytest.mark.parametrize(
    ("secure", "problem"),
    [
        (
            {"peers": [*PEERS, "SHA256:short"]},
            r"policy\.secure\.peers=SHA256:short: .*43 characters",
        ),
        ({"peers": PEERS[:1]}, r"peers names 1 others, min_cohort=3"),
        ({"peers": [PEERS[0], PEERS[0]]}, r"peers names 1 others"),
        ({"peers": []}, r"peers names 0 others"),
        ({"min_cohort": 2}, r"min_cohort=2: expected >= 3"),
        ({"max_colluding": -1}, r"max_colluding=-1: expected >= 0"),
    ],
)
def test_rules_that_no_sum_could_keep_are_told(secure: dict[str, Any], problem: str) -> None:
    policy = PolicyConfig(secure=SecureSumsPolicyConfig(**secure))
    assert re.search(problem, "\n".join(range_problems(policy, "policy.")))


def test_peers_that_suffice_are_no_problem() -> None:
    policy = PolicyConfig(secure=SecureSumsPolicyConfig(peers=PEERS))
    assert not list(range_problems(policy))


def test_any_backbone_where_the_policy_says_so() -> None:
    assert judged(PolicyConfig(backbones=["any"]), PRETRAINED)["backbones"].holds


def test_an_approved_plan_passes_a_manual_policy() -> None:
    assert judged(PolicyConfig(approval="manual"), is_approved=True)["approval"].holds


def test_epsilon_is_not_asked_of_a_plan_without_privacy() -> None:
    assert "max_epsilon" not in judged(PolicyConfig(required_unit="none"), changed(unit="none"))


# --- numbers of records


@pytest.mark.parametrize(
    ("config", "units", "n"),
    [({}, 150, 150), ({"public_n": 300}, 150, 300), ({"min_records": 150}, 150, 150)],
)
def test_n_is_the_declared_number_or_the_true_one(
    config: dict[str, int], units: int, n: int
) -> None:
    assert Policy(PolicyConfig(**config)).public_count(units) == n  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "rule"), [({"public_n": 149}, "public_n"), ({"min_records": 151}, "min_records")]
)
def test_too_many_or_too_few_records_are_denied_without_their_number(
    config: dict[str, int], rule: str
) -> None:
    with pytest.raises(DeniedError) as caught:
        Policy(PolicyConfig(**config)).public_count(150)  # type: ignore[arg-type]
    assert caught.value.code == f"policy_{rule}"
    assert caught.value.figures == {"allowed": float(config[rule])}


# --- hours


@pytest.mark.parametrize(
    ("hours", "now", "holds"),
    [
        (None, "12:00", True),
        ("09:00-17:00", "09:00", True),
        ("09:00-17:00", "16:59", True),
        ("09:00-17:00", "17:00", False),
        ("20:00-06:00", "23:30", True),
        ("20:00-06:00", "05:59", True),
        ("20:00-06:00", "06:00", False),
    ],
)
def test_hours(hours: str | None, now: str, holds: bool) -> None:
    clock = datetime.datetime.fromisoformat(f"2026-11-24T{now}:00")
    policy = Policy(PolicyConfig(hours=hours), now_fn=lambda: clock)
    assert policy.hours().holds is holds
    if not holds:
        with pytest.raises(DeniedError, match=rf"policy\.hours: asked {now}, allowed {hours}"):
            policy.check_hours()


# --- on the way out


def test_an_update_within_bounds_leaves() -> None:
    Policy(PolicyConfig()).check_update({"w": torch.ones(3)})


@pytest.mark.parametrize(
    ("config", "update", "rule"),
    [
        ({"max_update_norm": 1.7}, torch.ones(3), "max_update_norm"),
        ({}, torch.ones(3, dtype=torch.float64), "update_dtype"),
        ({}, torch.tensor([1.0, torch.nan]), "update_finite"),
        ({}, torch.tensor([1.0, torch.inf]), "update_finite"),
    ],
)
def test_an_update_out_of_bounds_stays(
    config: dict[str, float], update: torch.Tensor, rule: str
) -> None:
    with pytest.raises(DeniedError) as caught:
        Policy(PolicyConfig(**config)).check_update({"w": update})  # type: ignore[arg-type]
    assert caught.value.code == f"policy_{rule}"
    assert "asked" not in caught.value.figures  # it follows from records


def test_an_update_that_would_be_too_large_is_denied_beforehand() -> None:
    Policy(PolicyConfig(max_update_mb=1.0)).check_size({"w": (2**18,)})
    with pytest.raises(
        DeniedError, match=r"policy\.max_update_mb: asked 1\.00\d+, allowed 1"
    ) as caught:
        Policy(PolicyConfig(max_update_mb=1.0)).check_size({"w": (2**18,), "b": (200,)})
    assert caught.value.figures["asked"] > 1.0


@pytest.mark.parametrize(("bits", "fits"), [(32, 2**18), (64, 2**17)])
def test_a_masked_update_is_as_large_as_its_words(bits: int, fits: int) -> None:
    policy, sums = Policy(PolicyConfig(max_update_mb=1.0)), MaskedSums(bits=bits, max_value=1.0)
    policy.check_size({"w": (fits,)}, sums)
    with pytest.raises(DeniedError, match=r"policy\.max_update_mb: asked 1\.0+\d+, allowed 1"):
        policy.check_size({"w": (fits,), "b": (200,)}, sums)


@pytest.mark.parametrize("disguise", ["mlp", "logistic", None])
def test_a_pretrained_backbone_is_known_by_its_hash_alone(disguise: str | None) -> None:
    plan = replace(PRETRAINED, backbone_sha256=disguise)
    assert not judged(PolicyConfig(), plan)["backbones"].holds


def test_metrics_leave_only_if_allowed_and_on_enough_records() -> None:
    policy = Policy(PolicyConfig(metrics=["accuracy"], min_support=20, metrics_privacy="exact"))
    scored = {
        "validation": {"accuracy": 0.5, "auc": 0.6, "num_examples": 20},
        "test": {"accuracy": 0.5, "num_examples": 19},
    }
    assert policy.released(scored) == {"validation": {"accuracy": 0.5, "num_examples": 20}}


def test_exact_metrics_stay_where_the_policy_wants_noise_and_all_where_it_wants_none() -> None:
    exact = {"accuracy": 0.5, "num_examples": 30}
    noisy = {"accuracy": 0.5, "accuracy_noise": 0.1, "auc": 0.6, "num_examples": 30}
    scored = {"validation": exact, "test": noisy}
    kept = {"accuracy": 0.5, "accuracy_noise": 0.1, "num_examples": 30}
    released = {
        mode: Policy(PolicyConfig(metrics=["accuracy"], metrics_privacy=mode)).released(scored)
        for mode in ("noisy", "exact", "none")
    }
    assert released["noisy"] == {"test": kept}
    assert released["exact"] == {"validation": exact, "test": kept}
    assert released["none"] == {}


def test_epsilon_of_scores_is_held_against_the_policy_too() -> None:
    assert not judged(PolicyConfig(max_epsilon=3.0), changed(metrics_epsilon=3.5))[
        "max_epsilon"
    ].holds
    assert judged(PolicyConfig(max_epsilon=3.0), changed(metrics_epsilon=2.5))["max_epsilon"].holds


# --- the file, and the command that explains


def test_a_policy_file_has_strict_defaults(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "max_epsilon: 3.0\nbudget: {epsilon: 10.0, unit: group}\nrequired_unit: group\n"
    )
    policy = load_policy(path)
    assert (policy.max_epsilon, policy.budget.epsilon, policy.allow_download) == (3.0, 10.0, False)
    assert policy.allow_reproducible_noise is False
    assert load_policy(None) == PolicyConfig()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("max_epsilom: 3", r"max_epsilom=3: there is no such setting"),
        ("max_epsilon: lots", r"max_epsilon='lots': Input should be a valid number"),
        ("max_epsilon: -1.0", r"max_epsilon=-1\.0: Input should be greater than 0"),
        ("hours: noon", r"hours=noon: expected HH:MM-HH:MM"),
        ("metrics: [recall]", r"metrics=recall: expected only accuracy"),
        ("required_unit: group", r"budget\.unit=record"),
        ("{", r"policy\.yaml:1: is not YAML"),
    ],
)
def test_a_wrong_policy_file_is_named(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        load_policy(path)


def test_simulated_policies_are_sound() -> None:
    for choice in ("simulation", "strict"):
        assert not list(
            range_problems(compose([f"policy={choice}", "policy.required_unit=none"]).policy)
        )


def explain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, dict[str, Any]]:
    plan = tmp_path / "plan.json"
    plan.write_text(PLAN.to_json() + "\n")
    status = confide.cli.main(
        ["policy", "explain", str(plan), *words, "--records", str(RECORDS), "--json"]
    )
    return status, {verdict["rule"]: verdict for verdict in json.loads(capsys.readouterr().out)}


def test_explain_shows_every_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, rules = explain(tmp_path, capsys)
    assert status == 0
    about_this_plan = set(RULES) - {"release_statistics"}  # a rule about releases alone
    assert set(rules) == about_this_plan | {"hours", "public_n", "min_records"}
    (tmp_path / "policy.yaml").write_text("max_rounds: 3\n")
    status, rules = explain(tmp_path, capsys, str(tmp_path / "policy.yaml"))
    assert status == 1
    assert [name for name, rule in rules.items() if not rule["holds"]] == ["max_rounds"]
    assert (rules["max_rounds"]["asked"], rules["max_rounds"]["allowed"]) == (55, 3)


def test_explain_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(PLAN.to_json())
    assert confide.cli.main(["policy", "explain", str(plan), "--records", "50"]) == 1
    shown = capsys.readouterr().out
    assert "min_records" in shown
    assert "DENIED" in shown


def test_a_plan_is_approved_in_the_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.yaml").write_text("approval: manual\n")
    ledger = tmp_path / "ward.ledger"
    LedgerFile(ledger).declare("ward", BudgetConfig(epsilon=5.0))
    arguments = (str(tmp_path / "policy.yaml"), "--ledger", str(ledger))
    assert explain(tmp_path, capsys, *arguments)[0] == 1
    assert confide.cli.main(["ledger", "approve", str(ledger), str(tmp_path / "plan.json")]) == 0
    assert "Approved: job simulation, epsilon 3 at delta 1e-05" in capsys.readouterr().out
    assert explain(tmp_path, capsys, *arguments)[0] == 0


@pytest.mark.parametrize(
    ("own", "told"), [(0.0, "above 0.6"), (0.98, "above 0.98"), (1.0, "never")]
)
def test_how_sure_a_model_has_to_be_is_told(own: float, told: str) -> None:
    plan = replace(PLAN, task=replace(PLAN.task, self_training=0.6))
    verdict = judged(PolicyConfig(min_confidence=own), plan)["min_confidence"]
    assert (verdict.asked, verdict.allowed, verdict.holds) == (0.6, told, True)
    assert "min_confidence" not in judged(PolicyConfig(min_confidence=own))
