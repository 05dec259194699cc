"""What ``confide doctor`` tells a coordinator: each finding provoked once, no federation."""

import datetime
import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from confide.cli import main
from confide.deployment.checks import Finding
from confide.security import certificates, ec_keys
from confide.server.commands.doctor import diagnose
from confide.server.provisioning.provision import provision, read_federation


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doctor")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    text = (
        f"name: t\nhosts: [127.0.0.1]\nport: {port}\ninstitutions: [ward, clinic]\nconfig:"
        " [experiment=heart_disease]\n"
    )
    (folder / "fed.yaml").write_text(text)
    federation, config = read_federation(folder / "fed.yaml")
    provision(federation, config, folder / "out")
    return folder / "out"


@pytest.fixture
def kit(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "coordinator", tmp_path / "kit"))


def found(kit: Path) -> dict[str, list[Finding]]:
    findings: dict[str, list[Finding]] = {}
    for finding in diagnose(kit):
        findings.setdefault(finding.check, []).append(finding)
    return findings


def told(findings: list[Finding], status: str = "error") -> str:
    return "\n".join(
        f"{finding.message} {finding.fix}" for finding in findings if finding.status == status
    )


def test_a_kit_as_it_was_made_is_ready(kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(kit), "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {finding["status"] for finding in findings} == {"ok"}
    assert sum(finding["check"] == "institutions" for finding in findings) == 2


def test_overrides_are_a_wrong_command(kit: Path) -> None:
    assert main(["doctor", str(kit), "port=1"]) == 2


def test_what_is_missing_is_told(kit: Path) -> None:
    (kit / "server.key").unlink()
    assert "lacks server.key" in told(found(kit)["federation.json"])


def test_certificates_that_do_not_serve_are_told(kit: Path, made: Path) -> None:
    (kit / "server.key").chmod(0o644)
    authority = (
        certificates.read_certificate(made / "authority" / "ca.crt"),
        ec_keys.read_private_key(made / "authority" / "ca.key"),
    )
    other = ec_keys.make_key()
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=40)
    old = certificates.issue_server_certificate(
        other.public_key(), ["x.org"], authority=authority, days=1, now=past
    )
    (kit / "server.crt").write_text(certificates.certificate_pem(old))
    found_here = found(kit)
    assert "chmod 600" in told(found_here["server.key"])
    assert all(
        words in told(found_here["server.crt"])
        for words in ("is not its key", "for x.org, expected 127.0.0.1", "expired")
    )
    stranger = certificates.make_authority("t", other)
    (kit / "ca.crt").write_text(certificates.certificate_pem(stranger))
    assert "no institution will trust it" in told(found(kit)["loopback.crt"])


def test_the_authoritys_key_does_not_belong_here(kit: Path, made: Path) -> None:
    shutil.copy(made / "authority" / "ca.key", kit / "nodes" / "ca.key")
    assert "move it off" in told(found(kit)["ca.key"])


def test_institutions_need_keys_of_their_own(kit: Path) -> None:
    shutil.copy(kit / "nodes" / "ward.pub", kit / "nodes" / "clinic.pub")
    assert "ward and clinic have the same key" in told(found(kit)["institutions"])
    (kit / "nodes" / "ward.pub").write_text("x")
    assert "cannot be read" in told(found(kit)["institutions"])


def test_a_port_that_another_holds_is_told(kit: Path) -> None:
    port = json.loads((kit / "federation.json").read_text())["port"]
    with socket.create_server(("127.0.0.1", port)):
        assert "is in use" in told(found(kit)["port"])
        (kit / "state" / "logs").mkdir(parents=True, mode=0o700)
        (kit / "state" / "logs" / "processes.json").write_text(
            json.dumps({"supervisor": os.getpid()})
        )
        (kit / "state" / "logs" / "superlink.address").write_text("127.0.0.1:9\n")
        findings = found(kit)
    assert "is used by the `confide server`" in told(findings["port"], "ok")
    assert "does not answer" in told(findings["connected"])


def test_who_knocked_and_was_refused_is_told(kit: Path) -> None:
    logs = kit / "state" / "logs"
    logs.mkdir(parents=True)
    now = datetime.datetime.now()
    key = ec_keys.key_fingerprint(ec_keys.read_public_key(kit / "nodes" / "ward.pub"))

    def line(minutes: int, words: str) -> str:
        return (
            f"{now - datetime.timedelta(minutes=minutes):%Y-%m-%d %H:%M:%S},123 WARNING {words}\n"
        )

    knock = (
        "POST '/v1/fleet/activate-node' from 10.0.0.{}:5000: 412, refused, not registered, key {}"
    )
    lines = [
        line(90, knock.format(1, "SHA256:old")),
        line(5, knock.format(2, key)),
        line(4, knock.format(2, key)),
    ]
    lines += [
        line(3, knock.format(3, "SHA256:new")),
        line(2, "TLS with 10.0.0.4:5001 fails: it knows another authority."),
    ]
    (logs / "front.log").write_text("".join(lines))
    (kit / "state" / "superlink.db").touch()
    findings = found(kit)
    warned = told(findings["refused"], "warning")
    assert "2 times, and was refused: 10.0.0.2, ward: not registered" in warned
    assert "10.0.0.3, key SHA256:new" in warned
    assert "10.0.0.4: it knows another authority" in warned
    assert "10.0.0.1," not in warned
    assert findings["database"][0].status == "ok"
