"""Measures what commands cost before they do anything: CPU seconds, and what they load.

    python benchmarks/startup.py

Each command runs in a process and a folder of its own; the lowest of three counts, user and system
time together, since a machine that is busy with other things changes seconds on the clock more. The
import of torch alone stands beside them: machines differ, ratios less. A row names the heavy
libraries that are loaded at the end of the command.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

_HEART = ("simulate", "experiment=heart_disease", "simulation.baselines=[]")
_COMMANDS = (
    ("--help",),
    ("simulate", "--help"),
    ("simulate", "--cfg", "job"),
    ("data", "check", "experiment=heart_disease"),
    (*_HEART, "server.num_rounds=1", "server.progress=quiet"),
    (*_HEART, "server.progress=quiet"),
    (*_HEART, "server.progress=quiet", "privacy=record", "privacy.epsilon=3"),
)
_HEAVY = ("torch", "opacus", "scipy", "matplotlib", "pandas", "datasets", "flwr", "transformers")
_TELL = """
import atexit, sys
from confide.cli import main

_, told, *words = sys.argv  # a command may change them

def tell():
    loaded = [name for name in %r if name in sys.modules]
    open(told, "w").write(" ".join(loaded))

atexit.register(tell)
sys.exit(main(words))
"""
_IMPORTS = "import confide.simulations.run, confide.server.progress.make"


def cpu_seconds(arguments: list[str], *, times: int) -> float:
    """Return the lowest number of CPU seconds of a Python process, over some runs."""
    found = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                [sys.executable, *arguments],
                cwd=folder,
                env={"OMP_NUM_THREADS": "1", **os.environ},
                check=True,
                capture_output=True,
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=3)
    times = parser.parse_args().times
    torch = cpu_seconds(["-c", "import torch"], times=times)
    imports = cpu_seconds(["-c", _IMPORTS], times=times)
    print("| command | CPU seconds | over `import torch` | loads |\n|---|---|---|---|")
    print(f"| `import torch` | {torch:.2f} | 1 | torch |")
    print(f"| imports of a simulation | {imports:.2f} | {imports / torch:.1f} | |")
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "loaded"
        for words in _COMMANDS:
            seconds = cpu_seconds(["-c", _TELL % (_HEAVY,), str(told), *words], times=times)
            row = (f"`confide {' '.join(words)}`", f"{seconds:.2f}", f"{seconds / torch:.1f}")
            print("|", " | ".join((*row, told.read_text().replace(" ", ", "))), "|", flush=True)


if __name__ == "__main__":
    main()
