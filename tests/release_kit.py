"""A kit whose institution is asked for releases, by a process of its own each time."""

import dataclasses
import json
from pathlib import Path

import torch

from confide.client.deployment.kit import InstitutionKit, load_kit
from confide.client.deployment.served import DeployedInstitution
from confide.client.ledger.file import LedgerFile
from confide.client.training.deadline import Deadline
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.protocol.messages import Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import encode

TASK = TabularConfig(
    labels=["no", "yes"],
    label_column="ill",
    columns={
        "age": ColumnConfig(minimum=0.0, maximum=100.0),
        "sex": ColumnConfig(kind="categorical", categories=["f", "m"]),
        "tsh": ColumnConfig(minimum=0.0, maximum=530.0, indicator=True),
        "t3": ColumnConfig(minimum=0.0, maximum=18.0, edges=[1.2, 2.7]),
    },
    numeric=NumericConfig(bins=4, edges="released"),
)
START = {"layers.0.weight": torch.zeros(2, 8), "layers.0.bias": torch.zeros(2)}


def make_kit(folder: Path, *overrides: str) -> InstitutionKit:
    folder.mkdir(exist_ok=True)
    rows = "".join(
        f"p{i},{i % 90},{'fm'[i % 2]},{i / 100 if i % 4 else ''},2,{'yes' if i % 3 else 'no'}\n"
        for i in range(400)
    )
    (folder / "records.csv").write_text(f"id,age,sex,tsh,t3,ill\n{rows}")
    (folder / "client.yaml").write_text(
        "defaults: [institution, _self_]\nname: ward\ncoordinator: {address: 'localhost:1'}\n"
        "data: {path: records.csv, id_column: id}\n"
        "policy: {budget: {epsilon: 1}, min_records: 50}\n"
        f"task: {json.dumps(dataclasses.asdict(TASK))}\n"
    )
    return load_kit(folder, [f"data.path={folder / 'records.csv'}", *overrides])


def ask(
    kit: InstitutionKit,
    plan: TrainingPlan,
    kind: str = "train",
    start: dict[str, torch.Tensor] = START,
) -> Reply:
    # A process of its own each time: nothing but the kit is remembered.
    door = DeployedInstitution(kit, deadline=Deadline())
    arrays = None if kind == "query" else encode(start)
    request = Request(plan=plan.to_json(), server_round=1, arrays=arrays)
    return door.handle(kind, request)  # type: ignore[arg-type]


def committed(kit: InstitutionKit) -> float:
    population = LedgerFile(kit.ledger, anchor=kit.anchor).state.populations["everybody"]
    return population.committed


def kinds(kit: InstitutionKit) -> list[str]:
    return [event.kind for event in LedgerFile(kit.ledger, anchor=kit.anchor).log.events]
