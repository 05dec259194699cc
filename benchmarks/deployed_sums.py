"""Measures a deployed federation's seconds a round with masked sums, beside the same without.

    python benchmarks/deployed_sums.py                 # 3 and 4 hospitals, 6 rounds, twice each
    python benchmarks/deployed_sums.py --rounds 12

Kits, coordinator and institutions are processes on this machine, over TLS; the model has some
hundreds of values, so that what is measured is exchanges and not bytes. Plain and masked runs take
turns in one federation. First rounds, in which institutions load records, are left out.
"""

import argparse
import os
import statistics
import sys
from datetime import datetime
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from deployment import rounds_of
from deployment_run import HEART, Deployment

HOSPITALS = ("Cleveland", "Hungary", "VA Long Beach", "Switzerland")
KINDS = ("plain", "secure")


def measure(deployment: Deployment, kind: str, number: int, rounds: int) -> list[float]:
    """Carry out a run; return the seconds of its rounds but the first."""
    deployment.start_server(
        f"aggregation={kind}",
        f"job={kind}-{number}",
        f"server.num_rounds={rounds}",
        "privacy.epsilon=1",
        "--overwrite",
    )
    status = deployment.wait_for_server(120 + 60 * rounds)
    if status:
        print(deployment.logs())
        raise SystemExit(f"the server ended with status {status}")
    return [seconds for number, seconds in sorted(rounds_of(deployment).items()) if number > 1]


def main() -> None:
    """Measure federations of 3 and 4 hospitals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="of each run")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each kind")
    arguments = parser.parse_args()
    print(f"{datetime.now().isoformat(timespec='seconds')}, {os.cpu_count()} cores")
    for count in (3, 4):
        seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        with Deployment(run_overrides=HEART, institutions=HOSPITALS[:count]) as deployment:
            deployment.start_clients()
            for number in range(arguments.repeats):
                for kind in KINDS:
                    seconds[kind] += measure(deployment, kind, number, arguments.rounds)
        plain, secure = (statistics.median(seconds[kind]) for kind in KINDS)
        print(
            f"{count} institutions: {plain:.2f} s a round plain, {secure:.2f} s masked"
            f" ({secure / plain:.2f} times); medians of {len(seconds['plain'])} rounds each,"
            f" load {os.getloadavg()[1]:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
