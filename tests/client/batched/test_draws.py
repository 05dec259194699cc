"""Each institution draws in company what it draws alone."""

from dataclasses import replace

import pytest
import torch

from confide.client.batched import draws
from confide.client.batched.draws import batches, samples
from confide.client.schedule import LocalSchedule
from confide.client.training.plain_steps import plain_batches
from confide.privacy.randomness import KeyedGenerator, KeyedGenerators, derive_key

ONE = LocalSchedule(
    num_examples=1,
    batch_size=8,
    steps=1,
    sampling_rate=0.3,
    max_rounds=1,
    noise_multiplier=1.0,
)


def secret(number: int) -> bytes:
    return derive_key(bytes(32), number)


@pytest.mark.parametrize(
    "figures",
    [
        [(32, 8, 4)] * 3,
        [(5, 8, 3), (32, 8, 4), (33, 8, 5), (20, 8, 9)],
        [(1, 8, 2), (3, 2, 4), (9, 4, 1)],
    ],
    ids=["equal", "unequal", "small"],
)
def test_batches_are_ones_own(figures: list[tuple[int, int, int]]) -> None:
    counts = [count for count, _, _ in figures]
    schedules = [replace(ONE, batch_size=size, steps=steps) for _, size, steps in figures]
    secrets = [secret(number) for number in range(len(figures))]
    found = list(batches(schedules, counts, secrets))
    assert len(found) == max(steps for _, _, steps in figures)
    start = 0
    for row, (schedule, count) in enumerate(zip(schedules, counts, strict=True)):
        own = list(plain_batches(schedule, count, secrets[row]))
        for step, drawn in enumerate(found):
            taken = drawn.places[row][drawn.is_record[row]]
            expected = own[step] + start if step < len(own) else torch.empty(0, dtype=torch.int64)
            assert taken.equal(expected)
        start += count


def alone(number: int, schedule: LocalSchedule, count: int) -> list[torch.Tensor]:
    generator = KeyedGenerator(secret(number))
    return [generator.poisson_sample(count, schedule.sampling_rate) for _ in range(schedule.steps)]


@pytest.mark.parametrize("at_once", [1, 70, 2**22])
@pytest.mark.parametrize(
    "figures",
    [
        [(32, 0.25, 4)] * 3,
        [(5, 0.9, 3), (64, 0.1, 7), (33, 1.0, 5), (20, 0.01, 9)],
        [(1, 0.001, 3)],
    ],
    ids=["equal", "unequal", "empty"],
)
def test_samples_are_ones_own_and_whole(
    figures: list[tuple[int, float, int]], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draws, "_AT_ONCE", at_once)
    counts = [count for count, _, _ in figures]
    schedules = [replace(ONE, sampling_rate=rate, steps=steps) for _, rate, steps in figures]
    masks = KeyedGenerators([secret(number) for number in range(len(figures))])
    found = list(samples(schedules, counts, masks, rows=16))
    assert len(found) == max(steps for _, _, steps in figures)
    assert all(drawn.places.shape[1] % 16 == 0 for drawn in found)
    start = 0
    for row, (schedule, count) in enumerate(zip(schedules, counts, strict=True)):
        own = alone(row, schedule, count)
        for step, drawn in enumerate(found):
            taken = drawn.places[row][drawn.is_record[row]]
            expected = own[step] + start if step < len(own) else torch.empty(0, dtype=torch.int64)
            assert taken.equal(expected)
            assert bool((drawn.places[row][~drawn.is_record[row]] == sum(counts)).all())
        start += count
