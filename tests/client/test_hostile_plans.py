"""The door of a deployed institution, opened from a kit, before a coordinator that asks for what
it should not.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import build_plan

from confide.client.deployment.kit import InstitutionKit, load_kit
from confide.client.deployment.served import DeployedInstitution, own_split_key
from confide.client.ledger.file import LedgerFile
from confide.client.training.deadline import Deadline
from confide.config.client import ClientConfig
from confide.config.models.perceptrons import MlpConfig
from confide.config.models.transformer import TransformerConfig
from confide.config.privacy import PrivacyConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.errors import ModelError
from confide.protocol.messages import Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import encode

CANARY = "patient-4711"
TASK = TabularConfig(
    numeric=NumericConfig(encoding="linear"),
    labels=["no", "yes"],
    label_column="ill",
    columns={"age": ColumnConfig(minimum=0.0, maximum=100.0)},
)
PLAN = build_plan(
    job="trial",
    task=TASK,
    client=ClientConfig(batch_size=8, local_steps=2),
    privacy=PrivacyConfig(unit="record", epsilon=2.0, delta=1e-5),
    num_rounds=2,
    seed=None,
)
START = {"layers.0.weight": torch.zeros(2, 1), "layers.0.bias": torch.zeros(2)}
Ask = Callable[..., Reply]


def make_kit(folder: Path, *overrides: str) -> InstitutionKit:
    rows = "".join(f"{CANARY}-{i},{i % 90},{'yes' if i % 3 else 'no'}\n" for i in range(200))
    (folder / "records.csv").write_text(f"id,age,ill\n{rows}")
    (folder / "client.yaml").write_text(
        "defaults: [institution, _self_]\nname: ward\ncoordinator: {address: 'localhost:1'}\n"
        "data: {path: records.csv, id_column: id}\n"
        "policy: {budget: {epsilon: 5}, backbones: [any], min_records: 50}\n"
        f"task: {json.dumps(dataclasses.asdict(TASK))}\n"
    )
    return load_kit(folder, [f"data.path={folder / 'records.csv'}", *overrides])


@pytest.fixture
def kit(tmp_path: Path) -> InstitutionKit:
    return make_kit(tmp_path)


@pytest.fixture
def ask(kit: InstitutionKit) -> Iterator[Ask]:
    door = DeployedInstitution(kit, deadline=Deadline())

    def ask(kind: str, plan: TrainingPlan = PLAN, **request: Any) -> Reply:
        if kind != "query":
            request.setdefault("arrays", encode(START))
        return door.handle(kind, Request(plan=plan.to_json(), **request))

    yield ask
    assert ask("query", PLAN).refusal is None, "it answers a genuine question no more"


def committed(kit: InstitutionKit) -> float:
    return LedgerFile(kit.ledger, anchor=kit.anchor).state.populations["everybody"].committed


def test_genuine_round_is_answered_and_charged_whole(ask: Ask, kit: InstitutionKit) -> None:
    reply = ask("train", server_round=1)
    assert reply.refusal is None
    assert reply.arrays is not None
    assert committed(kit) == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize(
    "path",
    ["/etc", "client.yaml", "../records.csv", "pkg://confide/conf", "hub/name"],
    ids=["etc", "kit", "up", "pkg", "hub"],
)
def test_backbone_that_is_a_path_here_is_never_opened(ask: Ask, path: str) -> None:
    text = TransformerConfig(name=path)
    asked = dataclasses.replace(PLAN, backbone=text, backbone_sha256="ab" * 32)
    assert ask("query", asked).refusal == "backbone_not_here"
    downloads = dataclasses.replace(asked, backbone=dataclasses.replace(text, allow_download=True))
    assert ask("query", downloads).refusal == "policy_allow_download"


def test_label_that_the_kit_does_not_pin_is_refused(ask: Ask) -> None:
    task = dataclasses.replace(
        TASK,
        label_column="age",
        columns={"ill": ColumnConfig(kind="categorical", categories=["yes"])},
    )
    assert ask("query", dataclasses.replace(PLAN, task=task)).refusal == "task_not_served"


@pytest.mark.parametrize("hidden", [[60_000, 60_000], [9_999_999] * 2, [4000] * 60])
def test_model_beyond_the_policy_is_refused_before_its_memory_is_taken(
    ask: Ask, hidden: list[int]
) -> None:
    reply = ask("query", dataclasses.replace(PLAN, backbone=MlpConfig(hidden=hidden)))
    assert reply.refusal == "policy_max_update_mb"
    assert reply.figures["asked"] > 256


@pytest.mark.parametrize("hidden", [[1] * 5000, [10**12]])
def test_model_of_thousands_of_layers_is_no_plan(ask: Ask, hidden: list[int]) -> None:
    assert (
        ask("query", dataclasses.replace(PLAN, backbone=MlpConfig(hidden=hidden))).refusal
        == "plan_invalid"
    )


@pytest.mark.parametrize("server_round", [-1, 0, 3, 10**9, 2**62])
def test_round_outside_the_schedule_is_refused_and_costs_nothing(
    ask: Ask, kit: InstitutionKit, server_round: int
) -> None:
    assert ask("train", server_round=server_round).refusal == "rounds_spent"
    assert committed(kit) == 0


def test_other_tensors_in_one_round_take_another_round_of_the_schedule(
    ask: Ask, kit: InstitutionKit
) -> None:
    replies = [
        ask(
            "train",
            server_round=1,
            arrays=encode({name: tensor + shift for name, tensor in START.items()}),
        )
        for shift in (0.0, 1.0, 0.0, 2.0)
    ]
    assert [reply.refusal for reply in replies] == [None, None, None, "rounds_spent"]
    assert replies[0].arrays == replies[2].arrays
    assert committed(kit) == pytest.approx(2.0, abs=0.01)


def test_jobs_one_after_another_stop_at_the_budget(ask: Ask, kit: InstitutionKit) -> None:
    jobs = ["trial", *(f"job-{i}" for i in range(12))]
    refusals = [
        ask("train", dataclasses.replace(PLAN, job=job), server_round=1).refusal for job in jobs
    ]
    assert refusals[0] is None
    assert refusals[-1] == "budget_exhausted"
    assert committed(kit) <= 5.0


@pytest.fixture
def splits(kit: InstitutionKit) -> bytes:
    return own_split_key(kit)


def test_splits_outlive_the_state_folder(kit: InstitutionKit, splits: bytes) -> None:
    assert not kit.state.exists() or not list(kit.state.rglob("*.key"))
    assert own_split_key(kit) == splits


def test_lost_key_of_splits_is_refused_once_something_was_spent(
    ask: Ask, kit: InstitutionKit
) -> None:
    ask("train", server_round=1)
    (path,) = kit.ledger.parent.glob("splits.key")
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(ModelError, match=r"splits\.key"):
        own_split_key(kit)
    path.write_bytes(content)
