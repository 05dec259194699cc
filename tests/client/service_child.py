"""A small institution with a ledger, and a trainer service for it in a process that is killed.

Started by test_service.py. Every step is written down before it is taken, and takes a moment.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from confide.client.institution import Institution, Safeguards
from confide.client.ledger.file import LedgerFile
from confide.client.ledger.memory import MemoryLedger
from confide.client.ledger.persistent import PersistentLedger
from confide.client.policy import Policy
from confide.client.records.encoded import InstitutionData
from confide.client.service.server import serve
from confide.client.training.deadline import Deadline
from confide.client.training.trainer import Trainer
from confide.config.client import ClientConfig
from confide.config.model import MlpConfig, TuningConfig
from confide.config.privacy import BudgetConfig, PolicyConfig, PrivacyConfig
from confide.config.strategy import ObjectiveConfig
from confide.config.task import ColumnConfig, TabularConfig
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.workload import Workload, build_workload
from confide.privacy.randomness import derive_key
from confide.protocol.messages import Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Decoder, encode

TASK = TabularConfig(labels=["no", "yes"], columns={"a": ColumnConfig(minimum=0.0, maximum=1.0)})
BACKBONE = MlpConfig(hidden=[5])
STEPS = 5
PRIVATE = TrainingPlan(
    job="socket",
    task=TASK,
    backbone=BACKBONE,
    backbone_sha256=None,
    tuning=TuningConfig(kind="full"),
    objective=ObjectiveConfig(),
    client=ClientConfig(batch_size=8, local_steps=STEPS),
    privacy=PrivacyConfig(unit="record", epsilon=2.0, delta=1e-4, spare_rounds=0),
    num_rounds=2,
    deadline_s=60.0,
    seed=0,
)
PLAIN = replace(PRIVATE, privacy=PrivacyConfig())
SOCKET, LEDGER, STEPS_LOG = "trainer.sock", "ward.ledger", "steps.log"
STEP_S = 0.1


def make_workload() -> Workload:
    return build_workload(TASK, BACKBONE, TuningConfig(kind="full"), compute=Compute(), seed=0)


def ask(plan: TrainingPlan, server_round: int = 1, *, splits: tuple[str, ...] = ()) -> Request:
    arrays = encode(trainable_tensors(make_workload().model))
    return Request(plan=plan.to_json(), server_round=server_round, arrays=arrays, splits=splits)


def make_institution(
    plan: TrainingPlan, ledger: Path | None = None, check_fn: Callable[[], None] | None = None
) -> Institution:
    """Build the same institution each time: equal records, equal keys."""
    workload = make_workload()
    drawn = {n: workload.synthetic(n, torch.Generator().manual_seed(n)) for n in (60, 40, 30)}
    trainer = Trainer(workload, private=plan.private, check_fn=check_fn)
    budget = BudgetConfig(epsilon=5.0, delta=1e-4)
    safeguards = Safeguards(
        policy=Policy(PolicyConfig(max_delta=1e-4, min_records=1, required_unit=plan.privacy.unit)),
        ledger=PersistentLedger(LedgerFile(ledger), population="ward", budget=budget)
        if ledger
        else MemoryLedger(),
        key_fn=lambda job, mechanism: derive_key(bytes(32), job, mechanism),
    )
    return Institution(
        "ward",
        data=InstitutionData(train=drawn[60], validation=drawn[40], test=drawn[30]),
        trainer=trainer,
        decoder=Decoder(trainer.shapes),
        serves=plan,
        safeguards=safeguards,
    )


def run(folder: Path) -> None:
    """Serve until SIGTERM."""
    torch.set_num_threads(1)
    deadline, stop = Deadline(), threading.Event()

    def step() -> None:
        with (folder / STEPS_LOG).open("a") as log:
            log.write(f"{os.getpid()}\n")
        time.sleep(STEP_S)
        deadline.check()

    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    institution = make_institution(PRIVATE, folder / LEDGER, step)
    with serve(institution, socket=folder / SOCKET, deadline=deadline):
        stop.wait()
