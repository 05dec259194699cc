"""A small federation, and the files that provisioning makes for it."""

import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from confide.deployment.federation import FederationConfig
from confide.security import certificates, ec_keys
from confide.server.provisioning.provision import (
    Provisioned,
)
from confide.storage.files import folder_name

FEDERATION = FederationConfig(
    name="heart", hosts=["fed.example.org", "10.0.0.5"], institutions=["Cleveland", "VA Long Beach"]
)
LONGER = replace(FEDERATION, institutions=["Cleveland", "VA Long Beach", "Hungary"])
ROLES = ("trainer", "executor", "supernode", "dashboard")
SERVICE = ("install.conf", "logrotate.conf", "settings.yaml", "sysusers.conf", "tmpfiles.conf")
KIT = [
    "README.md",
    "ca.crt",
    "client.yaml",
    "heads.pub",
    "install.sh",
    "monitoring/alerts.yaml",
    "monitoring/grafana.json",
    "node.key",
    "node.pub",
    *(
        f"service/{name}"
        for name in (*SERVICE, *(f"confide-heart-{role}.service" for role in ROLES))
    ),
    "trainer.crt",
    "trainer.key",
]
COORDINATOR = [
    "README.md",
    "ca.crt",
    "federation.json",
    "heads.key",
    "install.sh",
    "loopback.crt",
    "loopback.key",
    "run.conf",
    "monitoring/alerts.yaml",
    "monitoring/grafana.json",
    "server.crt",
    "server.key",
    *(f"service/{name}" for name in SERVICE),
    *(f"service/confide-heart-coordinator-{role}.service" for role in ("run", "dashboard")),
]
NOW = datetime.datetime.now(datetime.UTC)


class KilledError(BaseException):
    """Stands for a process that ends at once."""


def files(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def times(out: Path) -> dict[str, int]:
    return {
        str(path.relative_to(out)): path.stat().st_mtime_ns
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def states(done: Provisioned) -> dict[str, str]:
    return {kit.name: kit.state for kit in done.kits}


def check_sound(out: Path, federation: FederationConfig) -> None:
    """Hold everything that was made against everything else."""
    authority = certificates.read_certificate(out / "authority" / "ca.crt")
    assert certificates.is_key_of(ec_keys.read_private_key(out / "authority" / "ca.key"), authority)
    for stem in ("server", "loopback"):
        certificate = certificates.read_certificate(out / "coordinator" / f"{stem}.crt")
        assert certificates.is_issued_by(certificate, authority)
        assert certificates.is_key_of(
            ec_keys.read_private_key(out / "coordinator" / f"{stem}.key"), certificate
        )
    roster = json.loads((out / "coordinator" / "federation.json").read_text())
    assert list(roster["institutions"]) == federation.institutions
    assert len(list((out / "coordinator" / "nodes").glob("*.pub"))) == len(federation.institutions)
    for name, file in roster["institutions"].items():
        kit = out / "institutions" / folder_name(name)
        public = ec_keys.read_public_key(kit / "node.pub")
        assert public == ec_keys.read_public_key(out / "coordinator" / file)
        assert (kit / "ca.crt").read_bytes() == (out / "authority" / "ca.crt").read_bytes()
        trainer = certificates.read_certificate(kit / "trainer.crt")
        assert certificates.is_issued_by(trainer, authority)
        assert certificates.common_name(trainer.subject) == name
        if (kit / "trainer.key").exists():
            assert certificates.is_key_of(ec_keys.read_private_key(kit / "trainer.key"), trainer)
        if (kit / "node.key").exists():
            assert ec_keys.read_node_key(kit / "node.key").public_key() == public
        made_by_coordinator = "made by the coordinator" in (kit / "README.md").read_text()
        assert made_by_coordinator == (kit / "node.key").exists()
    assert not list(out.rglob(".*"))


# --- client.yaml


def loaded(text: str) -> dict[str, Any]:
    values = OmegaConf.create(text)
    values.data.path = "records.csv"
    values.policy.budget.epsilon = 8
    container: Any = OmegaConf.to_container(values, resolve=True)
    return dict(container)
