"""The images, run as the compose files say, in namespaces instead of by an engine.

Coordinator and institution each have a network of their own, with a cable between them.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from composed import Container, services
from deployment_run import ALLOWING, HEART, confide, wait_until

from confide.storage.files import folder_name
from confide.version import __version__

ROOT = Path(__file__).parent.parent.parent
IMAGES = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "confide/images/root"
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
    root = IMAGES / side
    service = {"command": [], "read_only": True, "tmpfs": ["/tmp:mode=1777"], "network_mode": "none"}
    container = Container(service, root, tmp_path, network="")
    container.start("--version")
    assert container.process is not None
    assert container.process.wait(120) == 0, container.log
    assert container.log.strip() == f"confide {__version__}"
    config = container.config
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    assert not (root / "kit").exists()
    left = [str(path) for kind in ("*.whl", "*.key", "pip") for path in root.glob(f"opt/**/{kind}")]
    assert left == []
    assert not any((root / "root").iterdir()) or not (root / "root" / ".cache").exists()


def test_a_federation_of_containers_runs_to_its_end(
    containers: dict[str, Container], kits: Path
) -> None:
    coordinator, trainer = containers["coordinator"], containers["trainer"]
    for role in ("network", "trainer", "executor", "supernode"):
        containers[role].start(*(() if role != "network" else ()))
    coordinator.start(
        *("server", "/coordinator", *HEART, "server.num_rounds=2", "server.min_clients=1"),
        *("job=trial", "trainer.num_threads=1", "hydra.run.dir=runs/trial"),
    )
    assert coordinator.process is not None
    healthy: set[str] = set()
    end = time.monotonic() + 900
    while coordinator.process.poll() is None and time.monotonic() < end:
        for role in ("trainer", "executor", "supernode"):
            healthy |= {role} if is_healthy(containers[role]) else set()
        time.sleep(1)
    assert coordinator.process.poll() == 0, "\n".join(c.log for c in containers.values())
