"""A canary in a record: every stage is made to fail with it, and nothing that leaves holds it."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import build_institution, build_ledger
from datasets import Dataset
from flwr.app import Context, Message, RecordDict

from confide.client.algorithm_state import ClientStates
from confide.client.app import make_client_app
from confide.client.institution import Institution
from confide.client.ledger.persistent import PersistentLedger
from confide.client.policy import Policy
from confide.client.records.encoded import InstitutionData, encode_institution
from confide.client.training.trainer import Trainer
from confide.config.composing.compose import compose
from confide.config.strategies.strategy import FedDynConfig
from confide.config.tasks.tabular import TabularConfig
from confide.flower.messages import assign_message_id, task_identity
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.workload import build_workload
from confide.protocol.messages import Request, pack_request
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Decoder, encode

CANARY = "patient-4711-has-gout"
CONFIG = compose(
    [
        "experiment=heart_disease",
        "privacy=record",
        "privacy.delta=1e-3",
        "strategy=feddyn",
        "data.group_column=owner",
        "server.num_rounds=2",
    ]
)
STAGES: dict[str, tuple[type, str]] = {
    "the schedule": (InstitutionData, "num_units"),
    "the head": (PersistentLedger, "check_head"),
    "what was answered": (PersistentLedger, "answered"),
    "admission": (PersistentLedger, "admit"),
    "decoding": (Decoder, "decode"),
    "kept state": (ClientStates, "load"),
    "scoring": (Trainer, "scores"),
    "the policy": (Policy, "check_plan"),
    "reservation": (PersistentLedger, "reserve"),
    "training": (Trainer, "train"),
    "the way out": (Policy, "check_measures"),
    "keeping state": (ClientStates, "save"),
    "settlement": (PersistentLedger, "settle"),
}


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return Trainer(
        build_workload(CONFIG.task, CONFIG.backbone, CONFIG.tuning, compute=Compute(), seed=0),
        private=True,
    )


@pytest.fixture(scope="module")
def data(trainer: Trainer) -> InstitutionData:
    """Encode records whose ids and owners are canaries."""
    assert isinstance(CONFIG.task, TabularConfig)
    cells = {
        name: column.categories[0] if column.categories else "50"
        for name, column in CONFIG.task.columns.items()
    }
    rows = {name: [cell] * 200 for name, cell in {**cells, "num": "1"}.items()}
    rows |= {
        "id": [f"{CANARY}-{i}" for i in range(200)],
        "owner": [f"{CANARY}-{i % 90}" for i in range(200)],
    }
    made, _ = encode_institution(
        "ward", Dataset.from_dict(rows), CONFIG.data, workload=trainer.workload, key=bytes(32)
    )
    return made


def make_institution(folder: Path, trainer: Trainer, data: InstitutionData) -> Institution:
    return build_institution(
        PLAN,
        data,
        trainer=trainer,
        policy=replace(CONFIG.policy, allow_reproducible_noise=False),
        ledger=build_ledger(folder / "ward.ledger", epsilon=50.0, delta=1e-3),
        key_fn=None,
        states=ClientStates(folder / "states", kept=2),
    )


PLAN: TrainingPlan = replace(make_plan(CONFIG, backbone_sha256=None), objective=FedDynConfig())


def ask(institution: Institution, trainer: Trainer, kind: str) -> Message:
    """Ask through the ClientApp, as Flower does, and return the message that would leave."""
    request = Request(
        plan=PLAN.to_json(),
        server_round=1,
        arrays=None if kind == "query" else encode(trainable_tensors(trainer.workload.model)),
        splits=["validation", "test"],
    )
    app = make_client_app(lambda context: institution)
    with task_identity():
        message = Message(pack_request(request), 1, kind, group_id="1")
        assign_message_id(message)
        context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
        reply = app(message, context)
        assert CANARY not in repr(context)
        return reply


def leaves(message: Message) -> str:
    """Write down everything that is in a message."""
    parts = [repr(message.metadata.__dict__)]
    for record in message.content.values():
        for key, value in record.items():
            data = value.data.decode("latin-1") if hasattr(value, "data") else repr(value)
            parts.append(f"{key} {data}")
    return "\n".join(parts)


def failing(inner: Callable[..., Any]) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"cannot handle the record {CANARY} in {inner.__name__}")

    return fail


def test_an_answer_holds_no_canary(tmp_path: Path, trainer: Trainer, data: InstitutionData) -> None:
    institution = make_institution(tmp_path, trainer, data)
    for kind in ("query", "train", "evaluate"):
        reply = ask(institution, trainer, kind)
        assert reply.content["reply"]["refusal"] == ""  # type: ignore[index]
        assert CANARY not in leaves(reply)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_fails_with_the_canary_tells_nobody(
    stage: str,
    tmp_path: Path,
    trainer: Trainer,
    data: InstitutionData,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    owner, name = STAGES[stage]
    monkeypatch.setattr(owner, name, failing(getattr(owner, name)))
    institution = make_institution(tmp_path, trainer, data)
    with caplog.at_level(logging.ERROR):
        replies = [ask(institution, trainer, kind) for kind in ("query", "train", "evaluate")]
    assert any(reply.content["reply"]["refusal"] == "internal_error" for reply in replies)  # type: ignore[index]
    assert all(CANARY not in leaves(reply) for reply in replies)
    assert CANARY in caplog.text  # the institution's own log has it
