"""A small institution's kit for tests.

A table of two columns, one of them the label, and plans that fit it.
"""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import yaml

from confide.client.deployment.kit import Kit, load_kit
from confide.config.client import ClientConfig
from confide.config.model import LogisticConfig, TuningConfig
from confide.config.privacy import PrivacyConfig
from confide.config.strategy import ObjectiveConfig
from confide.config.task import ColumnConfig, TabularConfig
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.workload import build_workload
from confide.protocol.messages import Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, encode

NAME, RECORDS = "ward", 150
TASK = TabularConfig(
    labels=["no", "yes"], columns={"a": ColumnConfig(minimum=0.0, maximum=float(RECORDS))}
)
PRIVATE = TrainingPlan(
    job="trial",
    task=TASK,
    backbone=LogisticConfig(),
    backbone_sha256=None,
    tuning=TuningConfig(kind="full"),
    objective=ObjectiveConfig(),
    client=ClientConfig(batch_size=8, local_steps=3),
    privacy=PrivacyConfig(unit="record", epsilon=4.0, delta=1e-5, spare_rounds=0),
    num_rounds=2,
    deadline_s=60.0,
    seed=7,
)
PLAIN = dataclasses.replace(PRIVATE, privacy=PrivacyConfig())
SETTINGS: dict[str, Any] = {
    "defaults": ["institution", "_self_"],
    "name": NAME,
    "coordinator": {"address": "127.0.0.1:8443"},
    "data": {"path": "records.csv"},
    "policy": {"budget": {"epsilon": 20.0}, "min_records": 50},
    "trainer": {"num_threads": 1},
    "task": dataclasses.asdict(TASK),
}


def write_kit(folder: Path, **settings: Any) -> Path:
    """Write ``client.yaml`` and the records; ``settings`` replace whole keys at its top."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "client.yaml").write_text(yaml.safe_dump({**SETTINGS, **settings}, sort_keys=False))
    with (folder / "records.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", TASK.label_column])
        writer.writerows((n, "yes" if n % 3 else "no") for n in range(RECORDS))
    return folder


def make_kit(folder: Path, *overrides: str, **settings: Any) -> Kit:
    return load_kit(write_kit(folder, **settings), overrides)


def start() -> Tensors:
    workload = build_workload(
        TASK, LogisticConfig(), TuningConfig(kind="full"), compute=Compute(), seed=0
    )
    return trainable_tensors(workload.model)


def ask(plan: TrainingPlan = PRIVATE, server_round: int = 1) -> Request:
    return Request(plan=plan.to_json(), server_round=server_round, arrays=encode(start()))
