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
from confide.client.service.server import serve
from confide.client.training.deadline import Deadline
from confide.client.training.trainer import Trainer
from confide.config.client import ClientConfig
from confide.config.models.perceptrons import MlpConfig
from confide.config.privacy import PolicyConfig, PrivacyConfig
from confide.models.networks import trainable_tensors
from confide.protocol.messages import Request
from confide.protocol.plan import TrainingPlan

STEPS = 5
PRIVATE = build_plan(
    job="socket",
    backbone=MlpConfig(hidden=[5]),
    client=ClientConfig(batch_size=8, local_steps=STEPS),
    privacy=PrivacyConfig(unit="record", epsilon=2.0, delta=1e-4, spare_rounds=0),
    num_rounds=2,
)
PLAIN = replace(PRIVATE, privacy=PrivacyConfig())
SOCKET, LEDGER, STEPS_LOG = "trainer.sock", "ward.ledger", "steps.log"
STEP_S = 0.1


def ask(plan: TrainingPlan, server_round: int = 1, *, splits: tuple[str, ...] = ()) -> Request:
    tensors = trainable_tensors(workload_of(plan).model)
    return build_request(plan, server_round, tensors=tensors, splits=splits)


def make_institution(
    plan: TrainingPlan, ledger: Path | None = None, check_fn: Callable[[], None] | None = None
) -> Institution:
    """Build the same institution each time: equal records, equal keys."""
    workload = workload_of(plan)
    unit = plan.privacy.unit
    return build_institution(
        plan,
        build_records(workload, train=60, validation=40, test=30),
        trainer=Trainer(workload, private=plan.private, check_fn=check_fn),
        policy=PolicyConfig(max_delta=1e-4, min_records=1, required_unit=unit),
        ledger=build_ledger(ledger, epsilon=5.0, delta=1e-4) if ledger else MemoryLedger(),
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
