"""A first run of provisioning: the tree, its keys, and what client.yaml says."""

import base64
import dataclasses
import json
import os
import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from provisioned import COORDINATOR, FEDERATION, KIT, check_sound, files, loaded

from confide.config.models.transformer import TransformerConfig
from confide.config.run import Config
from confide.security import certificate_hosts, certificates, ec_keys
from confide.server.provisioning.provision import (
    provision,
)
from confide.server.provisioning.texts import client_yaml

# --- a first run


def test_a_first_run_makes_the_tree_and_nothing_else(made: Path) -> None:
    expected = {f"authority/{name}" for name in ("ca.crt", "ca.key")} | {
        f"coordinator/{name}" for name in COORDINATOR
    }
    for folder in ("Cleveland", "VA%20Long%20Beach"):
        expected |= {
            f"coordinator/nodes/{folder}.pub",
            f"coordinator/trainers/{folder}.crt",
            *(f"institutions/{folder}/{name}" for name in KIT),
        }
    assert set(files(made)) == expected
    check_sound(made, FEDERATION)


def test_keys_are_their_owners_alone(made: Path) -> None:
    for path in (made, *made.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600 if path.suffix == ".key" else 0o644), path


def test_no_key_can_be_read_by_others_at_any_moment(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(source: str, target: Path) -> None:
        if target.suffix == ".key":
            seen.append(target.name)
            assert not os.stat(source).st_mode & 0o077
            assert not target.parent.stat().st_mode & 0o077
        rename(source, target)

    rename = os.replace
    monkeypatch.setattr(os, "replace", watched)
    mask = os.umask(0)
    try:
        provision(FEDERATION, config, tmp_path / "a" / "kits")
    finally:
        os.umask(mask)
    assert sorted(seen) == [
        "ca.key",
        "heads.key",
        "loopback.key",
        *["node.key"] * 2,
        "server.key",
        *["trainer.key"] * 2,
    ]


def test_every_kit_has_the_key_that_countersigns_heads(made: Path, config: Config) -> None:
    key = ec_keys.read_private_key(made / "coordinator" / "heads.key")
    line = ec_keys.public_line(key.public_key())
    kits = sorted((made / "institutions").iterdir())
    assert [(kit / "heads.pub").read_text() for kit in kits] == [line, line]
    (kits[0] / "heads.pub").unlink()  # a kit of an earlier release
    provision(FEDERATION, config, made)
    assert (kits[0] / "heads.pub").read_text() == line


def private_number(path: Path) -> bytes:
    key = (ec_keys.read_node_key if path.name == "node.key" else ec_keys.read_private_key)(path)
    return key.private_numbers().private_value.to_bytes(48, "big").lstrip(b"\0")


def unarmoured(path: Path) -> bytes:
    """Return a file, and what any PEM in it encodes."""
    text = path.read_text()
    return text.encode() + b"".join(
        map(base64.b64decode, re.findall(r"-----BEGIN .*?-----\n(.*?)-----END", text, re.DOTALL))
    )


def test_no_kit_holds_a_secret_of_another(made: Path) -> None:
    secrets = {path: private_number(path) for path in made.rglob("*.key")}
    assert len(secrets) == 8
    for folder in [made / "authority", made / "coordinator", *(made / "institutions").iterdir()]:
        content = b"\n".join(unarmoured(path) for path in folder.rglob("*") if path.is_file())
        for owner, number in secrets.items():
            assert (number in content) == (owner.parent == folder), (owner, folder)


def test_loopback_is_for_this_machine_alone(made: Path) -> None:
    loopback, server = (
        certificates.read_certificate(made / "coordinator" / f"{stem}.crt")
        for stem in ("loopback", "server")
    )
    assert certificate_hosts.hosts_of(loopback) == ["127.0.0.1", "::1", "localhost"]
    assert certificate_hosts.hosts_of(server) == FEDERATION.hosts


def test_the_roster_names_public_keys(made: Path) -> None:
    assert json.loads((made / "coordinator" / "federation.json").read_text()) == {
        "name": "heart",
        "hosts": FEDERATION.hosts,
        "port": 8443,
        "institutions": {
            "Cleveland": "nodes/Cleveland.pub",
            "VA Long Beach": "nodes/VA%20Long%20Beach.pub",
        },
    }


def test_a_kit_says_what_its_reader_needs(made: Path) -> None:
    page = (made / "institutions" / "Cleveland" / "README.md").read_text()
    order = [
        page.index(f"`confide {command} KIT`") for command in ("doctor", "client", "client status")
    ]
    assert order == sorted(order)
    for said in (
        "fed.example.org:8443",
        certificates.fingerprint(certificates.read_certificate(made / "authority" / "ca.crt")),
        *{name.partition("/")[0] for name in KIT[1:]},
    ):
        assert said in page
    assert "Keep `authority/` offline" in (made / "coordinator" / "README.md").read_text()


def test_the_task_is_written_out_in_full(made: Path, config: Config) -> None:
    text = (made / "institutions" / "Cleveland" / "client.yaml").read_text()
    values = loaded(text)
    assert values.pop("task") == dataclasses.asdict(config.task)
    assert values == {
        "defaults": ["institution", "_self_"],
        "name": "Cleveland",
        "coordinator": {"address": "fed.example.org:8443"},
        "data": {"path": "records.csv"},
        "policy": {"budget": {"epsilon": 8}},
        "backbones": [],
    }
    assert 'data: {path: "???"}         # your records' in text


@pytest.mark.parametrize("name", ["1e3", "null", 'a: "b" # c', "Hôpital {x} \\", "[a]"])
def test_any_name_survives_yaml(name: str, config: Config) -> None:
    text = client_yaml(name, replace(FEDERATION, hosts=["::1"]), config)
    assert loaded(text)["name"] == name
    assert yaml.safe_load(text)["coordinator"] == {"address": "[::1]:8443"}


def test_references_in_a_task_stay_text(config: Config) -> None:
    awkward = replace(
        config, task=replace(config.task, label_values={"${oc.env:HOME}": "absent", "0": r"\${x}"})
    )
    text = client_yaml("Cleveland", FEDERATION, awkward)
    assert list(loaded(text)["task"]["label_values"].values()) == ["absent", r"\${x}"]


def test_a_pretrained_backbone_is_suggested_with_its_hash(config: Config, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")

    def suggested(name: str) -> str:
        return client_yaml(
            "Cleveland", FEDERATION, replace(config, backbone=TransformerConfig(name=name))
        )

    text = suggested(str(tmp_path))
    assert re.search(r"^  # backbones: \[[0-9a-f]{64}\]", text, re.MULTILINE)
    assert f'# backbones: ["/path/to/{tmp_path.name}"]' in text
    assert str(tmp_path) not in text
    assert '# backbones: ["pkg://nobody/model"]' in suggested("pkg://nobody/model")
    assert loaded(text)["backbones"] == []
