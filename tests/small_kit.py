"""A small institution's kit for tests.

A table of two columns, one of them the label, and plans that fit it.
"""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import yaml
from builders import build_plan, build_request, build_task, workload_of

from confide.client.deployment.kit import InstitutionKit, load_kit
from confide.config.client import ClientConfig
from confide.config.privacy import PrivacyConfig
from confide.models.networks import trainable_tensors
from confide.protocol.messages import Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors

NAME, RECORDS = "ward", 150
TASK = build_task(maximum=float(RECORDS))
PRIVATE = build_plan(
    job="trial",
    task=TASK,
    client=ClientConfig(batch_size=8, local_steps=3),
    privacy=PrivacyConfig(unit="record", epsilon=4.0, delta=1e-5, spare_rounds=0),
    num_rounds=2,
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


def make_kit(folder: Path, *overrides: str, **settings: Any) -> InstitutionKit:
    return load_kit(write_kit(folder, **settings), overrides)


def start() -> Tensors:
    return trainable_tensors(workload_of(PRIVATE).model)


def ask(plan: TrainingPlan = PRIVATE, server_round: int = 1) -> Request:
    return build_request(plan, server_round, tensors=start())
