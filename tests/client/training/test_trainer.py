"""Local training against hand-written loops, and its reduction laws."""

from dataclasses import replace

import pytest
import torch
from builders import build_plan, build_task
from torch import Tensor
from torch.nn import functional

from confide.client.records.encoded import InstitutionData
from confide.client.schedule import LocalSchedule
from confide.client.training.local_round import RoundInputs, local_round
from confide.client.training.trainer import Trainer
from confide.client.training.work import LocalWork
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.models.perceptrons import MlpConfig
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.strategy import FedProxConfig, ObjectiveConfig
from confide.config.tunings.tuning import TuningConfig
from confide.models.compute import Compute, threads
from confide.models.networks import Mlp, trainable_tensors
from confide.models.workload import Workload, build_workload
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors
from confide.tasks.task import Examples

KEY, OTHER = bytes(32), bytes([1]) * 32
RECORDS, BATCH, STEPS = (
    10,
    4,
    5,
)  # three batches an epoch, the last of two records: five steps cross an epoch
TASK = build_task("a", "b", "c")
HUGE_CLIP = 1e5
SGD = OptimizerConfig(kind="sgd", learning_rate=0.3)
OPTIMIZERS = {
    "sgd": SGD,
    "momentum": OptimizerConfig(kind="sgd", learning_rate=0.1, momentum=0.9, weight_decay=0.01),
    "adam": OptimizerConfig(kind="adam", learning_rate=0.01),
    "adamw": OptimizerConfig(kind="adamw", learning_rate=0.01, weight_decay=0.1),
}
PROXIMAL = FedProxConfig(proximal_mu=0.5)


def make_workload(compute: Compute | None = None) -> Workload:
    return build_workload(
        TASK, MlpConfig(hidden=[6]), TuningConfig(kind="full"), compute=compute or Compute(), seed=1
    )


def make_trainer(*, private: bool, compute: Compute | None = None) -> Trainer:
    return Trainer(make_workload(compute), private=private)


START: Tensors = trainable_tensors(make_workload().model)
EXAMPLES = make_workload().synthetic(RECORDS, torch.Generator().manual_seed(5))
DATA = InstitutionData(train=EXAMPLES, validation=EXAMPLES, test=EXAMPLES)
SCHEDULE = LocalSchedule(
    num_examples=RECORDS,
    batch_size=BATCH,
    steps=STEPS,
    sampling_rate=BATCH / RECORDS,
    noise_multiplier=0.0,
    max_rounds=1,
)
FULL_BATCH = replace(SCHEDULE, batch_size=RECORDS, sampling_rate=1.0)


def make_plan(
    *,
    private: bool,
    optimizer: OptimizerConfig = SGD,
    objective: ObjectiveConfig | None = None,
    clip: float = HUGE_CLIP,
) -> TrainingPlan:
    return build_plan(
        job="train",
        task=TASK,
        backbone=MlpConfig(),
        objective=objective or ObjectiveConfig(),
        client=ClientConfig(optimizer=optimizer),
        privacy=PrivacyConfig(unit="record" if private else "none", clipping_norm=clip),
    )


def train(
    trainer: Trainer, plan: TrainingPlan, schedule: LocalSchedule = SCHEDULE, secret: bytes = KEY
) -> Tensor:
    inputs = RoundInputs(params=START)
    result = local_round(
        trainer, inputs, DATA, LocalWork(plan=plan, schedule=schedule, secret=secret)
    )
    return torch.cat([result.update[name].flatten() for name in START])


def train_by_hand(optimizer_name: str) -> Tensor:
    """Do what a round does, in plain torch."""
    model = Mlp([3, 6, 2])
    model.load_state_dict(START)
    optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.3),
        "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
        "adam": lambda p: torch.optim.Adam(p, lr=0.01),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    }[optimizer_name](model.parameters())
    generator = torch.Generator().manual_seed(int.from_bytes(KEY[:8], "little"))
    epochs = [torch.randperm(RECORDS, generator=generator).split(BATCH) for _ in range(2)]
    for indices in [*epochs[0], *epochs[1]][:STEPS]:
        optimizer.zero_grad()
        logits = model(EXAMPLES.columns["features"][indices])
        functional.cross_entropy(logits, EXAMPLES.labels[indices]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return torch.cat([(p.detach() - START[name]).flatten() for name, p in model.named_parameters()])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_plain_round_equals_a_hand_written_loop_bit_for_bit(name: str) -> None:
    plan = make_plan(private=False, optimizer=OPTIMIZERS[name])
    assert train(make_trainer(private=False), plan).equal(train_by_hand(name))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_noise_and_clipping_private_training_is_plain_full_batch_training(
    name: str,
) -> None:
    plain = train(
        make_trainer(private=False),
        make_plan(private=False, optimizer=OPTIMIZERS[name]),
        FULL_BATCH,
    )
    private = train(
        make_trainer(private=True), make_plan(private=True, optimizer=OPTIMIZERS[name]), FULL_BATCH
    )
    assert (private - plain).norm() < 1e-5 * plain.norm()


def test_clipping_keeps_a_private_round_short() -> None:
    update = train(make_trainer(private=True), make_plan(private=True, clip=1e-3), FULL_BATCH)
    assert 0 < update.norm() <= STEPS * 0.3 * 1e-3 * (1 + 1e-4)


# --- FedProx


@pytest.mark.parametrize("private", [False, True])
def test_fedprox_without_mu_is_plain_bit_for_bit(private: bool) -> None:
    without = make_plan(private=private, objective=FedProxConfig(proximal_mu=0.0))
    trainer = make_trainer(private=private)
    assert train(trainer, without).equal(train(trainer, make_plan(private=private)))


@pytest.mark.parametrize("private", [False, True])
def test_fedprox_moves_less_the_larger_mu_is(private: bool) -> None:
    trainer = make_trainer(private=private)
    plans = [
        make_plan(private=private, objective=FedProxConfig(proximal_mu=mu))
        for mu in (0.0, 0.3, 1.0)
    ]
    norms = [float(train(trainer, plan, replace(FULL_BATCH, steps=20)).norm()) for plan in plans]
    assert norms[0] > 1.05 * norms[1] > 1.05**2 * norms[2]


@pytest.mark.parametrize("private", [False, True])
def test_fedprox_pulls_the_second_step_back_by_mu(private: bool) -> None:
    trainer, two = make_trainer(private=private), replace(FULL_BATCH, steps=2)
    first = train(trainer, make_plan(private=private), replace(FULL_BATCH, steps=1))
    plain = train(trainer, make_plan(private=private), two)
    pulled = train(trainer, make_plan(private=private, objective=PROXIMAL), two)
    assert torch.allclose(pulled, plain - 0.3 * PROXIMAL.proximal_mu * first, atol=1e-6)


# --- nothing stays behind


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_round_leaves_nothing_behind(name: str, private: bool) -> None:
    plan = make_plan(private=private, optimizer=OPTIMIZERS[name], clip=0.1)
    noisy = replace(SCHEDULE, noise_multiplier=1.0 if private else 0.0)
    used = make_trainer(private=private)
    train(used, plan, noisy, OTHER)
    used.evaluate(START, EXAMPLES)
    assert train(used, plan, noisy).equal(train(make_trainer(private=private), plan, noisy))


@pytest.mark.parametrize("private", [False, True])
def test_round_that_breaks_leaves_nothing_behind(private: bool) -> None:
    plan, used = (
        make_plan(private=private, optimizer=OPTIMIZERS["adam"]),
        make_trainer(private=private),
    )
    broken = Examples(
        {**EXAMPLES.columns, "features": EXAMPLES.columns["features"][:-1]}
    )  # fails at the last record
    with pytest.raises(IndexError):
        used.train(START, broken, LocalWork(plan=plan, schedule=SCHEDULE, secret=KEY))
    assert train(used, plan).equal(train(make_trainer(private=private), plan))


@pytest.mark.parametrize("private", [False, True])
def test_other_secret_gives_another_round(private: bool) -> None:
    trainer, plan = make_trainer(private=private), make_plan(private=private)
    assert not train(trainer, plan).equal(train(trainer, plan, secret=OTHER))


@pytest.mark.parametrize("private", [False, True])
def test_update_shares_no_memory_with_the_next_round(private: bool) -> None:
    trainer, plan = make_trainer(private=private), make_plan(private=private)
    update = trainer.train(START, EXAMPLES, LocalWork(plan=plan, schedule=SCHEDULE, secret=KEY))
    kept = {name: tensor.clone() for name, tensor in update.items()}
    train(trainer, plan, secret=OTHER)
    assert all(update[name].equal(kept[name]) for name in kept)
    assert {name: tuple(tensor.shape) for name, tensor in update.items()} == trainer.shapes


def test_training_does_not_change_the_tensors_received() -> None:
    before = {name: tensor.clone() for name, tensor in START.items()}
    train(make_trainer(private=False), make_plan(private=False))
    assert all(before[name].equal(START[name]) for name in before)


# --- compute


@pytest.mark.parametrize("private", [False, True])
def test_accumulated_gradients_equal_those_of_one_batch(private: bool) -> None:
    plan, small = make_plan(private=private, clip=0.1), Compute(physical_batch_size=3)
    whole = train(make_trainer(private=private), plan, FULL_BATCH)
    parts = train(make_trainer(private=private, compute=small), plan, FULL_BATCH)
    assert (parts - whole).norm() < 1e-6 * whole.norm() + 1e-6


@pytest.mark.parametrize("private", [False, True])
def test_bf16_stays_near_float32_but_is_used(private: bool) -> None:
    plan, half = make_plan(private=private), Compute(autocast=torch.bfloat16)
    exact, rough = (
        train(make_trainer(private=private), plan),
        train(make_trainer(private=private, compute=half), plan),
    )
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).norm() < 0.05 * exact.norm()


# --- evaluation


def test_evaluation_leaves_the_tensors_given_in_the_model_as_they_are() -> None:
    workload = make_workload()
    given = {name: tensor + 1 for name, tensor in trainable_tensors(workload.model).items()}
    Trainer(workload, private=False).evaluate(given, EXAMPLES)
    after = trainable_tensors(workload.model)
    assert all(given[name].equal(after[name]) for name in given)


def test_evaluation_scores_the_tensors_given() -> None:
    trainer = make_trainer(private=True)
    trainer.scores({name: tensor + 1 for name, tensor in START.items()}, EXAMPLES)
    model = Mlp([3, 6, 2])
    model.load_state_dict(START)
    expected = model(EXAMPLES.columns["features"]).softmax(dim=1)
    assert torch.allclose(trainer.scores(START, EXAMPLES), expected, atol=1e-6)


def test_evaluation_keeps_the_order_of_many_records() -> None:
    trainer = make_trainer(private=False)
    many = Examples(
        {name: column.repeat_interleave(60, dim=0) for name, column in EXAMPLES.columns.items()}
    )
    scores = trainer.scores(START, many)
    assert torch.allclose(
        scores, trainer.scores(START, EXAMPLES).repeat_interleave(60, dim=0), atol=1e-6
    )


def test_metrics_of_perfect_tensors_are_perfect() -> None:
    trainer = make_trainer(private=False)
    best = Examples({**EXAMPLES.columns, "labels": trainer.scores(START, EXAMPLES).argmax(dim=1)})
    assert trainer.evaluate(START, best)["accuracy"] == 1.0


# --- threads


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("asked", [None, 2])
def test_small_model_takes_one_thread_unless_asked_however_many_the_process_has(
    private: bool, asked: int | None
) -> None:
    seen: list[int] = []
    with threads(3):
        compute = Compute(num_threads=asked)
        trainer = make_trainer(private=private, compute=compute)
        trainer.train(
            START,
            EXAMPLES,
            LocalWork(plan=make_plan(private=private), schedule=SCHEDULE, secret=KEY),
            change_gradient=lambda _: seen.append(torch.get_num_threads()),
        )
        assert torch.get_num_threads() == 3
    assert seen == [asked or 1] * STEPS


@pytest.mark.parametrize("private", [False, True])
def test_weights_do_not_depend_on_the_threads_of_the_process(private: bool) -> None:
    updates = []
    for number in (1, 2, 5):
        with threads(number):
            updates.append(train(make_trainer(private=private), make_plan(private=private)))
    assert all(updates[0].equal(other) for other in updates[1:])


def test_scores_are_computed_on_the_models_threads() -> None:
    seen: list[int] = []
    trainer = Trainer(
        make_workload(), private=False, check_fn=lambda: seen.append(torch.get_num_threads())
    )
    with threads(3):
        trainer.scores(START, EXAMPLES)
    assert seen == [1]
