"""Ledgers on disk, and runs that train upon them."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from confide.client.ledger.file import LedgerFile
from confide.client.ledger.persistent import PersistentLedger
from confide.client.ledger.runs import RunTerms, run_name
from confide.config.privacy import BudgetConfig
from confide.privacy.accounting import calibrate
from confide.protocol.messages import Reply
from confide.protocol.tensors import Tensors

STEPS, ROUNDS, RATE, DELTA = 5, 4, 0.1, 1e-5
SIGMA = calibrate(target_epsilon=2.0, delta=DELTA, sampling_rate=RATE, steps=STEPS * ROUNDS)
BUDGET = BudgetConfig(epsilon=8.0, delta=DELTA)
UPDATE: Tensors = {"w": torch.tensor([1.0, 2.0])}
REPLY = Reply(institution="ward", num_examples=100, figures={"epsilon": 1.0})


def terms(job: str = "a", **changes: Any) -> RunTerms:
    plain = RunTerms(
        institution="ward",
        job=job,
        plan=f"plan of {job}",
        unit="record",
        grouped_by=None,
        num_units=100,
        noise_multiplier=SIGMA,
        sampling_rate=RATE,
        steps=STEPS,
        max_rounds=ROUNDS,
        epsilon=2.0,
        delta=DELTA,
        accountant="pld",
        relation="zero-out",
        reproducible=False,
    )
    return replace(plain, **changes)


def name(job: str) -> str:
    return run_name("ward", job)


def opened(
    folder: Path, *, population: str = "ward", budget: BudgetConfig = BUDGET, **options: Any
) -> PersistentLedger:
    kept = {key: options.pop(key) for key in ("kept_replies", "asker") if key in options}
    file = LedgerFile(folder / "ward.ledger", **options)
    return PersistentLedger(file, population=population, budget=budget, **kept)


def train(ledger: PersistentLedger, job: str = "a", rounds: int = ROUNDS, **changes: Any) -> None:
    for number in range(1, rounds + 1):
        ledger.reserve(terms(job, **changes), number, f"{job}/{number}", key=None)
        ledger.settle(name(job), f"{job}/{number}", REPLY, UPDATE)


def head_of(ledger: PersistentLedger, job: str = "a") -> str:
    return ledger.head(name(job), f"plan of {job}")


def rounds_of(ledger: PersistentLedger, job: str) -> int:
    return ledger.spent(name(job)).count


def full(folder: Path) -> PersistentLedger:
    ledger = opened(folder, budget=BudgetConfig(epsilon=2.0, delta=DELTA))
    train(ledger)
    return ledger


# --- copies


def copied(folder: Path, name: str) -> Path:
    shutil.copytree(folder, folder.parent / name)
    return folder.parent / name
