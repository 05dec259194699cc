"""Plans, institutions, records and runs in one line each.

Each builder gives what most tests do not care about, and takes what one is about.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from confide.client.assembly import make_trainer
from confide.client.institution import Institution
from confide.client.ledger.file import LedgerFile
from confide.client.ledger.memory import MemoryLedger
from confide.client.ledger.persistent import PersistentLedger
from confide.client.policy import Policy
from confide.client.records.encoded import InstitutionData
from confide.client.safeguards import Safeguards
from confide.client.training.trainer import Trainer
from confide.config.client import ClientConfig
from confide.config.composing.compose import compose
from confide.config.models.perceptrons import LogisticConfig
from confide.config.privacy import BudgetConfig, PolicyConfig, PrivacyConfig
from confide.config.strategies.strategy import ObjectiveConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tunings.table import TUNINGS
from confide.config.tunings.tuning import TuningConfig
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload
from confide.privacy.randomness import derive_key
from confide.protocol.messages import Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Decoder, Tensors, encode

LINEAR = NumericConfig(encoding="linear")  # one input a column: what most tests count on
POLICY = compose().policy  # a simulation's: allows what is tried


def build_task(*names: str, maximum: float = 1.0, **fields: Any) -> TabularConfig:
    """Build the task of a table with numeric columns from 0 to ``maximum``, label no or yes."""
    columns = {name: ColumnConfig(minimum=0.0, maximum=maximum) for name in names or ("a",)}
    return TabularConfig(
        **{"labels": ["no", "yes"], "columns": columns, "numeric": LINEAR, **fields}
    )


def build_plan(**fields: Any) -> TrainingPlan:
    """Build a plan: one round of logistic regression on one column, without privacy."""
    plan = {
        "job": "test",
        "task": build_task(),
        "backbone": LogisticConfig(),
        "backbone_sha256": None,
        "tuning": TuningConfig(kind="full"),
        "objective": ObjectiveConfig(),
        "client": ClientConfig(),
        "privacy": PrivacyConfig(),
        "num_rounds": 1,
        "deadline_s": 60.0,
        "seed": 0,
    }
    return TrainingPlan(**{**plan, **fields})


def build_tuning(kind: str, **settings: Any) -> TuningConfig:
    """Build what is trained; settings that the kind does not have are left out."""
    schema = TUNINGS[kind].schema
    known = {field.name for field in dataclasses.fields(schema)} & settings.keys()
    return schema(kind=kind, **{name: settings[name] for name in known}).seeded(5)


def workload_of(plan: TrainingPlan, *, seed: int = 0, **fields: Any) -> Workload:
    """Build the workload of a plan; ``fields`` are those of Compute."""
    compute = Compute(**fields)
    return build_workload(plan.encoded_task, plan.backbone, plan.tuning, compute=compute, seed=seed)


def build_records(
    workload: Workload, *, train: int = 40, validation: int = 6, test: int = 5
) -> InstitutionData:
    """Invent an institution's records; equal sizes give equal records."""
    sizes = {"train": train, "validation": validation, "test": test}
    return InstitutionData(
        **{
            split: workload.synthetic(size, torch.Generator().manual_seed(size))
            for split, size in sizes.items()
        }
    )


def build_ledger(
    path: Path,
    *,
    epsilon: float,
    delta: float,
    population: str = "ward",
    with_peers: float | None = None,
) -> PersistentLedger:
    """Open the ledger file of one population with a lifetime budget."""
    budget = BudgetConfig(epsilon=epsilon, delta=delta, epsilon_with_peers=with_peers)
    return PersistentLedger(LedgerFile(path), population=population, budget=budget)


def key_of(job: str, mechanism: str) -> bytes:
    """Derive an institution's key that is the same in every test."""
    return derive_key(bytes(32), job, mechanism)


def build_institution(
    plan: TrainingPlan,
    data: InstitutionData | None = None,
    *,
    trainer: Trainer | None = None,
    policy: PolicyConfig = POLICY,
    **safeguards: Any,
) -> Institution:
    """Build the institution "ward" that serves a plan.

    ``safeguards`` are those of Safeguards; without any, the institution has a ledger in memory and
    keys that repeat.
    """
    trainer = trainer or make_trainer(workload_of(plan), plan)
    given = {"ledger": MemoryLedger(), "key_fn": key_of, **safeguards}
    return Institution(
        "ward",
        data=data or build_records(trainer.workload),
        trainer=trainer,
        decoder=Decoder(trainer.shapes),
        serves=plan,
        safeguards=Safeguards(policy=Policy(policy), **given),
    )


def build_request(
    plan: TrainingPlan, server_round: int = 1, *, tensors: Tensors | None, **fields: Any
) -> Request:
    """Build a coordinator's request; ``fields`` are those of Request."""
    arrays = None if tensors is None else encode(tensors)
    return Request(
        **{"plan": plan.to_json(), "server_round": server_round, "arrays": arrays, **fields}
    )
