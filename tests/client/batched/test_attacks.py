"""What a hostile coordinator may try with tensors, where many institutions are computed together.

The guarantee is that one record moves its institution's clipped sum by at most C, whatever tensors
came and whoever is computed beside it, and that nobody else's sum moves at all. Bugs are planted in
the program to show that these tests find them.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from builders import build_institution, build_plan, build_request, build_task, workload_of
from company import program_of, work_of
from torch import Tensor

from confide.client.assembly import make_trainer
from confide.client.batched import gradients, passes
from confide.client.batched.draws import Drawn
from confide.client.batched.gradients import CohortGradients
from confide.client.batched.stack import LinearStack
from confide.client.schedule import LocalSchedule
from confide.client.training.private.clipping import ClippingRule
from confide.client.training.trainer import Trainer
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.models.perceptrons import MlpConfig
from confide.config.privacy import PrivacyConfig
from confide.models.networks import trainable_tensors
from confide.privacy.randomness import KeyedGenerators, derive_key
from confide.protocol.messages import Reply
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors
from confide.tasks.task import LABELS, Examples

# The smallest that a plan may have: factors are smallest there.
CLIP, COLUMNS = 1e-3, 5
WIDTHS = (1, 2, 3, 5, 13, 16, 25, 30, 64, 65, 100)
# Numbers of records of who is computed beside the institution that is attacked.
OTHERS = (7, 40, 66)


def make_plan(hidden: list[int]) -> TrainingPlan:
    return build_plan(
        task=build_task(*(f"c{i}" for i in range(COLUMNS))),
        backbone=MlpConfig(hidden=hidden),
        client=ClientConfig(
            optimizer=OptimizerConfig(learning_rate=1.0), sampling_rate=0.6, local_steps=1
        ),
        privacy=PrivacyConfig(unit="record", epsilon=4.0, delta=1e-3, clipping_norm=CLIP),
    )


def make_records(count: int, seed: int) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn((count, COLUMNS), generator=generator)
    return Examples({"features": features, LABELS: torch.arange(count) % 2})


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Write down the clipped sums of each step, before noise: float64, shape [m, size]."""
    seen: list[Tensor] = []
    add = CohortGradients._add_passes

    def watch(its: CohortGradients, totals: Tensor, *given: Any, **named: Any) -> None:
        add(its, totals, *given, **named)
        # What fills a row up belongs to nobody.
        seen.append(torch.cat([it.flatten(1) for it in its._passes.stack.parts(totals)], dim=1))

    monkeypatch.setattr(CohortGradients, "_add_passes", watch)
    return seen


def compute(
    trainer: Trainer, start: Tensors, examples: Examples, *, seed: int = 0, **changes: float
) -> list[Tensor]:
    """Compute one step of an institution beside others; return updates, its own the first."""
    plan = make_plan([1])
    usual = {"sampling_rate": 1.0, "noise_multiplier": 0.0, **changes}
    works = [
        work_of(
            start,
            records,
            plan=plan,
            schedule=LocalSchedule(
                batch_size=1, steps=1, max_rounds=1, **{"num_examples": count, **usual}
            ),
            secret=derive_key(bytes(32), seed, number),
        )
        for number, (records, count, usual) in enumerate(
            [
                (examples, len(examples), usual),
                *((make_records(n, seed + n), n, {**usual, "num_examples": n}) for n in OTHERS),
            ]
        )
    ]
    result = program_of(trainer).compute(works)
    return [
        torch.cat([part.flatten() for part in result.of(row).update.values()]).double()
        for row in range(len(works))
    ]


# --- one record


def check_influence(seed: int, sums: list[Tensor]) -> None:
    """Take one record away: of blown-up tensors, beside whomever, in passes full or nearly empty.

    Nobody needs to know a kernel for this: what a last bit decides is blown up by tensors of 1e4.
    """
    rng = random.Random(seed)
    hidden = [rng.choice(WIDTHS) for _ in range(rng.randint(0, 2))]
    plan = make_plan(hidden)
    trainer = make_trainer(workload_of(plan), plan)
    count = rng.choice((2, 3, 15, 16, 17, 33, 64, 65, 130))
    records = make_records(count, seed)
    generator = torch.Generator().manual_seed(seed)
    start = {
        name: torch.randn(shape, generator=generator) * rng.choice((1.0, 10 ** rng.uniform(0, 4)))
        for name, shape in trainer.shapes.items()
    }
    sums.clear()
    for size in (count, count - 1):
        part = records.select(torch.arange(size))
        compute(trainer, start, part, num_examples=count, seed=seed)
    whole, rest = sums
    assert float((whole[0] - rest[0]).norm()) <= CLIP, f"one record moves more than C, seed {seed}"
    assert whole[1:].equal(rest[1:]), f"one record moves others, seed {seed}"


@pytest.mark.parametrize("seed", range(12))
def test_a_record_moves_its_own_sum_by_c_at_most(seed: int, sums: list[Tensor]) -> None:
    check_influence(seed, sums)


class Unclipped(ClippingRule):
    """Scales nothing."""

    def factors(self, norms: Tensor, *, rounded: int = 0) -> Tensor:
        return torch.ones_like(norms)


class Wide(ClippingRule):
    """Clips to twice the norm that the noise is for."""

    def factors(self, norms: Tensor, *, rounded: int = 0) -> Tensor:
        return super().factors(norms / 2, rounded=rounded)


def no_factors(patch: pytest.MonkeyPatch) -> None:
    # There alone: the preflight of a trainer would find it by itself.
    patch.setattr(gradients, "ClippingRule", Unclipped)


def twice_the_norm(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gradients, "ClippingRule", Wide)


def norms_of_the_last_layer(patch: pytest.MonkeyPatch) -> None:
    norms_of = passes.norms_of
    patch.setattr(
        passes,
        "norms_of",
        lambda found: norms_of(type(found)(found.inputs[-1:], found.gradients[-1:])),
    )


def norms_of_a_neighbour(patch: pytest.MonkeyPatch) -> None:
    norms_of = passes.norms_of
    patch.setattr(passes, "norms_of", lambda found: norms_of(found).roll(1, dims=0))


@pytest.mark.parametrize(
    "plant", [no_factors, twice_the_norm, norms_of_the_last_layer, norms_of_a_neighbour]
)
def test_a_record_that_is_not_clipped_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], sums: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)

    def check_all() -> None:
        for seed in range(12):
            check_influence(seed, sums)

    with pytest.raises(AssertionError, match=r"moves (more than C|others)"):
        check_all()


def check_lengths(sums: list[Tensor]) -> None:
    """Clip one record whose gradients are of every size that float32 has, to the smallest C."""
    plan = make_plan([256])
    trainer = make_trainer(workload_of(plan), plan)
    record = Examples(
        {"features": torch.tensor([[1.5, -1.0, 0.3, 0.0, 2.0]]), LABELS: torch.tensor([1])}
    )
    start = {name: torch.zeros(shape) for name, shape in trainer.shapes.items()}
    start["layers.0.bias"].fill_(2.0**-6)
    for exponent in (0, 20, 29, 29.9, 30.5, 34, 36, 37.3, 37.6, 38, 38.2):
        start["layers.2.weight"][1] = 10.0**exponent * (-1.0) ** torch.arange(256)
        sums.clear()
        compute(trainer, start, record, num_examples=1)
        assert float(sums[0][0].norm()) <= CLIP, f"longer than C at 1e{exponent}"


def test_underflow_of_a_factor_lengthens_no_gradient(sums: list[Tensor]) -> None:
    check_lengths(sums)


def test_factors_in_float32_are_found(sums: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    class Narrow(ClippingRule):
        def factors(self, norms: Tensor, *, rounded: int = 0) -> Tensor:
            return (self.clipping_norm * (1 - self.margin) / norms).float().double()

    monkeypatch.setattr(gradients, "ClippingRule", Narrow)
    monkeypatch.setattr(passes, "counts", torch.isfinite)
    with pytest.raises(AssertionError, match=r"longer than C at 1e3\d"):
        check_lengths(sums)


# --- records whose gradients are no numbers


def check_overflow(sums: list[Tensor]) -> None:
    """Compare sums with and without a record whose gradient overflows, beside others."""
    plan = make_plan([])
    trainer = make_trainer(workload_of(plan), plan)
    start = {name: torch.full(shape, 1e30) for name, shape in trainer.shapes.items()}
    records = make_records(9, 1)
    records.columns["features"][-1] = 3e38
    sums.clear()
    for size in (9, 8):
        part = records.select(torch.arange(size))
        updates = compute(trainer, start, part, num_examples=9, noise_multiplier=1.0)
        assert all(bool(update.isfinite().all()) for update in updates), "no numbers"
    assert sums[0].equal(sums[1]), "counts"


def test_a_record_whose_gradient_overflows_counts_as_zero(sums: list[Tensor]) -> None:
    check_overflow(sums)


def test_a_factor_of_zero_alone_is_found(
    sums: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 times infinity is no number, which no noise hides."""
    monkeypatch.setattr(passes, "counts", lambda norms: torch.ones_like(norms, dtype=torch.bool))
    with pytest.raises(AssertionError, match="no numbers"):
        check_overflow(sums)


# --- whoever samples nobody


def check_quiet_steps() -> None:
    """Ask for a step in which hardly anybody is sampled: its noise is there all the same."""
    plan = make_plan([])
    trainer = make_trainer(workload_of(plan), plan)
    start = {name: torch.zeros(shape) for name, shape in trainer.shapes.items()}
    for seed in range(5):
        updates = compute(
            trainer,
            start,
            make_records(2, seed),
            num_examples=2,
            noise_multiplier=1.0,
            sampling_rate=0.02,
            seed=seed,
        )
        assert all(bool((update != 0).all()) for update in updates), "no noise"


def test_who_samples_nobody_adds_noise_beside_those_who_do() -> None:
    check_quiet_steps()


def test_noise_left_out_where_a_sample_is_empty_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, normals = gradients.samples, KeyedGenerators.normals
    last: list[Drawn] = []

    def watch(*given: Any, rows: int) -> Iterator[Drawn]:
        for drawn in samples(*given, rows=rows):
            last[:] = [drawn]
            yield drawn

    def saving(self: KeyedGenerators, times: int, count: int, *, std: Tensor) -> Iterator[Tensor]:
        for z in normals(self, times, count, std=std):
            yield z * last[0].is_record.any(dim=1)[:, None]

    monkeypatch.setattr(gradients, "samples", watch)
    monkeypatch.setattr(KeyedGenerators, "normals", saving)
    with pytest.raises(AssertionError, match="no noise"):
        check_quiet_steps()


# --- tensors that let others show


def test_rows_that_show_others_are_refused_before_the_round_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = make_plan([9])
    trainer = make_trainer(workload_of(plan), plan)
    door, program = build_institution(plan, trainer=trainer), program_of(trainer)
    request = build_request(plan, tensors=trainable_tensors(trainer.workload.model))
    whole = LinearStack.pass_through

    def leaks(self: LinearStack, rows: Tensor, x: Tensor, fn: Any) -> Any:
        return whole(self, rows, x + 1e-7 * x.sum(dim=1, keepdim=True), fn)

    with monkeypatch.context() as leaking:
        leaking.setattr(LinearStack, "pass_through", leaks)
        begun = door.begin(request, rows_fn=program.check_rows)
        assert isinstance(begun, Reply)
        assert begun.refusal == "rows_differ"
        assert door.spent(plan.job).count == 0
    assert not isinstance(door.begin(request, rows_fn=program.check_rows), Reply)
    assert door.spent(plan.job).count == 1
