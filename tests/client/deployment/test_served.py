"""A deployed institution.

What it serves, what it refuses before anything is touched, and where its noise comes from.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_kit import NAME, PLAIN, PRIVATE, RECORDS, TASK, ask, make_kit, start

from confide.client.deployment.job_files import plan_path, stop_mark
from confide.client.deployment.kit import InstitutionKit
from confide.client.deployment.served import (
    SPLIT_KEY,
    DeployedInstitution,
    known_backbones,
    own_split_key,
)
from confide.client.ledger.file import LedgerFile
from confide.client.records.checked import load_checked_records
from confide.client.records.encoded import encode_institution
from confide.client.training.deadline import Deadline
from confide.client.training.trainer import Trainer
from confide.config.models.perceptrons import LogisticConfig, MlpConfig
from confide.config.models.transformer import TransformerConfig
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tunings.tuning import TuningConfig
from confide.errors import ModelError
from confide.models.backbones import content_hash
from confide.models.compute import Compute
from confide.models.workload import build_workload
from confide.privacy.keys import seeded_secret, split_key
from confide.protocol.masked_sums import MaskedSums
from confide.protocol.messages import Reply
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, decode, num_bytes, shapes_of
from confide.simulations.institutions import InstitutionFactory, Setup
from confide.storage.tensor_files import sha256

SEED = PRIVATE.seed
assert SEED is not None
BUDGET: dict[str, Any] = {"budget": {"epsilon": 20.0}, "min_records": 50}
REPRODUCIBLE = {**BUDGET, "allow_reproducible_noise": True}
NOWHERE = {"path": "/nowhere/records.csv"}
"""Records that cannot be read: who is refused with another code was refused before they were
touched."""
PRETRAINED = replace(
    PRIVATE, backbone=TransformerConfig(name="coordinator/own-name"), backbone_sha256="ab" * 32
)


def open_door(
    folder: Path, *overrides: str, **settings: Any
) -> tuple[InstitutionKit, DeployedInstitution]:
    kit = make_kit(folder, *overrides, **settings)
    return kit, DeployedInstitution(kit, deadline=Deadline())


def refused(folder: Path, plan: TrainingPlan, **settings: Any) -> str | None:
    _, door = open_door(folder, **settings)
    return door.handle("query", ask(plan)).refusal


def update_of(reply: Reply) -> Tensors:
    assert reply.refusal is None
    assert reply.arrays is not None
    return decode(reply.arrays, shapes_of(start()), max_value=1e9).tensors


def backbone(folder: Path, weights: bytes = b"weights") -> Path:
    """Make what looks like a backbone, weights aside."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "model.safetensors").write_bytes(weights)
    return folder


# --- refused before records or backbone are touched

DENIED: dict[str, tuple[TrainingPlan, dict[str, Any]]] = {
    "policy_max_epsilon": (PRIVATE, {"policy": {**BUDGET, "max_epsilon": 3.0}}),
    "policy_max_delta": (PRIVATE, {"policy": {**BUDGET, "max_delta": 1e-6}}),
    "policy_required_unit": (PLAIN, {}),
    "policy_tasks": (PRIVATE, {"policy": {**BUDGET, "tasks": ["text_classification"]}}),
    "policy_allow_drafted": (replace(PRIVATE, task=replace(TASK, drafted=["a"])), {}),
    "policy_backbones": (PRETRAINED, {}),
    "policy_allow_download": (
        replace(PRETRAINED, backbone=TransformerConfig(name="x/y", allow_download=True)),
        {"policy": {**BUDGET, "backbones": ["any"]}},
    ),
    "task_not_served": (replace(PRIVATE, task=replace(TASK, label_column="other")), {}),
    "no_budget": (PRIVATE, {"policy": {"required_unit": "none"}}),
    "backbone_not_here": (PRETRAINED, {"policy": {**BUDGET, "backbones": ["any"]}}),
    "policy_max_update_mb": (PRIVATE, {"policy": {**BUDGET, "max_update_mb": 1e-9}}),
}


@pytest.mark.parametrize("code", DENIED)
def test_a_plan_that_is_not_allowed_touches_no_records(tmp_path: Path, code: str) -> None:
    plan, settings = DENIED[code]
    assert refused(tmp_path, plan, data=NOWHERE, **settings) == code


def test_words_of_a_masked_sum_count_as_they_travel(tmp_path: Path) -> None:
    policy = {**BUDGET, "max_update_mb": 1.5 * num_bytes(start()) / 2**20}
    for bits, code in ((32, "cannot_comply"), (64, "policy_max_update_mb")):
        plan = replace(PRIVATE, sums=MaskedSums(bits=bits, max_value=8.0))
        assert refused(tmp_path / str(bits), plan, data=NOWHERE, policy=policy) == code


def test_a_plan_that_is_allowed_reaches_for_the_records(tmp_path: Path) -> None:
    assert refused(tmp_path, PRIVATE, data=NOWHERE) == "cannot_comply"


def test_a_plan_outside_the_policy_touches_no_backbone(tmp_path: Path) -> None:
    settings = {
        "policy": {**BUDGET, "backbones": ["any"], "max_epsilon": 1.0},
        "backbones": ["/nowhere/backbone"],
    }
    assert refused(tmp_path / "a", PRETRAINED, **settings) == "policy_max_epsilon"
    allowed = {**settings, "policy": {**BUDGET, "backbones": ["any"]}}
    assert refused(tmp_path / "b", PRETRAINED, **allowed) == "cannot_comply"


def columns_without(value: int) -> TabularConfig:
    """A task that fits the records if, and only if, none has this value in column a."""
    categories = [str(other) for other in range(RECORDS) if other != value]
    return replace(TASK, columns={"a": ColumnConfig(kind="categorical", categories=categories)})


QUESTIONS: dict[str, tuple[TabularConfig, TabularConfig]] = {
    "is there a 77 in column a": (columns_without(77), columns_without(990)),
    "is there a label no": (
        replace(TASK, labels=["yes", "maybe"]),
        replace(TASK, labels=["a", "b"]),
    ),
    "is there a column a": (TASK, replace(TASK, columns={"b": TASK.columns["a"]})),
    "is column a a label": (
        replace(TASK, label_column="a", labels=["1", "2"], columns={"label": TASK.columns["a"]}),
        replace(TASK, label_column="z", labels=["1", "2"], columns={"label": TASK.columns["a"]}),
    ),
}
"""Pairs of tasks of which at most one fits the records: which one was a free answer about them."""


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_plan_asks_which_values_occur(tmp_path: Path, question: str) -> None:
    # A kit from before a budget asked for a task, or one that nobody had checked
    checked = make_kit(tmp_path)
    for kit in (replace(checked, task=None), checked):
        door = DeployedInstitution(kit, deadline=Deadline())
        for task in QUESTIONS[question]:
            if task != kit.task:
                reply = door.handle("query", ask(replace(PRIVATE, task=task)))
                assert (reply.refusal, reply.figures) == ("task_not_served", {})
    assert not LedgerFile(kit.ledger, anchor=kit.anchor).log.events


def test_text_that_is_no_plan_is_refused(tmp_path: Path) -> None:
    _, door = open_door(tmp_path, data=NOWHERE)
    assert door.handle("query", replace(ask(), plan="{}")).refusal == "plan_version"


def test_a_refusal_tells_the_head_of_the_ledger(tmp_path: Path) -> None:
    _, door = open_door(tmp_path)
    trained = door.handle("train", ask())
    assert trained.ledger_head
    assert door.handle("train", ask(server_round=9)).ledger_head == trained.ledger_head


def test_the_head_of_a_run_is_told_to_nobody_else(tmp_path: Path) -> None:
    _, door = open_door(tmp_path)
    assert door.handle("query", ask()).ledger_head == ""
    assert door.handle("train", ask()).ledger_head
    for plan in (PLAIN, replace(PRIVATE, job="another"), replace(PRIVATE, seed=8)):
        assert door.handle("query", ask(plan)).ledger_head == ""


def test_a_stopped_job_is_refused_until_its_mark_is_gone(tmp_path: Path) -> None:
    kit, door = open_door(tmp_path)
    mark = stop_mark(kit, PRIVATE.job)
    mark.parent.mkdir(parents=True)
    mark.touch()
    assert door.handle("query", ask()).refusal == "stopped"
    assert door.handle("query", ask(replace(PRIVATE, job="another"))).refusal is None
    mark.unlink()
    assert door.handle("query", ask()).refusal is None


# --- backbones


def test_a_backbone_is_known_by_its_content_under_whatever_path(tmp_path: Path) -> None:
    coordinators = content_hash(backbone(tmp_path / "coordinator"))
    mine = backbone(tmp_path / "kit" / "models" / "mine")
    kit = make_kit(tmp_path / "kit", backbones=["models/mine"])
    assert known_backbones(kit) == {coordinators: str(mine)}


def test_a_backbone_of_the_plans_hash_is_opened_where_the_institution_has_it(
    tmp_path: Path,
) -> None:
    mine = backbone(tmp_path / "mine")
    settings = {
        "policy": {**BUDGET, "backbones": ["any"]},
        "backbones": [str(mine)],
        "data": NOWHERE,
    }
    plan = replace(PRETRAINED, backbone_sha256=content_hash(mine))
    assert (
        refused(tmp_path / "there", plan, **settings) != "backbone_not_here"
    )  # these weights are none
    assert refused(tmp_path / "gone", PRETRAINED, **settings) == "backbone_not_here"


def test_a_backbone_that_changes_has_another_hash(tmp_path: Path) -> None:
    mine = backbone(tmp_path / "mine")
    kit = make_kit(tmp_path / "kit", backbones=[str(mine)])
    before = known_backbones(kit)
    (mine / "model.safetensors").write_bytes(b"other weights")
    assert known_backbones(kit).keys() != before.keys()


# --- where noise comes from


def simulated(kit: InstitutionKit, *, by_round: bool = False) -> Reply:
    """Ask the institution of a simulation that has the same name and the same records."""
    assert SEED is not None
    secret = seeded_secret(SEED)
    workload = build_workload(
        TASK, LogisticConfig(), TuningConfig(kind="full"), compute=Compute(), seed=0
    )
    records = load_checked_records(kit.data, TASK).records
    data, _ = encode_institution(
        NAME, records, kit.data, workload=workload, key=split_key(secret, NAME)
    )
    setup = Setup(
        serves=PRIVATE,
        policy=kit.config.policy,
        noise_secret=secret,
        reproducible=True,
        by_round=by_round,
    )
    return (
        InstitutionFactory(Trainer(workload, private=True), setup)
        .open(NAME, data)
        .handle("train", ask())
    )


def test_where_allowed_a_deployment_gives_the_update_of_the_simulation(tmp_path: Path) -> None:
    kit, door = open_door(tmp_path, policy=REPRODUCIBLE)
    assert sha256(update_of(door.handle("train", ask()))) == sha256(update_of(simulated(kit)))
    assert door.handle("query", ask()).figures["reproducible"] == 1.0
    assert reproducible_in_ledger(kit) is True


@pytest.mark.parametrize("public", [False, True])
def test_noise_follows_the_round_alone_only_where_the_kit_says_records_are_public(
    tmp_path: Path, public: bool
) -> None:
    data = {"path": "records.csv", "public": public}
    kit, door = open_door(tmp_path, policy=REPRODUCIBLE, data=data)
    found = sha256(update_of(door.handle("train", ask())))
    for by_round in (False, True):
        expected = sha256(update_of(simulated(kit, by_round=by_round)))
        assert (found == expected) == (by_round == public)


def reproducible_in_ledger(kit: InstitutionKit) -> bool:
    (population,) = LedgerFile(kit.ledger, anchor=kit.anchor).state.populations.values()
    (run,) = population.runs.values()
    return run.terms.reproducible


SECURE = {
    "the policy does not": (BUDGET, PRIVATE),
    "the policy leaves it open": ({**BUDGET, "allow_reproducible_noise": None}, PRIVATE),
    "the plan has no seed": (REPRODUCIBLE, replace(PRIVATE, seed=None)),
}


@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize("why", SECURE)
def test_noise_is_fresh_unless_policy_and_plan_say_otherwise(
    tmp_path: Path, why: str, public: bool
) -> None:
    policy, plan = SECURE[why]
    updates = []
    for name in ("a", "b"):
        data = {"path": "records.csv", "public": public}
        kit = make_kit(tmp_path / name, policy=policy, data=data)
        kit.ledger.parent.mkdir(parents=True)
        (kit.ledger.parent / SPLIT_KEY).write_bytes(bytes(32))  # the same splits
        door = DeployedInstitution(kit, deadline=Deadline())
        updates.append(sha256(update_of(door.handle("train", ask(plan)))))
        assert door.handle("query", ask(plan)).figures["reproducible"] == 0.0
        assert reproducible_in_ledger(kit) is False
    assert updates[0] != updates[1]


def test_a_round_that_was_answered_is_answered_alike_by_a_process_that_starts_anew(
    tmp_path: Path,
) -> None:
    kit, door = open_door(tmp_path)
    first = door.handle("train", ask())
    again = DeployedInstitution(kit, deadline=Deadline()).handle("train", ask())
    assert sha256(update_of(again)) == sha256(update_of(first))
    assert again.ledger_head == first.ledger_head


def test_without_a_budget_training_without_privacy_is_served_where_allowed(tmp_path: Path) -> None:
    _, door = open_door(tmp_path, policy={"required_unit": "none", "min_records": 50})
    assert update_of(door.handle("train", ask(PLAIN)))


# --- several jobs


def test_jobs_with_different_models_take_turns(tmp_path: Path) -> None:
    _, door = open_door(tmp_path)
    other = replace(PRIVATE, job="deep", backbone=MlpConfig(hidden=[3]))
    counts = [
        door.handle("query", ask(plan)).num_examples for plan in (PRIVATE, other, PRIVATE, other)
    ]
    assert len(set(counts)) == 1
    assert 0 < counts[0] < RECORDS
    assert update_of(door.handle("train", ask()))
    assert (
        door.handle("train", ask(other)).refusal == "tensor_names"
    )  # these tensors are the other model's


def test_another_plan_under_the_same_job_is_refused_even_after_a_turn_of_another(
    tmp_path: Path,
) -> None:
    _, door = open_door(tmp_path)
    assert door.handle("train", ask()).refusal is None
    door.handle("query", ask(replace(PRIVATE, job="deep", backbone=MlpConfig(hidden=[3]))))
    changed = replace(PRIVATE, client=replace(PRIVATE.client, local_steps=4))
    assert door.handle("train", ask(changed, 2)).refusal is not None


# --- what is kept


def test_the_last_plan_of_each_job_is_kept_to_be_approved(tmp_path: Path) -> None:
    kit, door = open_door(tmp_path)
    door.handle("query", ask())
    assert TrainingPlan.from_json(plan_path(kit, PRIVATE.job).read_text()) == PRIVATE


def test_a_plan_that_the_policy_denies_is_kept_to_be_read(tmp_path: Path) -> None:
    kit, door = open_door(tmp_path)
    assert door.handle("query", ask(PLAIN)).refusal == "policy_required_unit"
    assert TrainingPlan.from_json(plan_path(kit, PLAIN.job).read_text()) == PLAIN


def test_the_key_of_splits_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    key = own_split_key(kit)
    assert len(key) == 32
    assert own_split_key(kit) == key
    assert (kit.ledger.parent / SPLIT_KEY).stat().st_mode & 0o777 == 0o600


def test_splits_stay_as_they_are_when_the_process_starts_anew(tmp_path: Path) -> None:
    kit, door = open_door(tmp_path)
    told = [
        door.handle("query", ask()).num_examples,
        DeployedInstitution(kit, deadline=Deadline()).handle("query", ask()).num_examples,
    ]
    assert told[0] == told[1]


def test_a_key_of_another_length_is_refused(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    kit.ledger.parent.mkdir(parents=True)
    (kit.ledger.parent / SPLIT_KEY).write_bytes(b"short")
    with pytest.raises(ModelError, match="holds 5 bytes, expected 32; restore it from a backup"):
        own_split_key(kit)


def test_an_older_copy_of_the_ledger_is_refused(tmp_path: Path) -> None:
    kit, door = open_door(tmp_path)
    head = door.handle("train", ask()).ledger_head
    shutil.rmtree(kit.ledger.parent)
    restored = DeployedInstitution(kit, deadline=Deadline())
    assert restored.handle("train", replace(ask(), ledger_head=head)).refusal == "ledger"
