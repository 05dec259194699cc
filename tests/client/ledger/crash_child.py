"""A coordinator and an institution in a process that is killed.

Real records, real DP-SGD, a ledger on disk.

Started by test_crashes.py, again and again over one folder, until all rounds are done. Before a
step draws, it writes down on disk, by itself and past the ledger, that it will.
"""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from builders import build_institution, build_ledger, workload_of
from safetensors.torch import load_file

from confide.client.institution import Institution
from confide.client.ledger.event_log import EventLog
from confide.client.ledger.persistent import PersistentLedger
from confide.client.ledger.replies import Replies
from confide.client.ledger.transaction import Transaction
from confide.client.records.encoded import InstitutionData
from confide.client.training.private.dp_sgd import DpSgd
from confide.client.training.trainer import Trainer
from confide.client.training.work import LocalWork
from confide.config.privacy import PolicyConfig
from confide.models.networks import trainable_tensors
from confide.protocol.messages import Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import decode, encode
from confide.storage.files import write_json
from confide.tasks.task import LABELS, Examples

LEDGER, STEPS_LOG, COORDINATOR = "ward.ledger", "steps.log", "coordinator.json"
BOUNDARIES: dict[str, tuple[type, str]] = {
    "reserve": (PersistentLedger, "reserve"),
    "step": (DpSgd, "private_gradient"),
    "update": (Trainer, "train"),
    "reply durable": (Replies, "save"),
    "key wiped": (Transaction, "wipe_key"),
    "anchor": (EventLog, "_write_anchor"),
    "settlement": (PersistentLedger, "settle"),
    "reply sent": (Institution, "handle"),
}


def run(folder: Path, rounds: int, boundary: str | None, when: str, occurrence: int) -> None:
    """Go on with the run in ``folder``; be killed at the n-th time that a boundary is reached."""
    torch.set_num_threads(1)
    count_steps(folder / STEPS_LOG)
    if boundary is not None:
        kill_at(*BOUNDARIES[boundary], when=when, occurrence=occurrence)
    coordinate(folder, rounds)


def kill_at(owner: type, name: str, *, when: str, occurrence: int) -> None:
    inner: Callable[..., Any] = getattr(owner, name)
    reached = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal reached
        reached += 1
        if reached == occurrence and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = inner(*args, **kwargs)
        if reached == occurrence and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


def count_steps(log: Path) -> None:
    """Have each step write down on disk whose noise it is about to draw."""
    inner = DpSgd.private_gradient
    secrets: list[str] = []
    train = Trainer.train

    def named(self: Trainer, start: Any, examples: Any, work: LocalWork, **kwargs: Any) -> Any:
        secrets.append(work.secret.hex()[:16])
        return train(self, start, examples, work, **kwargs)

    def counted(self: DpSgd, *args: Any, **kwargs: Any) -> None:
        if secrets:  # the preflight draws nothing
            handle = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
            os.write(handle, f"{secrets[-1]}\n".encode())
            os.fsync(handle)
            os.close(handle)
        inner(self, *args, **kwargs)

    Trainer.train, DpSgd.private_gradient = named, counted  # type: ignore[method-assign, assignment]


def coordinate(folder: Path, rounds: int) -> None:
    """Ask for each round until it is answered, keeping what was received on disk."""
    plan = TrainingPlan.from_json((folder / "plan.json").read_text())
    institution, start = open_institution(folder, plan)
    state = (
        json.loads((folder / COORDINATOR).read_text())
        if (folder / COORDINATOR).exists()
        else {"round": 0, "head": ""}
    )
    params = load_file(folder / f"params-{state['round']}.safetensors") if state["round"] else start
    for server_round in range(state["round"] + 1, rounds + 1):
        reply = institution.handle(
            "train",
            Request(
                plan=plan.to_json(),
                server_round=server_round,
                arrays=encode(params),
                ledger_head=state["head"],
            ),
        )
        if reply.refusal is not None or reply.arrays is None:
            write_json(
                folder / "refused.json",
                {"round": server_round, "refusal": reply.refusal, "figures": reply.figures},
            )
            return
        update = decode(
            reply.arrays, {name: tuple(t.shape) for name, t in params.items()}, max_value=1e9
        ).tensors
        params = {name: params[name] + update[name] for name in params}
        save(folder / f"params-{server_round}.safetensors", params)
        state = {"round": server_round, "head": reply.ledger_head}
        write_json(folder / COORDINATOR, state)
    write_json(folder / "done.json", state)


def save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    from confide.storage.files import replace_file

    replace_file(
        path,
        lambda temporary: save_file({n: t.contiguous() for n, t in tensors.items()}, temporary),
    )


def open_institution(
    folder: Path, plan: TrainingPlan
) -> tuple[Institution, dict[str, torch.Tensor]]:
    workload = workload_of(plan)
    trainer = Trainer(workload, private=True)
    columns = load_file(folder / "records.safetensors")
    examples = Examples({"features": columns["features"], LABELS: columns[LABELS]})
    institution = build_institution(
        plan,
        InstitutionData(train=examples, validation=examples, test=examples),
        trainer=trainer,
        policy=PolicyConfig(min_records=1),
        ledger=build_ledger(folder / LEDGER, epsilon=8.0, delta=plan.privacy.delta),
        key_fn=None,
    )
    return institution, trainable_tensors(workload.model)
