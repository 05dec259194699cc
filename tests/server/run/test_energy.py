"""Energy is seconds times watts times overhead, and says what it leaves out."""

import pytest

from confide.config.report import EnergyConfig
from confide.server.run.energy import energy_statement
from confide.server.run.outputs import CpuClock


def test_kilowatt_hours_follow_from_seconds() -> None:
    told = energy_statement(
        {"this process": 1800.0, "its workers": 1800.0},
        EnergyConfig(watts_per_core=10.0, pue=1.5),
        engine={"name": "process", "device": "cpu"},
        is_deployed=False,
    )
    assert told["kwh"] == pytest.approx(0.015)  # 10 W for an hour, and half as much again
    assert told["not_counted"] == ["memory, disks and networks, and processors while they wait"]


def test_what_is_left_out_is_named() -> None:
    told = energy_statement(
        {"this process": 1.0},
        EnergyConfig(),
        engine={"name": "ray", "device": "cuda"},
        is_deployed=True,
    )
    said = " ".join(told["not_counted"])
    assert all(word in said for word in ("cuda", "cluster", "institutions computed"))
    assert energy_statement({}, EnergyConfig(), engine={}, is_deployed=False) == {}


def test_seconds_of_earlier_processes_are_added() -> None:
    clock = CpuClock({"this process": 100.0})
    sum(i * i for i in range(200_000))
    used = clock.seconds()
    assert 100.0 < used["this process"] < 200.0
    assert used["its workers"] >= 0
