"""Rounds computed together are those computed one by one, but for the last bits."""

import functools
from collections.abc import Callable
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
from torch import Tensor

from confide.client.algorithm_state import ClientStates
from confide.client.assembly import make_trainer
from confide.client.batched import cohort
from confide.client.batched.check import CohortCheck
from confide.client.batched.cohort import CohortProgram
from confide.client.batched.passes import RecordPasses, norms_of
from confide.client.batched.stack import LinearStack, stack_of
from confide.client.institution import Institution
from confide.client.training.private.clipping import gradient_norms
from confide.client.training.private.sample_gradients import SampleGradients
from confide.client.training.private.step import expect_hook_warning
from confide.client.training.trainer import Trainer
from confide.client.training_round import RoundWork
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.models.perceptrons import AdditiveConfig, LogisticConfig, MlpConfig
from confide.config.outcomes.regression import RegressionConfig
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.drift import FedExPConfig, FedNovaConfig
from confide.config.strategies.objectives import FedDynConfig, FedProxConfig, ScaffoldConfig
from confide.errors import PrivacyError, RowsDifferError
from confide.models.networks import trainable_tensors
from confide.privacy.randomness import derive_key
from confide.protocol.messages import Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal
from confide.strategies.algorithm import (
    Algorithm,
    ClientResult,
    ClientRound,
    TrainFn,
    join_extra,
)
from confide.strategies.parts import build_algorithm

NAMES = [f"c{i}" for i in range(7)]
EPOCHS = ClientConfig(batch_size=8, local_epochs=2)
PRIVATE = PrivacyConfig(unit="record", epsilon=4.0, delta=1e-3)
UNEQUAL = (9, 32, 33, 50)


def optimized(**fields: Any) -> ClientConfig:
    return replace(EPOCHS, optimizer=OptimizerConfig(**fields))


def make_plan(**fields: Any) -> TrainingPlan:
    usual = {"task": build_task(*NAMES), "backbone": MlpConfig(hidden=[9]), "client": EPOCHS}
    return build_plan(num_rounds=3, **{**usual, **fields})


def key_fn(number: int, job: str, mechanism: str) -> bytes:
    return derive_key(bytes(32), job, mechanism, str(number))


def institutions(
    plan: TrainingPlan, sizes: tuple[int, ...], trainer: Trainer, folder: Path
) -> list[Institution]:
    return [
        build_institution(
            plan,
            build_records(trainer.workload, train=size, validation=4),
            trainer=trainer,
            states=ClientStates(folder / str(number), kept=3),
            key_fn=functools.partial(key_fn, number),
        )
        for number, size in enumerate(sizes)
    ]


def question(plan: TrainingPlan, trainer: Trainer) -> Request:
    sent = build_algorithm(plan.objective).sent_shapes(trainer.shapes)
    generator = torch.Generator().manual_seed(0)
    extra = {name: 0.01 * torch.randn(shape, generator=generator) for name, shape in sent.items()}
    start = trainable_tensors(trainer.workload.model)
    return build_request(plan, 1, tensors=join_extra(start, extra))


def begun(those: list[Institution], request: Request) -> list[RoundWork]:
    works = [one.begin(request) for one in those]
    assert all(isinstance(work, RoundWork) for work in works)
    return works  # type: ignore[return-value]


def program_of(trainer: Trainer) -> CohortProgram:
    stack = stack_of(trainer.workload.model)
    assert stack is not None
    return CohortProgram(trainer.workload, stack)


def together(program: CohortProgram, works: list[RoundWork]) -> list[ClientResult]:
    found: dict[int, ClientResult] = {}
    for chunk in program.chunks(works):
        result = program.compute(chunk)
        found.update({id(work): result.of(index) for index, work in enumerate(chunk)})
    return [found[id(work)] for work in works]


def assert_equal(one: ClientResult, other: ClientResult) -> None:
    for first, second in (
        (one.update, other.update),
        (one.extra, other.extra),
        (one.kept, other.kept),
    ):
        assert list(first) == list(second)
        for name in first:
            assert first[name].shape == second[name].shape
            assert torch.allclose(first[name], second[name], rtol=0, atol=1e-6)
    assert max(float(tensor.abs().max()) for tensor in one.update.values()) > 1e-3


@pytest.mark.parametrize(
    ("sizes", "fields"),
    [
        pytest.param((32,) * 3, {}, id="equal sizes"),
        pytest.param(UNEQUAL, {}, id="unequal sizes"),
        pytest.param((1, 2, 8), {"backbone": LogisticConfig()}, id="hardly any records"),
        pytest.param(UNEQUAL, {"backbone": MlpConfig(hidden=[16, 5])}, id="two hidden layers"),
        pytest.param(UNEQUAL, {"backbone": AdditiveConfig()}, id="additive"),
        pytest.param(
            UNEQUAL, {"client": optimized(momentum=0.9, weight_decay=0.01)}, id="momentum"
        ),
        pytest.param(UNEQUAL, {"client": optimized(kind="adam", learning_rate=0.01)}, id="adam"),
        pytest.param(
            UNEQUAL,
            {"task": build_task(*NAMES, labels=[], outcome=RegressionConfig(minimum=0, maximum=1))},
            id="regression",
        ),
        pytest.param(UNEQUAL, {"objective": FedProxConfig(proximal_mu=1.0)}, id="fedprox"),
        pytest.param(UNEQUAL, {"objective": FedDynConfig(alpha=0.3)}, id="feddyn"),
        pytest.param(UNEQUAL, {"objective": ScaffoldConfig()}, id="scaffold"),
        pytest.param(UNEQUAL, {"objective": FedNovaConfig()}, id="fednova"),
        pytest.param(UNEQUAL, {"objective": FedExPConfig()}, id="fedexp"),
        pytest.param(
            (40, 81), {"privacy": PRIVATE, "objective": FedExPConfig()}, id="private, fedexp"
        ),
        pytest.param((40, 40), {"privacy": PRIVATE}, id="private"),
        pytest.param((40, 81), {"privacy": PRIVATE}, id="private, unequal"),
        pytest.param(
            (40, 40),
            {"privacy": PRIVATE, "client": optimized(kind="adamw", learning_rate=0.01)},
            id="private, adamw",
        ),
        pytest.param(
            (40, 40), {"privacy": PRIVATE, "objective": ScaffoldConfig()}, id="private, scaffold"
        ),
    ],
)
def test_a_cohort_is_its_institutions(
    sizes: tuple[int, ...], fields: dict[str, Any], tmp_path: Path
) -> None:
    plan = make_plan(**fields)
    trainer = make_trainer(workload_of(plan), plan)
    request = question(plan, trainer)
    alone = institutions(plan, sizes, trainer, tmp_path / "alone")
    works = begun(alone, request)
    both = begun(institutions(plan, sizes, trainer, tmp_path / "together"), request)
    for one, work, result in zip(alone, works, together(program_of(trainer), both), strict=True):
        assert_equal(one._rounds.compute(work), result)


def make_private(sizes: tuple[int, ...], folder: Path) -> tuple[CohortProgram, list[RoundWork]]:
    plan = make_plan(privacy=PRIVATE)
    trainer = make_trainer(workload_of(plan), plan)
    works = begun(institutions(plan, sizes, trainer, folder), question(plan, trainer))
    return program_of(trainer), works


def test_a_chunk_is_bounded_and_leaves_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, works = make_private((40,) * 7, tmp_path)
    whole = together(program, works)
    monkeypatch.setattr(cohort, "_CHUNK", 3 * program._numbers(works[0]))
    chunks = list(program.chunks(works))
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    for one, other in zip(whole, together(program, works), strict=True):
        assert_equal(one, other)


def test_nobody_to_compute_is_no_chunk(tmp_path: Path) -> None:
    program, _ = make_private((40,), tmp_path)
    assert list(program.chunks([])) == []


def test_samples_wider_than_a_pass_are_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, works = make_private((81, 81), tmp_path)
    whole = together(program, works)
    monkeypatch.setattr(program._gradients, "_rows_fn", lambda work: 16)
    seen: list[int] = []
    run = program._passes.run

    def count(tensors: Tensor, table: Any, places: Tensor) -> Any:
        seen.append(places.shape[1])
        return run(tensors, table, places)

    # A quarter of 81 is more than a pass of 16: nothing is dropped, and no pass is wider.
    works = [replace(work, schedule=replace(work.schedule, sampling_rate=0.25)) for work in works]
    monkeypatch.setattr(program._passes, "run", count)
    narrow = together(program, works)
    monkeypatch.setattr(program._gradients, "_rows_fn", lambda work: 128)
    for one, other in zip(narrow, together(program, works), strict=True):
        assert_equal(one, other)
    assert {16} == set(seen[: seen.index(128)])
    assert whole[0].update.keys() == narrow[0].update.keys()


def test_norms_are_those_of_written_out_gradients_and_err_upwards() -> None:
    plan = make_plan()
    workload = workload_of(plan)
    stack = stack_of(workload.model)
    assert stack is not None
    passes = RecordPasses(workload, stack)
    records = passes.invented(12)
    row = torch.zeros(1, stack.size)
    start = trainable_tensors(workload.model)
    for part, name in zip(stack.parts(row), stack.names, strict=True):
        part.copy_(start[name])
    found = norms_of(passes.run(row, passes.table([records]), torch.arange(12)[None]))[0]
    samples = SampleGradients(workload.model.train(), workload.losses)
    with expect_hook_warning():
        exact = gradient_norms(samples.of(records.take(torch.arange(12))))
    assert torch.allclose(found, exact, rtol=1e-5)
    assert bool((found >= exact * (1 - 1e-7)).all())


def make_check() -> tuple[CohortCheck, RecordPasses, Tensor]:
    workload = workload_of(make_plan())
    stack = stack_of(workload.model)
    assert stack is not None
    passes = RecordPasses(workload, stack)
    row = torch.zeros(stack.size)
    start = trainable_tensors(workload.model)
    for part, name in zip(stack.parts(row[None]), stack.names, strict=True):
        part[0].copy_(start[name])
    return CohortCheck(passes), passes, row


@pytest.mark.parametrize(("count", "rows"), [(1, 16), (3, 16), (20, 32), (64, 48)])
def test_what_a_record_adds_does_not_depend_on_others(count: int, rows: int) -> None:
    check, _, row = make_check()
    check.check(row, count, rows)


@pytest.mark.parametrize(
    "leak",
    [
        pytest.param(lambda x: x + 1e-7 * x.sum(dim=1, keepdim=True), id="others"),
        pytest.param(lambda x: x * (1 + 1e-6 * torch.arange(x.shape[1])[:, None]), id="place"),
    ],
)
def test_a_pass_that_lets_others_show_is_refused(
    leak: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    check, _passes, row = make_check()
    whole = LinearStack.pass_through

    def leaks(self: LinearStack, rows: Tensor, x: Tensor, fn: Any) -> Any:
        return whole(self, rows, leak(x), fn)

    monkeypatch.setattr(LinearStack, "pass_through", leaks)
    with pytest.raises(RowsDifferError, match=r"simulation\.engine=inline"):
        check.check(row, 20, 16)


def test_a_round_whose_rows_differ_is_refused_before_it_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(privacy=PRIVATE)
    trainer = make_trainer(workload_of(plan), plan)
    (one,) = institutions(plan, (40,), trainer, tmp_path)
    program, whole = program_of(trainer), LinearStack.pass_through

    def leaks(self: LinearStack, rows: Tensor, x: Tensor, fn: Any) -> Any:
        return whole(self, rows, x + 1e-7 * x.sum(dim=1, keepdim=True), fn)

    monkeypatch.setattr(LinearStack, "pass_through", leaks)
    reply = one.begin(question(plan, trainer), rows_fn=program.check_rows)
    assert isinstance(reply, Reply)
    assert reply.refusal == Refusal.ROWS_DIFFER
    assert one.spent(plan.job).count == 0
    monkeypatch.undo()
    begun = one.begin(question(plan, trainer), rows_fn=program.check_rows)
    assert isinstance(begun, RoundWork)
    assert one.spent(plan.job).count == 1


def test_only_stacks_that_are_trained_whole_are_laid_out() -> None:
    model = workload_of(make_plan()).model
    assert stack_of(model) is not None
    next(model.parameters()).requires_grad_(False)
    assert stack_of(model) is None
    assert stack_of(torch.nn.Sequential(torch.nn.Linear(2, 2))) is None


@pytest.mark.parametrize("privacy", [PrivacyConfig(), PRIVATE])
def test_a_second_training_is_refused(
    privacy: PrivacyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its noise would be the first's, and cancel in the difference."""
    plan = make_plan(privacy=privacy)
    trainer = make_trainer(workload_of(plan), plan)
    works = begun(institutions(plan, (40, 40), trainer, tmp_path), question(plan, trainer))

    def twice(given: ClientRound, train: TrainFn) -> ClientResult:
        train(given.params)
        return ClientResult(update=train(given.params))

    monkeypatch.setattr(cohort, "build_algorithm", lambda _: Algorithm(client=twice))
    with pytest.raises(PrivacyError, match="trains more than once"):
        program_of(trainer).compute(works)
