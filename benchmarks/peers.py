"""Compares a round of confide's engines with one of other frameworks and of a bare loop.

    python benchmarks/peers.py [--venv FOLDER] [--rounds 12] [--shapes SHAPE ...] [--names NAME ...]

The first run makes a virtual environment of its own from `requirements/peers.txt`, with the torch
that confide is tested with; nothing of it is installed anywhere else. Each framework runs in a
process of its own, the way its documentation shows, on the same model, records, batches and steps;
one round of each is run in turn, in an order drawn anew, so that whatever else the machine does
meets all. What is measured is wall time, and the processor time of the process and of all that it
started. Before that each must reach the bare loop's weights in a round of full batches: the work
is the same. Printed is a table for each shape, with medians a client-round, and ratios with the
interval that the bootstrap over rounds gives (95 %).

Who cannot be installed or run here has a row that says why.
"""

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_REQUIREMENTS = _ROOT / "requirements"
_READY = ".ready"


def make_environment(folder: Path) -> None:
    """Install this project and the frameworks, unless that was done for the same requirements."""
    wanted = (_REQUIREMENTS / "peers.txt").read_text()
    ready = folder / _READY
    if ready.exists() and ready.read_text() == wanted:
        return
    print(f"Installing into {folder}, once.", file=sys.stderr)
    venv.create(folder, with_pip=True)
    install = [str(folder / "bin/python"), "-m", "pip", "install", "-q"]
    install += ["--disable-pip-version-check"]
    constraints = ["-c", str(_REQUIREMENTS / "constraints.txt")]
    subprocess.run([*install, *constraints, "-e", str(_ROOT)], check=True)
    # Without what they depend on, which the file lists: their own bounds exclude each other
    alone = [*install, "--no-deps"]
    if subprocess.run([*alone, "-r", str(_REQUIREMENTS / "peers.txt")]).returncode:
        for line in wanted.splitlines():
            if package := line.partition("#")[0].strip():
                subprocess.run([*alone, package])
    ready.write_text(wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    parser.add_argument("--venv", type=Path, default=cache / "confide" / "peers")
    arguments, others = parser.parse_known_args()
    make_environment(arguments.venv)
    paths = [str(_ROOT / "benchmarks"), str(_ROOT)]
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    quiet |= {"RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1"}
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment = os.environ | quiet | one_thread | {"PYTHONPATH": os.pathsep.join(paths)}
    python = str(arguments.venv / "bin/python")
    sys.exit(subprocess.run([python, "-m", "frameworks", *others], env=environment).returncode)


if __name__ == "__main__":
    main()
