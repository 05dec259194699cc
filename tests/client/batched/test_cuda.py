"""A cohort on an accelerator: the same rounds, chunks by free memory, and nothing that waits.

Everything but graphs runs on a CPU too, which stands in for the accelerator.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import (
    build_institution,
    build_plan,
    build_records,
    build_request,
    build_task,
    workload_of,
)
from devices import devices, without_waiting
from torch import Tensor

from confide.client.algorithm_state import ClientStates
from confide.client.batched.cohort import CohortProgram
from confide.client.batched.cuda import WARM_UP, Card, card_of
from confide.client.batched.gradients import CohortGradients
from confide.client.batched.passes import RecordPasses, norms_of
from confide.client.batched.stack import stack_of
from confide.client.institution import Institution
from confide.client.training.trainer import Trainer
from confide.client.training_round import RoundWork
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.models.perceptrons import MlpConfig
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.objectives import FedProxConfig, ScaffoldConfig
from confide.models.networks import trainable_tensors
from confide.models.workload import Workload
from confide.privacy.randomness import derive_key
from confide.protocol.messages import Reply
from confide.protocol.plan import TrainingPlan
from confide.strategies.algorithm import ClientResult, join_extra
from confide.strategies.parts import build_algorithm

PRIVATE = PrivacyConfig(unit="record", epsilon=4.0, delta=1e-3)
SIZES = (40, 40, 81)


def make_plan(**fields: Any) -> TrainingPlan:
    usual = {
        "task": build_task(*(f"c{i}" for i in range(7))),
        "backbone": MlpConfig(hidden=[9]),
        "client": ClientConfig(batch_size=8, local_epochs=2),
        "num_rounds": 3,
    }
    return build_plan(**{**usual, **fields})


def make_workload(plan: TrainingPlan, device: str, **fields: Any) -> Workload:
    return workload_of(plan, device=torch.device(device), **fields)


def program_on(workload: Workload, *, records: bool = True) -> CohortProgram:
    stack = stack_of(workload.model)
    assert stack is not None
    card = Card(workload.compute.device, records=records)
    return CohortProgram(workload, stack, card=card)


def doors(plan: TrainingPlan, trainer: Trainer, folder: Path) -> list[Institution]:
    return [
        build_institution(
            plan,
            build_records(trainer.workload, train=size, validation=4),
            trainer=trainer,
            states=ClientStates(folder / str(number), kept=3),
            key_fn=lambda job, mechanism, number=number: derive_key(
                bytes(32), job, mechanism, str(number)
            ),
        )
        for number, size in enumerate(SIZES)
    ]


def begun(plan: TrainingPlan, trainer: Trainer, folder: Path) -> list[RoundWork]:
    sent = build_algorithm(plan.objective).sent_shapes(trainer.shapes)
    extra = {name: torch.full(shape, 0.01) for name, shape in sent.items()}
    start = trainable_tensors(workload_of(plan).model)
    request = build_request(plan, 1, tensors=join_extra(start, extra))
    works = [door.begin(request) for door in doors(plan, trainer, folder)]
    assert not any(isinstance(work, Reply) for work in works)
    return works  # type: ignore[return-value]


def computed(program: CohortProgram, works: list[RoundWork]) -> list[ClientResult]:
    result = program.compute(works)
    return [result.of(index) for index in range(len(works))]


def joined(result: ClientResult) -> Tensor:
    parts = {**result.update, **result.extra, **result.kept}
    return torch.cat([part.flatten() for part in parts.values()])


@devices
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="plain"),
        pytest.param({"objective": FedProxConfig(proximal_mu=1.0)}, id="fedprox"),
        pytest.param(
            {"objective": ScaffoldConfig(), "client": ClientConfig(local_steps=3)}, id="scaffold"
        ),
        pytest.param({"privacy": PRIVATE}, id="private"),
        pytest.param(
            {
                "privacy": PRIVATE,
                "client": ClientConfig(
                    batch_size=8,
                    local_epochs=2,
                    optimizer=OptimizerConfig(kind="adam", learning_rate=0.01),
                ),
            },
            id="private, adam",
        ),
    ],
)
def test_a_round_there_is_that_of_the_cpu(
    device: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    plan = make_plan(**fields)
    on_cpu = make_workload(plan, "cpu")
    stack = stack_of(on_cpu.model)
    assert stack is not None
    trainer = Trainer(on_cpu, private=plan.private)
    alone = CohortProgram(on_cpu, stack)
    works = begun(plan, trainer, tmp_path / "cpu")
    there = begun(plan, trainer, tmp_path / "there")
    assert [work.reserved.figures for work in works] == [work.reserved.figures for work in there]
    found = computed(program_on(make_workload(plan, device)), there)
    for one, other in zip(computed(alone, works), found, strict=True):
        assert torch.allclose(joined(one), joined(other), rtol=0, atol=1e-5)
        assert joined(other).device.type == "cpu"
        assert float(joined(one).abs().max()) > 1e-3


@devices
def test_a_door_there_tells_the_epsilon_of_a_door_here(device: str) -> None:
    plan = make_plan(privacy=PRIVATE)
    figures = []
    for place in ("cpu", device):
        trainer = Trainer(make_workload(plan, place), private=True)
        request = build_request(plan, 1, tensors=trainable_tensors(workload_of(plan).model))
        reply = build_institution(plan, trainer=trainer).handle("train", request)
        assert reply.refusal is None
        figures.append(reply.figures)
    assert figures[0] == figures[1]


# --- memory


def test_chunks_are_as_large_as_free_memory_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(privacy=PRIVATE)
    workload = make_workload(plan, "cpu")
    program = program_on(workload)
    works = begun(plan, Trainer(workload, private=True), tmp_path)
    each = max(map(program._numbers, works))
    card = Card(torch.device("cpu"))
    rooms = [card.room(free=16 * each * clients) for clients in (1, 2, 3)]
    for clients, room in enumerate(rooms, start=1):
        assert room == each * clients
        monkeypatch.setattr(Card, "room", lambda self, room=room: room)
        chunks = list(program.chunks(works))
        assert sum(map(len, chunks)) == len(works)
        assert max(map(len, chunks)) <= clients or clients == 3
    assert len(chunks) == 1


def test_a_client_larger_than_free_memory_is_a_chunk_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan()
    workload = make_workload(plan, "cpu")
    works = begun(plan, Trainer(workload, private=False), tmp_path)
    monkeypatch.setattr(Card, "room", lambda self: 1)
    chunks = list(program_on(workload).chunks(works))
    assert [len(chunk) for chunk in chunks] == [1, 1, 1]


@devices
def test_free_memory_is_asked_of_the_accelerator(device: str) -> None:
    if device == "cpu":
        assert card_of(torch.device("cpu")) is None
        return
    card = card_of(torch.device(device))
    assert card is not None
    assert 1 < card.room() < torch.cuda.get_device_properties(0).total_memory


# --- precision


@devices
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_norms_and_sums_are_float64_whatever_products_are(
    device: str, autocast: torch.dtype | None
) -> None:
    """Of what a pass left, in whatever precision, a norm is that of the gradient it stands for."""
    workload = make_workload(make_plan(), device, autocast=autocast)
    stack = stack_of(workload.model)
    assert stack is not None
    passes = RecordPasses(workload, stack, Card(workload.compute.device))
    start = trainable_tensors(workload.model)
    row = stack.rows({name: tensor[None].cpu() for name, tensor in start.items()}).to(device)
    found = passes.run(row, passes.table([passes.invented(16)]), torch.arange(16)[None])
    assert {part.dtype for part in found.parts} == {autocast or torch.float32}
    exact = torch.zeros(16, dtype=torch.float64, device=device)
    for x, g in zip(found.inputs, found.gradients, strict=True):
        product = g[0].double()[:, :, None] * x[0].double()[:, None, :]
        exact += product.flatten(1).square().sum(dim=1) + g[0].double().square().sum(dim=1)
    norms = norms_of(found)[0]
    assert norms.dtype == torch.float64
    assert torch.allclose(norms, exact.sqrt(), rtol=1e-5)
    assert bool((norms >= exact.sqrt() * (1 - 1e-12)).all())
    sums = torch.empty(1, stack.size, dtype=torch.float64, device=device)
    stack.write_sums(sums, found, torch.ones(1, 16, device=device).double(), fresh=True)
    assert sums.isfinite().all()


@devices
def test_a_private_round_in_bf16_is_near_that_in_float32(device: str, tmp_path: Path) -> None:
    plan = make_plan(privacy=PRIVATE)
    trainer = Trainer(make_workload(plan, "cpu"), private=True)
    both = []
    for autocast in (None, torch.bfloat16):
        works = begun(plan, trainer, tmp_path / str(autocast))
        quiet = [
            replace(work, schedule=replace(work.schedule, noise_multiplier=0.0)) for work in works
        ]
        both.append(computed(program_on(make_workload(plan, device, autocast=autocast)), quiet))
    for one, other in zip(*both, strict=True):
        difference = (joined(one) - joined(other)).norm() / joined(one).norm()
        assert 0 < float(difference) < 0.1


# --- time


@devices
@pytest.mark.parametrize("privacy", [PrivacyConfig(), PRIVATE])
def test_no_step_waits(
    device: str, privacy: PrivacyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(privacy=privacy)
    trainer = Trainer(make_workload(plan, "cpu"), private=plan.private)
    program = program_on(make_workload(plan, device))
    works = begun(plan, trainer, tmp_path)
    kind = "private" if plan.private else "passes"
    whole, taken = getattr(CohortGradients, kind), []

    def watched(self: CohortGradients, *given: Any) -> Iterator[Any]:
        steps = whole(self, *given)
        # The first step begins with the check of rows, which looks at what came.
        yield next(steps)
        with without_waiting(device):
            for step in steps:
                taken.append(1)
                yield step

    monkeypatch.setattr(CohortGradients, kind, watched)
    program.compute(works)
    assert len(taken) == max(work.schedule.steps for work in works) - 1


@devices
def test_kernels_that_were_recorded_compute_what_they_did(device: str, tmp_path: Path) -> None:
    plan = make_plan(privacy=PRIVATE)
    trainer = Trainer(make_workload(plan, "cpu"), private=True)
    workload = make_workload(plan, device)
    eager, recorded = program_on(workload, records=False), program_on(workload)
    for number in range(2):
        one = computed(eager, begun(plan, trainer, tmp_path / f"{number}-eager"))
        other = computed(recorded, begun(plan, trainer, tmp_path / f"{number}-recorded"))
        for eagerly, replayed in zip(one, other, strict=True):
            assert torch.allclose(joined(eagerly), joined(replayed), rtol=0, atol=1e-6)
    assert recorded._card is not None
    # The pass and the clipped sum; nothing is recorded on a CPU.
    assert recorded._card.num_recorded >= 2 * (device == "cuda")
    assert recorded._card.num_recorded == 0 or device == "cuda"


@devices
def test_what_was_recorded_reads_what_comes(device: str) -> None:
    card, place = Card(torch.device(device)), torch.device(device)
    for number in range(2 * WARM_UP):
        given = torch.full((3,), float(number), device=place)
        (doubled,) = card.run("double", lambda it: (2 * it,), given)
        (again,) = card.run("square", lambda it: (it * it,), doubled)
        assert doubled.tolist() == [2.0 * number] * 3
        assert again.tolist() == [4.0 * number**2] * 3


# --- the private step of one institution


@devices
@pytest.mark.parametrize("book_keeping", [True, False])
def test_no_private_step_of_a_trainer_waits(device: str, book_keeping: bool) -> None:
    from confide.client.training.private.dp_sgd import DpSgd, DpSgdStep, expect_hook_warning
    from confide.privacy.randomness import KeyedGenerator

    workload = make_workload(make_plan(), device)
    dp_sgd = DpSgd(
        workload.model.train(),
        workload.losses,
        physical_batch_size=32,
        book_keeping=book_keeping,
    )
    step = DpSgdStep(
        clipping_norm=0.1, noise_multiplier=1.0, sampling_rate=0.5, expected_batch_size=20.0
    )
    sgd = torch.optim.SGD(dp_sgd.params, lr=0.1)
    optimizer = dp_sgd.optimizer(sgd, step, KeyedGenerator(bytes(32)))
    examples = workload.synthetic(40, torch.Generator().manual_seed(0)).to(torch.device(device))
    before = torch.cat([p.detach().flatten() for p in dp_sgd.params])
    with expect_hook_warning():
        dp_sgd.private_gradient(optimizer, examples, torch.arange(20))
        sgd.step()
        with without_waiting(device):
            for start in (0, 7, 13):
                dp_sgd.private_gradient(optimizer, examples, torch.arange(start, start + 20))
                sgd.step()
    assert (torch.cat([p.detach().flatten() for p in dp_sgd.params]) != before).all()
