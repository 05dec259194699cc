"""Tensors that a hostile coordinator chooses, at the institution's door."""

from dataclasses import replace

import pytest
import torch
from builders import POLICY, build_institution, build_plan, build_request, build_task, workload_of
from company import ALONE, TOGETHER
from torch import Tensor, nn

from confide.client.institution import Institution
from confide.client.ledger.memory import MemoryLedger
from confide.client.records.encoded import InstitutionData
from confide.client.training.private.row_check import RowCheck
from confide.client.training.trainer import Trainer
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.models.perceptrons import LogisticConfig, MlpConfig
from confide.config.privacy import PolicyConfig, PrivacyConfig
from confide.models.workload import Workload
from confide.protocol.messages import Reply
from confide.protocol.tensors import Tensors, decode
from confide.tasks.task import Examples

HIDDEN, RECORDS = 64, 258
"""Records: on this side of the boundary from 1 row to 2, a pass of 256 left 2 or 1."""
PLAN = build_plan(
    job="hostile",
    task=build_task(*(f"c{i}" for i in range(12))),
    backbone=MlpConfig(hidden=[1, HIDDEN]),
    client=ClientConfig(
        optimizer=OptimizerConfig(learning_rate=1.0), sampling_rate=1.0, local_steps=1
    ),
    privacy=PrivacyConfig(unit="record", epsilon=1.0, delta=1e-5),
)
LIFTED = replace(POLICY, max_value=1e30)
TRAINER = Trainer(workload_of(PLAN), private=True)


def craft() -> Tensors:
    """Find tensors for which every record's logit flips between passes of 1 and 2 rows."""
    generator = torch.Generator().manual_seed(1)
    start = {name: torch.zeros(shape) for name, shape in TRAINER.shapes.items()}
    for _ in range(3000):
        h = torch.rand(HIDDEN, generator=generator) + 0.5
        w = torch.randn(HIDDEN, generator=generator).double()
        w -= (w @ h.double()) / (h.double() @ h.double()) * h.double()
        weights = torch.stack([torch.zeros(HIDDEN), (w * 1e10).float()])
        one, two = (
            nn.functional.linear(h.expand(b, HIDDEN).contiguous(), weights, torch.zeros(2))[0, 1]
            for b in (1, 2)
        )
        if abs(float(one - two)) > 1000:
            break
    start["layers.0.bias"].fill_(-1.0)
    start["layers.2.bias"], start["layers.4.weight"] = h, weights
    return start


def ask(count: int, start: Tensors, policy: PolicyConfig, label: int = 0) -> tuple[Reply, Tensor]:
    """Train a round on the first records, the last of all with a label.

    Returns the reply, and the update of the tensors that are small.
    """
    examples = TRAINER.workload.synthetic(RECORDS, torch.Generator().manual_seed(5))
    examples.labels[-1] = label
    train = Examples({name: column[:count] for name, column in examples.columns.items()})
    data = InstitutionData(train=train, validation=train, test=train)
    declared = replace(policy, public_n=RECORDS)
    institution = build_institution(PLAN, data, trainer=TRAINER, policy=declared)
    reply = institution.handle("train", build_request(PLAN, tensors=start))
    if reply.arrays is None:
        return reply, torch.empty(0)
    update = decode(reply.arrays, TRAINER.shapes, max_value=1e30).tensors
    return reply, torch.cat(
        [part.flatten().double() for name, part in update.items() if name != "layers.4.weight"]
    )


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("engine", [ALONE, TOGETHER], indirect=True)
def test_one_record_moves_a_round_by_its_clipping_norm_whatever_tensors_came() -> None:
    start = craft()
    # The same mechanism on both: equal noise, which cancels.
    moved = []
    for label in (0, 1):
        (_, whole), (_, rest) = (ask(n, start, LIFTED, label) for n in (RECORDS, RECORDS - 1))
        assert len(whole) == len(rest) > 0
        moved.append(float((whole - rest).norm()) * RECORDS)
    assert 0 < max(moved) <= PLAN.privacy.clipping_norm * (1 + 1e-4)


def test_such_tensors_are_larger_than_a_policy_takes_by_default() -> None:
    reply, _ = ask(RECORDS, craft(), replace(POLICY, max_value=PolicyConfig().max_value))
    assert reply.refusal == "policy_max_value"
    assert reply.figures["allowed"] == 1e4
    assert reply.figures["asked"] > 1e9


@pytest.mark.parametrize("value", [1e4, 1.0001e4])
@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_largest_value_is_held_against_the_policy_before_anything_is_computed(
    kind: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = {name: torch.zeros(shape) for name, shape in TRAINER.shapes.items()}
    start["layers.0.bias"].fill_(-value)
    ledger = MemoryLedger()
    # One of this test: its scorer takes hold of what is watched when it is built.
    loads = []
    load = Trainer._load

    def watch(self: Trainer, tensors: Tensors) -> Tensor:
        loads.append(1)
        return load(self, tensors)

    monkeypatch.setattr(Trainer, "_load", watch)
    trainer = Trainer(workload_of(PLAN), private=True)
    loads.clear()
    institution = build_institution(
        PLAN,
        trainer=trainer,
        policy=PolicyConfig(min_records=1, backbones=["any"], tasks=["any"], max_delta=1e-3),
        ledger=ledger,
        key_fn=None,
    )
    reply = institution.handle(kind, build_request(PLAN, tensors=start, splits=("test",)))  # type: ignore[arg-type]
    assert (reply.refusal == "policy_max_value") == (value > 1e4)
    assert bool(loads) == (value <= 1e4)
    assert institution.spent(PLAN.job).count == int(kind == "train" and value <= 1e4)


class Gated(nn.Module):
    """Mixes the records of a batch once its tensors are large."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 2)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.layer(features)
        if float(self.layer.weight.detach().abs().max()) > 5:
            logits = logits * (1 + 1e-4 * features.mean())
        return logits


def make_gated() -> Institution:
    plan = replace(PLAN, task=build_task(), backbone=LogisticConfig())
    table = workload_of(plan)
    workload = Workload(table.task, Gated(), table.prepare, table.synthetic, table.compute)
    return build_institution(plan, trainer=Trainer(workload, private=True), policy=LIFTED)


@pytest.mark.parametrize(("value", "refusal"), [(1.0, None), (9.0, "rows_differ")])
def test_rows_are_looked_at_on_the_tensors_that_came_before_a_round_is_reserved(
    value: float, refusal: str | None
) -> None:
    institution = make_gated()
    plan = replace(PLAN, task=build_task(), backbone=LogisticConfig())
    start = {"layer.weight": torch.full((2, 1), value), "layer.bias": torch.zeros(2)}
    start["layer.weight"][1] = 0.0
    reply = institution.handle("train", build_request(plan, tensors=start))
    assert reply.refusal == refusal
    assert institution.spent(plan.job).count == (refusal is None)


def test_rows_are_looked_at_once_for_tensors_that_many_institutions_start_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer, looked = Trainer(workload_of(PLAN), private=True), []
    monkeypatch.setattr(RowCheck, "check", lambda self, sizes, *, is_first: looked.append(sizes))
    examples = trainer.workload.synthetic(40, torch.Generator().manual_seed(5))
    data = InstitutionData(train=examples, validation=examples, test=examples)
    start = {name: torch.ones(shape) for name, shape in trainer.shapes.items()}
    for tensors in (start, start, {name: 2 * tensor for name, tensor in start.items()}):
        institution = build_institution(PLAN, data, trainer=trainer)
        assert institution.handle("train", build_request(PLAN, tensors=tensors)).refusal is None
    assert len(looked) == 2
