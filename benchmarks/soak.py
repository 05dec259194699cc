"""Kills a process of a federation a minute while it trains, and says what was lost, and what grows.

    python benchmarks/soak.py                            # 200 rounds, a kill a minute
    python benchmarks/soak.py --rounds 3 --every 10      # a try

Three hospitals and their coordinator are processes on this machine, over TLS. Who is killed follows
from the seed: of each kind one, in an order by chance, then again; after each kill a round has to
end before the next. A process that a supervisor keeps is left to it; after ``confide server``
itself was killed the run is resumed. Printed are each kill, what was lost (the script ends with
status 1 if anything was), how much open files and memory of each kind of process grow, and what is
on the disks.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from deployment import rounds_of
from deployment_run import HEART, Deployment, confide, hospitals_alone, wait_until
from gauges import Gauges, slope
from kept_ledgers import check_ledger, kit_of

SERVER = "confide server"
KINDS = ("trainer", "executor", "supernode", "front", "superlink", "rounds", SERVER)
AT_AN_INSTITUTION = KINDS[:3]
SMALL = ("client.local_steps=20", "privacy.metrics_every=0")
START_S, END_S = 300.0, 900.0


class Killer:
    """Kills processes of a deployment.

    Args:
        deployment: whose processes are killed.
        seed: of the choice.

    Attributes:
        killed: what was killed, in order.
    """

    def __init__(self, deployment: Deployment, *, seed: int) -> None:
        self._deployment, self._chance = deployment, random.Random(seed)
        self._began, self._choice = time.monotonic(), self._choices()
        self.killed: list[str] = []

    def _choices(self) -> Iterator[str]:
        while True:
            yield from self._chance.sample(KINDS, len(KINDS))

    def kill_one(self) -> None:
        """Kill the next one."""
        kind = next(self._choice)
        if kind == SERVER:
            self._kill_server()
            return
        place = "server"
        if kind in AT_AN_INSTITUTION:
            place = self._chance.choice(sorted(self._deployment.institutions))
        process = f"{place}/{kind}"
        wait_until(
            lambda: process in self._deployment.process_ids(),
            timeout_s=START_S,
            what=f"{process} runs",
        )
        pid = self._deployment.process_ids()[process]
        os.kill(pid, signal.SIGKILL)
        self._note(process, pid)

    def _kill_server(self) -> None:
        """Kill the command, whose processes end by themselves, and resume the run."""
        server = self._deployment.started["server"]
        told = self._deployment.process_ids()
        below = [pid for process, pid in told.items() if process.startswith("server/")]
        server.kill()
        if server.wait() == 0:
            return  # it had just come to its end
        self._note(SERVER, server.pid)
        wait_until(
            lambda: not any(Path(f"/proc/{pid}").exists() for pid in below),
            timeout_s=START_S,
            what="the processes of confide server end",
        )
        self._deployment.resume_server()

    def _note(self, what: str, pid: int) -> None:
        self.killed.append(what)
        seconds, rounds = time.monotonic() - self._began, self._deployment.rounds_done()
        print(f"{seconds:6.0f} s, {rounds} rounds: SIGKILL of {what}, process {pid}", flush=True)


def carry_out(
    deployment: Deployment, *words: str, rounds: int, every_s: float, seed: int
) -> tuple[Gauges, Killer]:
    """Run a federation to its end while its processes are killed."""
    gauges = Gauges(deployment, every_s=min(5.0, every_s / 2))
    deployment.start_clients()
    deployment.start_server(*words)
    wait_until(lambda: deployment.rounds_done() >= 1, timeout_s=START_S, what="the first round")
    killer = Killer(deployment, seed=seed)
    gauges.start()
    # The last round is left alone: a process that was killed after it would be missed by nobody
    killed_after = 0
    while (done := deployment.rounds_done()) < rounds - 1:
        if done > killed_after:
            killer.kill_one()
            killed_after = done
        with contextlib.suppress(subprocess.TimeoutExpired):
            deployment.wait_for_server(every_s)
            break
    deployment.wait_for_server(END_S)
    gauges.stop()
    return gauges, killer


def losses(deployment: Deployment, rounds: int, model_sha256: str) -> Iterator[str]:
    """Say what was lost, and print what was not."""
    status = deployment.started["server"].returncode
    if status:
        yield f"the run ended with status {status}"
        return
    summary = deployment.summary()
    if summary["rounds"] != rounds or sorted(rounds_of(deployment)) != [*range(1, rounds + 1)]:
        yield f"of {rounds} rounds {summary['rounds']} are in the summary"
    if summary["failures"]:
        yield f"failures: {summary['failures']}"
    taken = {name: client["rounds"] for name, client in summary["clients"].items()}
    if set(taken.values()) != {rounds}:
        yield f"rounds that institutions took part in: {taken}"
    elif summary["model_sha256"] != model_sha256:
        yield f"model {summary['model_sha256'][:12]}, the simulation's is {model_sha256[:12]}"
    else:
        print(f"nobody missed a deadline; model {model_sha256[:12]}, as the simulation's")
    deployment.stop_all()
    for name in deployment.institutions:
        spent, drawn = check_ledger(deployment, name, rounds=rounds)
        told = summary["clients"][name]["epsilon"]
        print(f"{name}: ledger whole, epsilon {spent:.4f} spent, the plan's {drawn:.4f}")
        if not abs(spent - drawn) < 0.01 * drawn or not abs(told - drawn) < 0.01 * drawn:
            yield f"{name}: epsilon {spent} in its ledger, {told} in the summary, {drawn} planned"
    yield from audit_problems(deployment)


def audit_problems(deployment: Deployment) -> Iterator[str]:
    """Say what audit logs, ledgers and the other side do not agree on."""
    coordinators = deployment.coordinator_kit / "state" / "audit"
    for name in deployment.institutions:
        kit = kit_of(deployment, name)
        words = ["--key", str(kit.folder / "trainer.crt"), "--ledger", str(kit.ledger)]
        words += ["--against", str(coordinators)]
        done = confide("audit-log", "verify", str(kit.audit_log), *words, check=False)
        print(done.stdout.strip())
        if done.returncode:
            yield done.stderr.strip()
    done = confide("audit-log", "verify", str(coordinators), check=False)
    print(done.stdout.strip())
    if done.returncode:
        yield done.stderr.strip()


def show(gauges: Gauges, deployment: Deployment, rounds: int) -> None:
    """Print how much processes grew, and disks."""
    print("process: lives, hours seen; open files; MiB of memory (growth with its 95 % interval)")
    for role, lives in gauges.roles():
        last = max(lives, key=len)[-1]
        files, memory = slope(lives, "files"), slope(lives, "memory_mib")
        print(
            f"{role}: {len(lives)}, {files.hours:.2f} h; {last.files}, {files};"
            f" {last.memory_mib:.0f}, {memory}"
        )
    print("disk, MiB: after a tenth of the rounds, at the end; greatest")
    for kind, sizes in gauges.disk.items():
        early = next((size for done, size in sizes if done >= rounds / 10), sizes[-1][1])
        most = max(size for _, size in sizes)
        print(f"{kind}: {early:.2f}, {sizes[-1][1]:.2f}; {most:.2f}")


def main() -> int:
    """Kill for so many rounds.

    Returns:
        1 if anything was lost.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=0, help="of who is killed")
    parser.add_argument("--aggregation", default="plain", choices=["plain", "secure"])
    arguments = parser.parse_args()
    print(f"{datetime.now().isoformat(timespec='seconds')}, {os.cpu_count()} cores")
    words = (f"server.num_rounds={arguments.rounds}", "server.enrol_timeout_s=300")
    with tempfile.TemporaryDirectory() as folder:
        hospitals = hospitals_alone(Path(folder) / "heart.csv")
        overrides = (*HEART, *SMALL, *hospitals)
        with Deployment(run_overrides=overrides) as deployment:
            most_s = START_S + 10 * arguments.rounds
            model = deployment.simulate(*words, timeout_s=most_s)["model_sha256"]
            began = time.monotonic()
            gauges, killer = carry_out(
                deployment,
                *words,
                f"aggregation={arguments.aggregation}",
                rounds=arguments.rounds,
                every_s=arguments.every,
                seed=arguments.seed,
            )
            seconds = time.monotonic() - began
            print(
                f"{arguments.rounds} rounds, {len(killer.killed)} kills in {seconds:.0f} s; load"
                f" {os.getloadavg()[2]:.1f}"
            )
            lost = list(losses(deployment, arguments.rounds, model))
            show(gauges, deployment, arguments.rounds)
            if lost:
                print(deployment.logs())
            print("\n".join(f"LOST: {one}" for one in lost) or "nothing was lost", flush=True)
            return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main())
