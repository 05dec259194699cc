"""The benchmark of a GPU runs without one, as far as its own code goes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=280
    )


def test_what_no_time_is_left_for_is_said_in_the_table(tmp_path: Path) -> None:
    done = run("--device=cpu", "--small", "--minutes=0", f"--out={tmp_path / 'new' / 'gpu.md'}")
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "new" / "gpu.md").read_text()
    assert table == done.stdout
    assert table.startswith("# A trial without a GPU")
    assert table.count("not begun: --minutes were over") == 7


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = run(f"--out={tmp_path / 'gpu.md'}")
    assert done.returncode == 1
    assert "--device=cuda" in done.stderr
    assert "--device cpu --small" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_every_line_of_the_table_is_measured(tmp_path: Path) -> None:
    done = run("--device=cpu", "--small", f"--out={tmp_path / 'gpu.md'}")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "gpu.md").read_text().splitlines()
    measured = [line for line in lines if line.startswith(("| MiniLM", "| mlp"))]
    assert len(measured) == 7
    assert not any("not begun" in line for line in measured)
