"""A coordinator that asks one institution for a release, in a process that is killed.

Real counting, real noise, a ledger on disk. Started by test_release_crashes.py over one folder.
Before a release goes on, what was drawn for it is written down, past the ledger.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from builders import build_institution, build_ledger, build_records, build_request, workload_of
from crash_child import kill_at
from safetensors.torch import save_file

import confide.client.release as door
from confide.client.institution import Institution
from confide.client.ledger.event_log import EventLog
from confide.client.ledger.persistent import PersistentLedger
from confide.client.ledger.replies import Replies
from confide.client.ledger.transaction import Transaction
from confide.client.training.trainer import Trainer
from confide.config.privacy import PolicyConfig
from confide.models.networks import trainable_tensors
from confide.protocol.plan import TrainingPlan
from confide.protocol.releases import release_shapes
from confide.protocol.tensors import Tensors, decode

LEDGER, DRAWN, ANSWER = "ward.ledger", "drawn.log", "answer.safetensors"
BOUNDARIES: dict[str, tuple[Any, str]] = {
    "reserve": (PersistentLedger, "reserve"),
    "counts": (door, "released_sums"),
    "reply durable": (Replies, "save"),
    "key wiped": (Transaction, "wipe_key"),
    "anchor": (EventLog, "_write_anchor"),
    "settlement": (PersistentLedger, "settle"),
    "reply sent": (Institution, "handle"),
}


def run(folder: Path, boundary: str | None, when: str, start: float) -> None:
    """Ask once, beside tensors that all are ``start``; be killed where a boundary is reached."""
    torch.set_num_threads(1)
    write_down_draws(folder / DRAWN)
    if boundary is not None:
        kill_at(*BOUNDARIES[boundary], when=when, occurrence=1)
    plan = TrainingPlan.from_json((folder / "plan.json").read_text())
    workload = workload_of(plan)
    institution = build_institution(
        plan,
        build_records(workload, train=200),
        trainer=Trainer(workload, private=True),
        policy=PolicyConfig(min_records=1),
        ledger=build_ledger(folder / LEDGER, epsilon=1.0, delta=plan.privacy.delta),
        key_fn=None,
    )
    tensors = {
        name: torch.full_like(tensor, start)
        for name, tensor in trainable_tensors(workload.model).items()
    }
    reply = institution.handle("train", build_request(plan, tensors=tensors))
    assert reply.arrays is not None, reply.refusal
    save_file(decode(reply.arrays, release_shapes(plan), max_value=1e9).tensors, folder / ANSWER)


def write_down_draws(log: Path) -> None:
    inner: Callable[..., Tensors] = door.released_sums

    def written(*args: Any, **kwargs: Any) -> Tensors:
        sums = inner(*args, **kwargs)
        handle = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.write(handle, f"{hash_of(sums)}\n".encode())
        os.fsync(handle)
        os.close(handle)
        return sums

    door.released_sums = written  # type: ignore[assignment]


def hash_of(sums: Tensors) -> str:
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in sums.values())).hexdigest()
