"""The images, run as the compose files say, in namespaces instead of by an engine.

Coordinator and institution each have a network of their own, with a cable between them.
"""

import functools
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from composed import Container, services
from deployment_run import HEART, confide, wait_until

from confide.storage.files import folder_name
from confide.version import __version__

ROOT = Path(__file__).parent.parent.parent
IMAGES = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "confide/images/layers"
NAME = "Cleveland"
COORDINATOR, INSTITUTION = "198.51.100.1", "198.51.100.2"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts and namespaces need root"),
    pytest.mark.skipif(
        not (IMAGES / "institution.json").exists(), reason="`make image` builds them first"
    ),
]


def sh(script: str) -> str:
    done = subprocess.run(
        ["bash", "-ec", script], check=True, capture_output=True, text=True, timeout=120
    )
    return done.stdout


def folders(side: str, **variables: Path) -> None:
    """Make the folders as the documentation says."""
    page = (ROOT / "docs" / "operations.md").read_text()
    block = re.search(rf"```sh\n# folders of {side}\n(.*?)```", page, re.DOTALL)
    assert block is not None, side
    exported = "".join(f"export {name}={path}\n" for name, path in variables.items())
    sh(exported + block[1])


@pytest.fixture
def networks() -> Iterator[tuple[str, str]]:
    """Make two hosts of the network that know each other."""
    one, other = (f"confide-{os.getpid()}-{side}" for side in "ci")
    try:
        sh(f"""
            ip netns add {one}; ip netns add {other}
            ip -n {one} link add eth0 type veth peer name eth0 netns {other}
            ip -n {one} addr add {COORDINATOR}/30 dev eth0
            ip -n {other} addr add {INSTITUTION}/30 dev eth0
            for it in {one} {other}; do ip -n $it link set lo up; ip -n $it link set eth0 up; done
        """)
        yield one, other
    finally:
        subprocess.run(["ip", "netns", "del", one], check=False)
        subprocess.run(["ip", "netns", "del", other], check=False)


@pytest.fixture
def kits(tmp_path: Path) -> Path:
    """Provision a federation of one institution; return the folder with everything."""
    tmp_path.chmod(0o755)  # containers' users pass through it
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    federation = {
        "name": "heart",
        "hosts": [COORDINATOR],
        "institutions": [NAME],
        "config": list(HEART),
    }
    (tmp_path / "federation.yaml").write_text(yaml.safe_dump(federation))
    confide("provision", str(tmp_path / "federation.yaml"))
    confide("partition", str(tmp_path / "records"), *HEART)
    return tmp_path


@pytest.fixture
def containers(
    kits: Path, networks: tuple[str, str], tmp_path: Path
) -> Iterator[dict[str, Container]]:
    """Make the containers of both sides, none of them started."""
    kit = kits / "kits" / "institutions" / folder_name(NAME)
    settings = yaml.safe_load((kit / "client.yaml").read_text())
    settings["data"] = {"path": f"/records/{folder_name(NAME)}.csv", "id_column": "id"}
    settings["policy"] = {"budget": {"epsilon": 16}, "min_records": 50}
    (kit / "client.yaml").write_text(yaml.safe_dump(settings))
    coordinator, runs = kits / "kits" / "coordinator", kits / "runs"
    folders("an institution", KIT=kit, RECORDS=kits / "records")
    folders("the coordinator", KIT=coordinator, RUNS=runs)
    variables = {"KIT": str(kit), "RECORDS": str(kits / "records"), "RUNS": str(runs)}
    made = {}
    for side, network in zip(("coordinator", "institution"), networks, strict=True):
        if side == "coordinator":
            variables["KIT"] = str(coordinator)
        else:
            variables["KIT"] = str(kit)
        file = ROOT / "containers" / side / "compose.yaml"
        for role, service in services(file, **variables)["services"].items():
            folder = tmp_path / "containers" / role
            folder.mkdir(parents=True)
            made[role] = Container(service, IMAGES / side, folder, network)
    yield made
    for container in made.values():
        container.kill()


@pytest.mark.parametrize("side", ["coordinator", "institution"])
def test_an_image_holds_the_command_and_nothing_to_install_with(side: str, tmp_path: Path) -> None:
    service = {"read_only": True, "tmpfs": ["/tmp:mode=1777"], "network_mode": "none"}
    container = Container(service, IMAGES / side, tmp_path, network="")
    script = """
        id -u; confide --version; touch /tmp/here; touch /opt/here && echo written
        ls /kit 2>/dev/null; find /opt -name '*.whl' -o -name pip -o -name .cache
    """
    service["entrypoint"] = ["sh", "-c", script]
    container.start("run")
    assert container.process is not None
    container.process.wait(120)
    said = [line for line in container.log.splitlines() if "Read-only" not in line]
    assert said == ["10001", f"confide {__version__}"]
    config = container.config
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["confide"]
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["Labels"]["org.opencontainers.image.version"] == __version__


def is_healthy(container: Container) -> bool:
    """Ask as the engine would: by the service's own check, or the image's."""
    check = container.service.get("healthcheck", {}).get("test")
    words = (check or container.config["Healthcheck"]["Test"])[1:]
    try:
        container.run(*words)
    except subprocess.CalledProcessError:
        return False
    return True


def test_a_federation_of_containers_runs_to_its_end(
    containers: dict[str, Container], kits: Path
) -> None:
    institution = ("network", "trainer", "executor", "supernode")
    coordinator = containers["coordinator"]
    coordinator.start(
        *("server", "/coordinator", *HEART, "server.num_rounds=2", "server.min_clients=1"),
        *("job=trial", "trainer.num_threads=1", "hydra.run.dir=runs/trial"),
    )
    try:
        wait_until(lambda: is_healthy(coordinator), timeout_s=300, what="coordinator")
        for role in institution:
            containers[role].start()
        for role in institution[1:]:
            healthy = functools.partial(is_healthy, containers[role])
            wait_until(healthy, timeout_s=300, what=role)
        assert coordinator.process is not None
        assert coordinator.process.wait(600) == 0
    except (AssertionError, subprocess.TimeoutExpired):
        print(*(f"=== {name}\n{it.log}" for name, it in containers.items()), sep="\n")
        print(*(f"=== {p}\n{p.read_text()[-3000:]}" for p in kits.rglob("*.log")), sep="\n")
        raise
    assert "rounds in" in coordinator.log
    assert (kits / "runs" / "trial" / "summary.json").exists()
    links = containers["trainer"].run("cat", "/proc/net/dev").splitlines()[2:]
    assert [link.split(":")[0].strip() for link in links] == ["lo"]
    # Status 1, here and below: of the other containers' parts it knows nothing
    status = containers["trainer"].run("sh", "-c", "confide client status /kit || true")
    assert "Job trial: allowed." in status
    found = containers["trainer"].run("sh", "-c", "confide doctor /kit --json || true")
    statuses = {(it["check"], it["status"]) for it in json.loads(found)["findings"]}
    assert {("trainer.key", "ok"), ("node.key", "error"), ("budget", "ok")} <= statuses
    assert [containers[role].stop() for role in institution[1:]] == [0, 0, 0]
