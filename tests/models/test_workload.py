"""Where to compute: which device, which of several, and what is not there."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from confide.config.client import TrainerConfig
from confide.errors import ConfigError
from confide.models.compute import (
    SMALL_MODEL,
    Compute,
    make_compute,
    pinned,
    threads,
    threads_of,
)


def test_several_gpus_are_given_out_in_turn() -> None:
    devices = [pinned("cuda", worker, 3) for worker in range(7)]
    assert devices == [torch.device("cuda", number) for number in (0, 1, 2, 0, 1, 2, 0)]


@pytest.mark.parametrize("name", ["cpu", "mps"])
@pytest.mark.parametrize("gpus", [0, 3])
def test_other_devices_have_no_number(name: str, gpus: int) -> None:
    assert {pinned(name, worker, gpus) for worker in range(4)} == {torch.device(name)}


def test_compute_is_what_was_wished_for(tmp_path: Path) -> None:
    config = TrainerConfig(
        device="cpu", precision="bf16", physical_batch_size=7, feature_cache=str(tmp_path)
    )
    expected = Compute(
        device=torch.device("cpu"),
        autocast=torch.bfloat16,
        physical_batch_size=7,
        feature_cache=tmp_path,
    )
    assert make_compute(config, worker=5) == expected


def test_threads_of_this_process_are_set() -> None:
    before = torch.get_num_threads()
    make_compute(TrainerConfig(device="cpu", num_threads=before + 1))
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == before + 1


def of_size(parameters: int) -> nn.Module:
    model = nn.Linear(parameters, 1, bias=False)
    model.requires_grad_(False)  # a pass runs through what is frozen too
    return model


@pytest.mark.parametrize(
    ("parameters", "asked", "expected"),
    [
        (1, None, 1),
        (SMALL_MODEL - 1, None, 1),
        (SMALL_MODEL, None, None),
        (1, 3, 3),
        (SMALL_MODEL, 3, 3),
    ],
)
def test_threads_follow_from_config_and_size_alone(
    parameters: int, asked: int | None, expected: int | None
) -> None:
    model = of_size(parameters)
    compute = make_compute(TrainerConfig(device="cpu"))
    for number in (1, 2, 5):
        with threads(number):
            assert threads_of(model, replace(compute, num_threads=asked)) == expected


@pytest.mark.parametrize("number", [None, 1, 2, 3])
def test_threads_are_put_back_also_after_an_error(number: int | None) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    def fail() -> None:
        with threads(number):
            seen.append(torch.get_num_threads())
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert seen == [number or before]
    assert torch.get_num_threads() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"trainer\.device=cuda: torch .* sees no such device; set trainer\.device=auto",
    ):
        make_compute(TrainerConfig(device="cuda"))
