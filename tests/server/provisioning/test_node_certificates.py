"""Certificates that institutions' nodes show, where a federation asks for them."""

import datetime
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from provisioned import FEDERATION, NOW, check_sound, files, states

from confide.config.run import Config
from confide.security import certificates, ec_keys
from confide.server.deployment.kit import load_coordinator_kit
from confide.server.provisioning.files import Places
from confide.server.provisioning.provision import make_request, provision
from confide.server.provisioning.revoke import revoke

ASKING = replace(FEDERATION, client_certificates=True)
KIT = Path("institutions") / "Cleveland" / "node.crt"
KEPT = Path("coordinator") / "nodes" / "Cleveland.crt"


@pytest.fixture
def asking(out: Path, config: Config) -> Path:
    """Make what an earlier run left ask for certificates from now on."""
    done = provision(ASKING, config, out)
    assert [note for note in done.notes if "node.crt" in note] == [
        "Send Cleveland its node.crt: it does not exist.",
        "Send VA Long Beach its node.crt: it does not exist.",
    ]
    return out


def test_each_kit_gets_one_for_the_key_that_it_has(asking: Path, config: Config) -> None:
    authority = certificates.read_certificate(asking / "coordinator" / "ca.crt")
    shown = certificates.read_certificate(asking / KIT)
    assert certificates.is_issued_by(shown, authority)
    assert not certificates.is_trainers(shown)
    public = ec_keys.read_public_key(asking / "coordinator" / "nodes" / "Cleveland.pub")
    assert shown.public_key() == public
    assert (asking / KIT).read_bytes() == (asking / KEPT).read_bytes()
    assert load_coordinator_kit(asking / "coordinator").client_certificates
    before = files(asking)
    assert set(states(provision(ASKING, config, asking)).values()) == {"unchanged"}
    assert files(asking) == before
    check_sound(asking, ASKING)


def test_a_federation_that_does_not_ask_is_as_it_was(made: Path) -> None:
    assert not list(made.rglob("node.crt"))
    roster = json.loads((made / "coordinator" / "federation.json").read_text())
    assert "client_certificates" not in roster
    assert not load_coordinator_kit(made / "coordinator").client_certificates


def test_one_that_ends_or_whose_key_changed_is_issued_anew(
    asking: Path, config: Config, tmp_path: Path
) -> None:
    before = (asking / KIT).read_bytes()
    later = provision(ASKING, config, asking, now=NOW + datetime.timedelta(days=340))
    assert any("Send Cleveland its node.crt: it expires on" in it for it in later.notes)
    renewed = (asking / KIT).read_bytes()
    assert renewed != before
    request = make_request("Cleveland", tmp_path / "theirs").folder / "node.csr"
    done = provision(ASKING, config, asking, requests=[request], replace=["Cleveland"])
    assert "Send Cleveland its node.crt: its key was replaced." in done.notes
    public = ec_keys.read_public_key(asking / "coordinator" / "nodes" / "Cleveland.pub")
    assert certificates.read_certificate(asking / KIT).public_key() == public


def test_without_the_authority_it_is_told_that_it_is_missing(out: Path, config: Config) -> None:
    shutil.rmtree(out / "authority")
    done = provision(ASKING, config, out)
    assert "Cleveland needs a new node.crt to be let in by the coordinator" in done.notes[0]
    assert not (out / KIT).exists()


def test_who_is_revoked_loses_it(asking: Path) -> None:
    revoke(ASKING, Places(asking), ["Cleveland"])
    assert not (asking / KEPT).exists()
