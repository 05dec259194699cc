"""What a soak measures, and a short one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from gauges import BLOCK_S, WARM_S, Sample, slope  # noqa: E402

HOUR = 3600.0


def life(*, begins: float, hours: float, mib: float, per_hour: float) -> list[Sample]:
    """Return looks, 5 s apart, at a process that grows evenly once it is warm."""
    looks = [5.0 * number for number in range(int(hours * HOUR / 5))]
    return [
        Sample(begins + age, 20, mib + per_hour * age / HOUR - (500 if age < WARM_S else 0))
        for age in looks
    ]


def test_growth_is_that_of_all_lives_whatever_each_began_with() -> None:
    lives = [
        life(begins=0, hours=0.3, mib=200, per_hour=12),
        life(begins=2 * HOUR, hours=0.5, mib=320, per_hour=12),
    ]
    found = slope(lives, "memory_mib")
    assert found.per_hour == pytest.approx(12, abs=0.01)
    assert str(found) == "+12.0 ± 0.0 an hour"
    assert found.lives == 2
    assert found.hours == pytest.approx(0.8 - 2 * (WARM_S + BLOCK_S) / HOUR, abs=0.01)
    assert slope(lives, "files").per_hour == pytest.approx(0, abs=1e-9)


def test_the_interval_is_as_wide_as_what_does_not_fit_a_line() -> None:
    steady = life(begins=0, hours=1, mib=200, per_hour=0)
    looks = [
        Sample(it.seconds, it.files, it.memory_mib + 10 * (it.seconds // BLOCK_S % 2))
        for it in steady
    ]
    found = slope([looks], "memory_mib")
    assert abs(found.per_hour) < found.half_width < 20


def test_a_life_that_was_too_short_says_nothing() -> None:
    found = slope([life(begins=0, hours=0.05, mib=200, per_hour=12)], "memory_mib")
    assert str(found) == "too little seen"
    assert found.lives == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("aggregation", ["plain", "secure"])
def test_nothing_is_lost_while_processes_are_killed(aggregation: str) -> None:
    words = ["--rounds", "10", "--every", "3", "--aggregation", aggregation]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "soak.py"), *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(BENCHMARKS), str(BENCHMARKS.parent)])},
        capture_output=True,
        text=True,
        timeout=1150,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing was lost" in done.stdout
    assert done.stdout.count("SIGKILL of") >= 3
