"""What a security team reads: the Dockerfile and the compose files, as files."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from composed import services

from confide.version import __version__

ROOT = Path(__file__).parent.parent.parent
CONTAINERS = ROOT / "containers"
DOCKERFILE = (CONTAINERS / "Dockerfile").read_text()
VARIABLES = {"KIT": "/srv/kit", "RECORDS": "/srv/records", "RUNS": "/srv/runs"}
ADDED = {
    "institution/compose.external.yaml": ("supernode", "/kit/server-ca.crt"),
    "institution/compose.certificate.yaml": ("supernode", "/kit/node.crt"),
    "institution/compose.revoked.yaml": ("trainer", "/kit/revoked.json"),
}
COMPOSED = (
    "institution/compose.yaml",
    "institution/compose.gpu.yaml",
    *ADDED,
    "coordinator/compose.yaml",
)


def read(name: str) -> dict[str, Any]:
    return services(CONTAINERS / name, **VARIABLES)


INSTITUTION = read("institution/compose.yaml")["services"]
COORDINATOR = read("coordinator/compose.yaml")["services"]


def targets(service: dict[str, Any]) -> set[str]:
    return {volume["target"] for volume in service.get("volumes", [])}


def writable(service: dict[str, Any]) -> set[str]:
    volumes = service.get("volumes", [])
    return {volume["target"] for volume in volumes if not volume.get("read_only")}


@pytest.mark.parametrize("name", COMPOSED)
def test_compose_files_are_of_the_specification(name: str) -> None:
    whole = read(name)
    assert PyCompose.from_yaml(yaml.safe_dump(whole)).service_names() == sorted(whole["services"])
    next(iter(whole["services"].values()))["read_onlyy"] = True
    with pytest.raises(ValueError, match="read_onlyy"):
        PyCompose.from_yaml(yaml.safe_dump(whole))


def test_the_dockerfile_is_without_findings() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, CONTAINERS / "Dockerfile"], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("service", [*INSTITUTION.items(), *COORDINATOR.items()], ids=str)
def test_every_container_is_hardened(service: tuple[str, dict[str, Any]]) -> None:
    _, settings = service
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert settings["tmpfs"] == ["/tmp:mode=1777"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & set(settings)
    user = int(settings["user"].split(":")[0])
    assert f"--uid {user} " in DOCKERFILE
    for group in settings.get("group_add", []):
        assert f"--gid {group} " in DOCKERFILE
    # A path that is mistyped is not made by the engine, as root
    assert all(v["bind"] == {"create_host_path": False} for v in settings.get("volumes", []))


def test_the_trainer_has_no_network_and_nobody_else_its_secrets() -> None:
    assert INSTITUTION["trainer"]["network_mode"] == "none"
    own = {"/records", "/kit/ledger", "/kit/trainer.key"}
    assert own <= targets(INSTITUTION["trainer"])
    for role in ("executor", "supernode", "network"):
        assert not own & targets(INSTITUTION[role]), role
        # Of its folder the socket alone is for others
        assert "/kit/state/trainer" not in writable(INSTITUTION[role])
    holders = [role for role, service in INSTITUTION.items() if "/kit/node.key" in targets(service)]
    assert holders == ["supernode"]


@pytest.mark.parametrize(("name", "added"), ADDED.items())
def test_a_file_that_not_all_kits_have_is_added_for_the_one_that_reads_it(
    name: str, added: tuple[str, str]
) -> None:
    (service,) = read(name)["services"].items()
    (volume,) = service[1]["volumes"]
    assert ((service[0], volume["target"]), volume["read_only"]) == (added, True)
    assert volume["bind"] == {"create_host_path": False}


def test_each_writes_to_its_own_folders_alone() -> None:
    assert {role: writable(service) for role, service in INSTITUTION.items()} == {
        "trainer": {"/kit/state/trainer", "/kit/ledger"},
        "executor": {"/kit/state/executor"},
        "supernode": {"/kit/state/supernode", "/kit/state/runtime"},
        "network": set(),
    }
    assert writable(COORDINATOR["coordinator"]) == {"/coordinator/state", "/srv/confide/runs"}


def test_nothing_is_published_but_the_front() -> None:
    assert not [role for role, service in INSTITUTION.items() if "ports" in service]
    assert COORDINATOR["coordinator"]["ports"] == ["8443:8443"]


def test_versions_are_the_packages() -> None:
    written = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert written["version"] == __version__
    for side, composed in (("institution", INSTITUTION), ("coordinator", COORDINATOR)):
        for service in composed.values():
            assert service["image"] == f"confide-{side}:{__version__}"
    assert f'image.version="{__version__}"' in DOCKERFILE
    assert f"confide-institution:{__version__} ." in DOCKERFILE
    base = re.search(r"^ARG BASE=\S+/python:(\d+\.\d+)-slim", DOCKERFILE, re.MULTILINE)
    assert base is not None
    assert f"Programming Language :: Python :: {base[1]}" in written["classifiers"]
