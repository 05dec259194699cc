"""Measures seconds a round of a small model in a deployment, and what polling costs its SuperLink.

    python benchmarks/deployed_rounds.py              # 3 hospitals, 12 rounds: plain, then secure
    python benchmarks/deployed_rounds.py --nodes 24   # CPU of SuperLink and front: idle and active

Of ``--nodes`` SuperLink, front and SuperNodes are real, each a process. Executors answer with what
they are sent, after as long as they are told to, so that trainers need no memory. Every line ends
with this machine's load, as others may work on it.
"""

import argparse
import os
import re
import statistics
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from deployment import rounds_of, training_of
from deployment_run import ALLOWING, HEART, Deployment
from many_nodes import measure_superlink

ROUNDS = 12
AGGREGATIONS = {"plain": (), "secure": ("aggregation=secure",)}
_PULLS = re.compile(r"pull-messages")


def load() -> str:
    """Return this machine's load over the last minute, for the end of a line."""
    return f"(load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores)"


def measure_rounds(name: str, overrides: tuple[str, ...]) -> None:
    """Run a federation of three hospitals, and print what its rounds took."""
    with Deployment(
        run_overrides=(*HEART, *overrides),
        client_overrides=(*ALLOWING, "data.id_column=id"),
    ) as deployment:
        deployment.start_clients()
        deployment.start_server(f"server.num_rounds={ROUNDS}")
        if deployment.wait_for_server(600):
            print(deployment.logs())
            raise SystemExit("the run failed")
        rounds = sorted(rounds_of(deployment).items())
        training = training_of(deployment)
        warm = [seconds for number, seconds in rounds if number > 1]
        slowest = statistics.median(max(seconds) for seconds in training.values())
        print(
            f"{name}: {statistics.median(warm):.2f} s a round (median of {len(warm)}; from"
            f" {min(warm):.2f} to {max(warm):.2f}; first {rounds[0][1]:.2f}), training"
            f" {slowest:.2f} s, model {deployment.summary()['model_sha256'][:12]} {load()}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, help="SuperNodes of which SuperLink's CPU is measured")
    arguments = parser.parse_args()
    if arguments.nodes:
        measure_superlink(arguments.nodes, load)
    else:
        for name, overrides in AGGREGATIONS.items():
            measure_rounds(name, overrides)


if __name__ == "__main__":
    main()
