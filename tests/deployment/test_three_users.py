"""A federation as `install.sh` leaves it: a machine each, each service as its unit's user."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from deployment_run import ALLOWING, HEART, HOSPITALS, confide, free_port, wait_until
from machines import PROGRAM, Machine, wait_for, why_not
from run_unit import read_unit

from confide.storage.files import folder_name

HOME, RECORDS = "/srv/confide/tests", "/srv/records/heart records.csv"
LEAD = f"{HOME}-coordinator"
ROLES = ("trainer", "executor", "supernode")
RUN_S = 600.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Machine]]:
    """A coordinator and three hospitals, installed and started."""
    folder = tmp_path_factory.mktemp("three users")
    federation = {
        "name": "tests",
        "hosts": ["127.0.0.1"],
        "port": free_port(),
        "institutions": list(HOSPITALS),
        "config": list(HEART),
    }
    (folder / "federation.yaml").write_text(yaml.safe_dump(federation))
    confide("provision", str(folder / "federation.yaml"))
    confide("partition", str(folder / "records"), *HEART)
    with ExitStack() as stack:
        found = {
            name: stack.enter_context(Machine(folder / f"machine of {name}"))
            for name in ("coordinator", *HOSPITALS)
        }
        for name, machine in found.items():
            machine.link_program()
            if name == "coordinator":
                install(machine, folder / "kits" / "coordinator")
            else:
                bring(machine, folder / "records" / f"{folder_name(name)}.csv")
                kit = folder / "kits" / "institutions" / folder_name(name)
                fill_in(kit / "client.yaml")
                install(machine, kit)
                for role in ROLES:
                    machine.start(f"confide-tests-{role}.service")
        yield found


def fill_in(path: Path) -> None:
    """Decide what an institution decides."""
    settings = yaml.safe_load(path.read_text())
    # Machines of this test have one loopback: each needs a port of its own
    settings["runtime_port"] = free_port()
    settings["data"] = {"path": RECORDS, "id_column": "id"}
    for override in ALLOWING:
        keys, _, value = override.partition("=")
        *above, last = keys.split(".")
        folder = settings
        for key in above:
            folder = folder.setdefault(key, {})
        folder[last] = yaml.safe_load(value)
    path.write_text(yaml.safe_dump(settings, sort_keys=False))


def bring(machine: Machine, records: Path) -> None:
    machine.run("mkdir", "-p", str(Path(RECORDS).parent))
    machine.path(RECORDS).write_bytes(records.read_bytes())


def install(machine: Machine, kit: Path) -> None:
    done = machine.run("sh", str(kit / "install.sh"), "--yes")
    assert "All of it is done." in done.stdout
    if kit.name != "coordinator":
        machine.run("chown", "confide-trainer", RECORDS)
        machine.run("chmod", "600", RECORDS)


def test_a_federation_of_services_runs_to_its_end(machines: dict[str, Machine]) -> None:
    lead, unit = machines["coordinator"], "confide-tests-coordinator-run.service"
    settings = lead.path(f"{LEAD}/run.conf")
    words = "job=trial server.num_rounds=3 server.min_clients=3 trainer.num_threads=1"
    text = settings.read_text()
    assert text.endswith('privacy.epsilon=3"\n')
    settings.write_text(text[:-2] + f' {words} hydra.run.dir=runs/trial"\n')
    lead.start(unit)
    assert wait_for(lead, unit, timeout_s=RUN_S) == 0, told(machines)
    summary = json.loads(lead.path(f"{LEAD}/runs/trial/summary.json").read_text())
    assert summary["rounds"] == 3, summary
    assert set(summary["clients"]) == set(HOSPITALS)


@pytest.mark.parametrize("name", HOSPITALS)
def test_each_reads_what_is_its_own_alone(machines: dict[str, Machine], name: str) -> None:
    machine, audit = machines[name], f"{HOME}/state/trainer/audit"
    log = machine.run("sh", "-c", f"echo {audit}/audit-*.jsonl").stdout.strip()
    secret = f"{HOME}/state/runtime/secret"
    ledger = f"{HOME}/ledger/everybody.ledger"
    readers = {
        RECORDS: {"trainer"},
        f"{HOME}/trainer.key": {"trainer"},
        ledger: {"trainer"},
        log: {"trainer"},
        f"{HOME}/state/trainer/trainer.log": {"trainer"},
        f"{HOME}/node.key": {"supernode"},
        secret: {"supernode", "executor"},
        f"{HOME}/client.yaml": set(ROLES),
    }
    for path, allowed in readers.items():
        for role in (*ROLES, None):
            user = "nobody" if role is None else f"confide-{role}"
            done = machine.run("sha256sum", path, user=user, check=False)
            assert (done.returncode == 0) == (role in allowed), (path, role, done.stderr)
            assert role in allowed or "Permission denied" in done.stderr


def test_the_doctor_of_an_installed_kit_is_content(machines: dict[str, Machine]) -> None:
    machine = machines["Cleveland"]
    before = machine.run("find", HOME, "-printf", "%p %M %u %g\n").stdout
    done = machine.run(str(PROGRAM), "doctor", HOME, "--json", check=False)
    wrong = [it for it in json.loads(done.stdout)["findings"] if it["status"] == "error"]
    assert wrong == []
    assert machine.run("find", HOME, "-printf", "%p %M %u %g\n").stdout == before


def test_the_page_of_an_institution_is_a_service_of_its_own(machines: dict[str, Machine]) -> None:
    machine, unit = machines["Cleveland"], "confide-tests-dashboard.service"
    address = read_unit(machine.path(f"/etc/systemd/system/{unit}"))["ExecStart"][0].split()[-1]
    machine.start(unit)
    ask = (
        f"import urllib.request as r; print(r.urlopen('http://{address}/metrics').read().decode())"
    )

    def told() -> subprocess.CompletedProcess[str]:
        return machine.run(sys.executable, "-c", ask, check=False)

    wait_until(lambda: told().returncode == 0, timeout_s=200, what="page")
    # The ledger, which of the three users the trainer's alone reads
    spent = re.findall(r"^confide_epsilon_spent\{.*\} (\S+)$", told().stdout, re.MULTILINE)
    assert [float(it) > 0 for it in spent] == [True], told().stdout
    machine.stop(unit)


def test_processes_run_as_the_users_of_their_units(machines: dict[str, Machine]) -> None:
    status = machines["Hungary"].run(
        str(PROGRAM), "client", "status", HOME, "--json", user="confide-trainer"
    )
    running = json.loads(status.stdout)["processes"]
    for role in ROLES:
        owner = machines["Hungary"].run("stat", "-c", "%U", f"/proc/{running[role]}")
        assert owner.stdout.strip() == f"confide-{role}"
    # Of the three the trainer's has no network but its own loopback, which is down
    links = machines["Hungary"].run("cat", f"/proc/{running['trainer']}/net/dev").stdout
    assert [line.split(":")[0].strip() for line in links.splitlines()[2:]] == ["lo"]


def told(machines: dict[str, Machine]) -> str:
    """Return the ends of all logs, for a test that failed."""
    parts = []
    for name, machine in machines.items():
        for unit in machine.services:
            parts.append(f"=== {name} {unit}\n{machine.log(unit).read_text()[-1500:]}")
        found = machine.run("find", "/srv/confide", "-name", "*.log")
        for path in found.stdout.split():
            parts.append(f"=== {name} {path}\n{machine.path(path).read_text()[-1500:]}")
    return "\n".join(parts)
