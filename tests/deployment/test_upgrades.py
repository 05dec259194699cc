"""An upgrade between runs, and the way back: ledgers open, or the reason and the fix are said."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from builders import build_plan
from deployment_run import HEART, HOSPITALS, Deployment, confide, hospitals_alone, wait_until

from confide.client.ledger.file import LedgerFile
from confide.models.start import parent_of

ROOT = Path(__file__).parents[2]
OLDER_LEDGERS = "b33011d"
"""The last commit whose ledgers have format 2."""
SAME_LEDGERS = "c772c64"
"""A commit whose ledgers have today's format."""
REFUSAL = "It has format 3, this release reads up to 2; use a newer confide."
RUN = ("server.num_rounds=3", "server.enrol_timeout_s=200", "--overwrite")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def installed(commit: str, folder: Path) -> dict[str, str]:
    """Install an earlier release from a wheel; return the variables by which Python finds it."""
    source, target = folder / "source", folder / "installed"
    source.mkdir()
    packed = folder / "source.tar"
    made = subprocess.run(
        ["git", "archive", "-o", str(packed), commit], cwd=ROOT, capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"commit {commit} is not in this clone; `git fetch --unshallow` brings it")
    subprocess.run(["tar", "-xf", str(packed), "-C", str(source)], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    words = ["--no-build-isolation", "--target", str(target), str(source)]
    subprocess.run([*pip, *words], check=True, timeout=300)
    # Neither the current folder nor a checkout that is installed comes before it
    return {"PYTHONPATH": str(target), "PYTHONSAFEPATH": "1"}


def train(deployment: Deployment, job: str) -> None:
    """Carry out a run with the release that the deployment has now, as its simulation."""
    deployment.job = job
    deployment.start_clients()
    deployment.start_server(*RUN)
    assert deployment.wait_for_server(400) == 0, deployment.logs()
    deployment.stop_all()
    deployment.started.clear()
    words = [word for word in RUN if word != "--overwrite"]
    assert deployment.summary()["model_sha256"] == deployment.simulate(*words)["model_sha256"]


def ledger(deployment: Deployment, name: str) -> Path:
    return deployment.kit(name) / "ledger" / "everybody.ledger"


def check_jobs(deployment: Deployment, jobs: Sequence[str]) -> None:
    """Each ledger is sound for today's release, and holds these runs."""
    for name in HOSPITALS:
        path = ledger(deployment, name)
        confide("ledger", "verify", str(path))
        runs = LedgerFile(path).state.populations["everybody"].runs.values()
        assert [run.terms.job for run in runs] == list(jobs)


def upgraded(earlier: dict[str, str], path: Path) -> Deployment:
    """Return a federation that was provisioned by an earlier release."""
    return Deployment(run_overrides=(*HEART, *hospitals_alone(path)), environment=dict(earlier))


def test_an_upgrade_and_the_way_back_where_ledgers_are_alike(tmp_path: Path) -> None:
    earlier = installed(SAME_LEDGERS, tmp_path)
    with upgraded(earlier, tmp_path / "heart.csv") as deployment:
        train(deployment, "before")
        deployment.environment = {}
        train(deployment, "upgraded")
        deployment.environment = dict(earlier)
        train(deployment, "back")
        check_jobs(deployment, ["before", "upgraded", "back"])


def test_the_way_back_is_refused_where_a_newer_release_wrote_the_ledger(tmp_path: Path) -> None:
    earlier = installed(OLDER_LEDGERS, tmp_path)
    with upgraded(earlier, tmp_path / "heart.csv") as deployment:
        train(deployment, "before")
        deployment.environment = {}
        train(deployment, "upgraded")
        check_jobs(deployment, ["before", "upgraded"])
        kept = {name: ledger(deployment, name).read_bytes() for name in HOSPITALS}
        deployment.environment = dict(earlier)
        one = HOSPITALS[0]
        deployment.start_client(one)
        log = deployment.kit(one) / "state" / "logs" / "trainer.log"
        wait_until(lambda: REFUSAL in log.read_text(), timeout_s=300, what="the refusal")
        deployment.stop_all()
        deployment.started.clear()
        assert kept == {name: ledger(deployment, name).read_bytes() for name in HOSPITALS}
        deployment.environment = {}
        train(deployment, "forward")
        check_jobs(deployment, ["before", "upgraded", "forward"])


def test_an_earlier_release_declines_a_lineage_by_name(tmp_path: Path) -> None:
    """It understands plans that go on from no model, and names what it does not know of others."""
    earlier = installed(SAME_LEDGERS, tmp_path)
    parent = parent_of(build_plan(), "a" * 64)
    program = (
        "import sys\n"
        "from confide.protocol.plan import TrainingPlan\n"
        "print(TrainingPlan.from_json(sys.stdin.read()).job)\n"
    )
    for parents, status, told in (((), 0, build_plan().job), ((parent,), 1, "parents: Unexpected")):
        text = replace(build_plan(), parents=parents).to_json()
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=text,
            env={**os.environ, **earlier},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status
        assert told in done.stdout + done.stderr
