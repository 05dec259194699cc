"""What each command may load: a library that takes a while is imported where it is needed.

`benchmarks/startup.py` measures what that is worth.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = [
    "PIL",
    "aiohttp",
    "cryptography",
    "datasets",
    "dp_accounting",
    "fastapi",
    "flwr",
    "flwr_datasets",
    "grpc",
    "hydra",
    "matplotlib",
    "mlflow",
    "numpy",
    "onnx",
    "onnxruntime",
    "opacus",
    "pandas",
    "peft",
    "pyarrow",
    "ray",
    "scipy",
    "seaborn",
    "sklearn",
    "sqlalchemy",
    "starlette",
    "sympy",
    "tensorboard",
    "tokenizers",
    "torch",
    "torch._dynamo",
    "torch.distributed.tensor",
    "transformers",
    "typer",
    "uvicorn",
    "wandb",
]
CONFIG = {"hydra"}
RECORDS = CONFIG | {"aiohttp", "datasets", "numpy", "pandas", "pyarrow"}
TRAINING = RECORDS | {"cryptography", "flwr", "grpc", "torch", "typer"}
PRIVATE = {"dp_accounting", "opacus", "scipy", "sympy", "torch.distributed.tensor"}
PROCESSES = CONFIG | {"cryptography", "fastapi", "flwr", "grpc", "numpy", "starlette", "typer"}

HEART = "simulate experiment=heart_disease server.num_rounds=1 simulation.baselines=[]"
ALLOWED: dict[str, set[str]] = {
    "--help": set(),
    "--version": set(),
    "audit --help": CONFIG,
    "client --help": PROCESSES,
    "data --help": CONFIG,
    "data check experiment=heart_disease": RECORDS,
    "doctor --help": CONFIG,
    "export --help": set(),
    "init --help": CONFIG,
    "ledger --help": set(),
    "partition --help": CONFIG,
    "policy --help": set(),
    "predict --help": set(),
    "provision --help": set(),
    "report --help": CONFIG,
    "server --help": PROCESSES,
    "simulate --help": CONFIG,
    "statistics --help": PROCESSES,
    "simulate --cfg job": CONFIG,
    # The table ends before the report is written, which draws
    HEART: TRAINING | {"tensorboard"},
    f"{HEART} privacy=record": TRAINING | PRIVATE | {"tensorboard"},
    f"{HEART} client.optimizer.kind=adam strategy=fedadam": TRAINING | {"tensorboard"},
}
# A report is written once a run is over, and may load what draws it: here it ends the process.
_PROBE = """
import atexit, os, sys
from confide.cli import main

_, found, *words = sys.argv  # a command may change them

def tell():
    loaded = [name for name in %r if sys.modules.get(name) is not None]
    with open(found, "w") as file:
        file.write(" ".join(loaded))

class AtTheReport:
    def find_spec(self, name, path=None, target=None):
        if name in ("confide.pages.figures", "confide.server.report.card"):
            tell()
            os._exit(0)

if words[0] == "simulate":
    sys.meta_path.insert(0, AtTheReport())
atexit.register(tell)
sys.exit(main(words))
"""


def loaded_by(words: list[str], folder: Path, *, probe: str = _PROBE) -> set[str]:
    """Return the heavy modules that a process has loaded at its end, or before its report."""
    found = folder / "loaded"
    done = subprocess.run(
        [sys.executable, "-c", probe % (HEAVY,), str(found), *words],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return set(found.read_text().split())


@pytest.mark.parametrize("command", ALLOWED)
def test_command_loads_no_more_than_it_needs(command: str, tmp_path: Path) -> None:
    assert loaded_by(command.split(), tmp_path) <= ALLOWED[command]


def test_heavy_import_in_a_command_is_noticed(tmp_path: Path) -> None:
    planted = tmp_path / "confide_planted.py"
    planted.write_text("import numpy\nfrom confide.cli import main\n")
    probe = _PROBE.replace(
        "from confide.cli", f"sys.path.insert(0, {str(tmp_path)!r})\nfrom confide_planted"
    )
    assert loaded_by(["--help"], tmp_path) == set()
    assert loaded_by(["--help"], tmp_path, probe=probe) == {"numpy"}
