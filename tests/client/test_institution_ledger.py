"""The door with a ledger that outlives it: what is echoed, replayed, declined, and told."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import build_institution, build_ledger, build_records, workload_of
from company import ALONE, TOGETHER

from confide.client.institution import Institution
from confide.client.ledger.persistent import PersistentLedger
from confide.client.policy import Policy
from confide.client.records.encoded import InstitutionData
from confide.client.safeguards import Safeguards
from confide.client.training.local_round import local_round
from confide.client.training.trainer import Trainer
from confide.client.training.work import LocalWork
from confide.config.composing.compose import compose
from confide.config.privacy import BudgetConfig, PolicyConfig
from confide.errors import PrivacyError
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.workload import Workload
from confide.privacy.randomness import derive_key
from confide.protocol.messages import (
    Reply,
    Request,
    pack_reply,
    pack_request,
    unpack_reply,
    unpack_request,
)
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, encode

CONFIG = compose(
    [
        "experiment=heart_disease",
        "privacy=record",
        "privacy.epsilon=2",
        "privacy.delta=1e-4",
        "server.num_rounds=2",
        "job=door",
    ]
)
PLAN = make_plan(CONFIG, backbone_sha256=None)
BUDGET = BudgetConfig(epsilon=5.0, delta=1e-4)
RECORDS = 150


def make_workload(**compute: Any) -> Workload:
    return workload_of(PLAN, **compute)


TRAINER = Trainer(make_workload(), private=True)
START: Tensors = trainable_tensors(TRAINER.workload.model)
DATA = build_records(TRAINER.workload, train=RECORDS, validation=30, test=10)


def make_institution(
    folder: Path,
    *,
    policy: PolicyConfig | None = None,
    trainer: Trainer = TRAINER,
    data: InstitutionData = DATA,
) -> Institution:
    return build_institution(
        PLAN,
        data,
        trainer=trainer,
        policy=policy or PolicyConfig(max_delta=1e-4),
        ledger=build_ledger(folder / "ward.ledger", epsilon=5.0, delta=1e-4),
        key_fn=None,
    )


def ask(
    institution: Institution,
    server_round: int = 1,
    *,
    kind: str = "train",
    plan: TrainingPlan = PLAN,
    **more: Any,
) -> Reply:
    request = Request(plan=plan.to_json(), server_round=server_round, arrays=encode(START), **more)
    return unpack_reply(pack_reply(institution.handle(kind, unpack_request(pack_request(request)))))


def content(reply: Reply) -> bytes:
    assert reply.refusal is None
    assert reply.arrays is not None
    return b"".join(array.data for array in reply.arrays.values())


def test_a_reply_tells_the_head_of_its_run_and_a_newer_one_each_round(tmp_path: Path) -> None:
    institution = make_institution(tmp_path)
    heads = [
        ask(institution, kind="query").ledger_head,
        ask(institution, 1).ledger_head,
        ask(institution, 2).ledger_head,
    ]
    assert heads[0] == ""  # the run has not begun
    assert len(set(heads)) == 3
    # Scores are events too, each once
    scored = [ask(institution, kind="evaluate", splits=["test"]).ledger_head for _ in range(2)]
    assert scored[0] == scored[1] != heads[-1]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("engine", [ALONE, TOGETHER], indirect=True)
def test_a_message_delivered_twice_is_answered_from_the_ledger(tmp_path: Path) -> None:
    first = ask(make_institution(tmp_path))
    again = ask(make_institution(tmp_path))  # after a restart
    assert content(again) == content(first)
    assert (again.figures, again.evaluations, again.ledger_head) == (
        first.figures,
        first.evaluations,
        first.ledger_head,
    )


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("engine", [ALONE, TOGETHER], indirect=True)
def test_a_round_cut_off_is_replayed_at_no_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(PersistentLedger, "settle", lambda *args: 1 / 0)
        assert ask(make_institution(tmp_path)).refusal == "internal_error"
    institution = make_institution(tmp_path)
    reply = ask(institution)
    assert reply.refusal is None
    assert institution.spent("door").count == 1


def test_a_round_is_not_replayed_on_a_device_that_may_not_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(PersistentLedger, "settle", lambda *args: 1 / 0)
        ask(make_institution(tmp_path))
    elsewhere = replace(TRAINER.workload, compute=Compute(device=torch.device("meta")))
    monkeypatch.setattr(TRAINER, "_workload", elsewhere)
    assert ask(make_institution(tmp_path)).refusal == "already_answered"


EDITED = replace(DATA, train=TRAINER.workload.synthetic(RECORDS, torch.Generator().manual_seed(99)))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("engine", [ALONE, TOGETHER], indirect=True)
def test_a_round_cut_off_has_other_noise_on_other_records_and_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal noise on two data sets cancels; of the two updates one leaves."""
    secrets: list[bytes] = []

    def train(trainer: Any, inputs: Any, data: Any, work: LocalWork, **kwargs: Any) -> Any:
        secrets.append(work.secret)
        return local_round(trainer, inputs, data, work, **kwargs)

    monkeypatch.setattr("confide.client.training_round.local_round", train)
    with monkeypatch.context() as broken:
        broken.setattr(PersistentLedger, "settle", lambda *args: 1 / 0)
        ask(make_institution(tmp_path))
        ask(make_institution(tmp_path))
    institution = make_institution(tmp_path, data=EDITED)
    assert ask(institution).refusal is None
    assert institution.spent("door").count == 1
    assert secrets[0] == secrets[1] != secrets[2]


def test_who_asks_again_does_not_learn_that_records_have_changed(tmp_path: Path) -> None:
    first = ask(make_institution(tmp_path))
    institution = make_institution(tmp_path, data=EDITED)
    again = ask(institution)
    assert content(again) == content(first)
    assert (again.figures, again.ledger_head) == (first.figures, first.ledger_head)
    assert institution.spent("door").count == 1


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("engine", [ALONE, TOGETHER], indirect=True)
def test_an_update_that_may_not_leave_is_not_computed_again(tmp_path: Path) -> None:
    denied = make_institution(tmp_path, policy=PolicyConfig(max_delta=1e-4, max_update_norm=1e-9))
    assert ask(denied).refusal == "policy_max_update_norm"
    assert ask(make_institution(tmp_path)).refusal == "already_answered"


def test_a_durable_reply_is_held_against_the_policy_of_today(tmp_path: Path) -> None:
    assert ask(make_institution(tmp_path)).evaluations
    later = make_institution(tmp_path, policy=PolicyConfig(max_delta=1e-4, min_support=1000))
    assert not ask(later).evaluations
    tight = make_institution(tmp_path, policy=PolicyConfig(max_delta=1e-4, max_update_norm=1e-9))
    assert ask(tight).refusal == "policy_max_update_norm"


def test_training_without_privacy_is_refused_where_there_is_an_account(tmp_path: Path) -> None:
    plain = replace(PLAN, privacy=replace(PLAN.privacy, unit="none"))
    institution = make_institution(tmp_path, policy=PolicyConfig(required_unit="none"))
    assert ask(institution, plan=plain).refusal == "budget_unprotected"


def test_a_plan_asked_about_binds_nobody(tmp_path: Path) -> None:
    institution = make_institution(tmp_path)
    dear = replace(PLAN, privacy=replace(PLAN.privacy, epsilon=7.0))
    assert ask(institution, kind="query", plan=dear).refusal == "budget_exhausted"
    assert ask(institution).refusal is None


def test_one_round_with_other_tensors_is_another_reservation(tmp_path: Path) -> None:
    institution = make_institution(tmp_path)
    ask(institution)
    moved = Request(
        plan=PLAN.to_json(),
        server_round=1,
        arrays=encode({name: tensor + 1e-3 for name, tensor in START.items()}),
    )
    assert institution.handle("train", moved).refusal is None
    assert institution.spent("door").count == 2
    third = replace(moved, arrays=encode({name: tensor - 1e-3 for name, tensor in START.items()}))
    refused = institution.handle("train", third)
    assert (refused.refusal, dict(refused.figures)) == (
        "rounds_spent",
        {"asked": 3.0, "allowed": 2.0},
    )


def test_a_head_that_is_not_in_the_ledger_stops_everything(tmp_path: Path) -> None:
    institution = make_institution(tmp_path / "now")
    ask(institution, 1)
    shutil.copytree(tmp_path / "now", tmp_path / "backup")
    head = ask(institution, 2).ledger_head
    restored = make_institution(tmp_path / "backup")
    for kind in ("query", "train", "evaluate"):
        assert ask(restored, 2, kind=kind, ledger_head=head, splits=["test"]).refusal == "ledger"
    assert restored.spent("door").count == 1


def test_a_run_the_budget_does_not_cover_is_declined_with_the_figures(tmp_path: Path) -> None:
    institution = make_institution(tmp_path)
    for number in range(6):
        reply = ask(institution, kind="query", plan=replace(PLAN, job=f"job-{number}"))
        if reply.refusal:
            break
        assert ask(institution, plan=replace(PLAN, job=f"job-{number}")).refusal is None
    assert number > 1
    assert reply.refusal == "budget_exhausted"
    assert (
        reply.figures["asked"] > reply.figures["allowed"] == 5.0 > reply.figures["committed"] > 2.0
    )


@pytest.mark.parametrize(
    ("policy", "code", "figures"),
    [
        ({"max_epsilon": 1.0}, "policy_max_epsilon", {"asked": 2.0, "allowed": 1.0}),
        ({"min_records": 500}, "policy_min_records", {"allowed": 500.0}),
        ({"tasks": ["text_classification"]}, "policy_tasks", {}),
        ({"approval": "manual"}, "policy_approval", {}),
        ({"max_update_norm": 1e-9}, "policy_max_update_norm", None),
    ],
)
def test_what_the_policy_denies_is_refused_by_rule(
    policy: dict[str, Any], code: str, figures: dict[str, float] | None, tmp_path: Path
) -> None:
    institution = make_institution(tmp_path, policy=PolicyConfig(max_delta=1e-4, **policy))
    reply = ask(institution)
    assert (reply.refusal, reply.arrays) == (code, None)
    assert figures is None or reply.figures == figures
    assert institution.spent("door").count == (
        1 if figures is None else 0
    )  # nothing is reserved for a denied plan


def test_hours_are_for_training_alone(tmp_path: Path) -> None:
    closed = "00:00-00:00"  # never
    institution = make_institution(tmp_path, policy=PolicyConfig(max_delta=1e-4, hours=closed))
    assert ask(institution, kind="query").refusal is None
    assert ask(institution).refusal == "policy_hours"


def test_metrics_on_too_few_records_stay(tmp_path: Path) -> None:
    exact = PolicyConfig(max_delta=1e-4, metrics_privacy="exact")
    institution = make_institution(tmp_path, policy=exact)
    ask(institution)
    reply = ask(institution, kind="evaluate", splits=["validation", "test"])
    assert list(reply.evaluations) == ["validation"]  # 30 records; 10 are too few


def test_the_declared_number_of_records_decides(tmp_path: Path) -> None:
    declared, true = (
        make_institution(tmp_path / name, policy=PolicyConfig(max_delta=1e-4, public_n=n))
        for name, n in (("a", 300), ("b", None))
    )
    assert ask(declared, kind="query").num_examples == ask(declared).num_examples == 300
    assert ask(true, kind="query").num_examples == RECORDS


def test_seeded_noise_needs_the_policys_word() -> None:
    with pytest.raises(PrivacyError, match=r"policy\.allow_reproducible_noise=false"):
        Safeguards(
            policy=Policy(PolicyConfig()),
            ledger=None,  # type: ignore[arg-type]
            key_fn=lambda job, mechanism: derive_key(bytes(32), job, mechanism),
            reproducible=True,
        )


def test_two_processes_of_one_institution_share_the_count(tmp_path: Path) -> None:
    one, two = make_institution(tmp_path), make_institution(tmp_path)
    assert ask(one, 1).refusal is None
    assert ask(two, 2).refusal is None
    assert one.spent("door").count == two.spent("door").count == 2
