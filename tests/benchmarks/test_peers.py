"""What measures frameworks beside each other runs, and measures what was started too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

BURNS = """
import time
while time.process_time() < 0.5:
    pass
print(flush=True)
input()
"""


@pytest.fixture(scope="module")
def peer_tables() -> str:
    """What is printed of two rounds of an engine and the loop, and of somebody who is absent."""
    names = ["loop", "confide vectorised", "FedLab"]
    command = ["-m", "frameworks", "--rounds", "2", "--shapes", "mlp", "--names", *names]
    paths = os.pathsep.join([str(BENCHMARKS), str(BENCHMARKS.parent)])
    done = subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    return done.stdout


def row(tables: str, name: str) -> list[str]:
    found = next(line for line in tables.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in found.strip("|").split("|")]


@pytest.mark.parametrize("name", ["loop", "confide vectorised"])
def test_an_engine_and_the_loop_are_measured_at_the_same_work(peer_tables: str, name: str) -> None:
    _, _, cpu, _, _, wall, gap = row(peer_tables, name)

    assert float(cpu) > 0
    assert float(wall) > 0
    assert float(gap) < 1e-6


def test_vectorised_is_told_as_a_multiple_of_the_loop_with_its_interval(peer_tables: str) -> None:
    over_loop = row(peer_tables, "confide vectorised")[3]
    ratio, low, high = (float(it) for it in over_loop.strip(")").replace("(", "to ").split(" to "))

    assert low <= ratio <= high < 1


def test_who_is_not_installed_has_a_row_that_says_so(peer_tables: str) -> None:
    assert row(peer_tables, "FedLab")[2].startswith(
        "not measured: ModuleNotFoundError: No module named"
    )


def test_processor_time_of_what_was_started_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from frameworks.turns import children_cpu

    before = children_cpu()
    with subprocess.Popen(
        [sys.executable, "-c", BURNS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        spent = children_cpu() - before
        child.communicate("\n")

    assert 0.5 <= spent < 5
