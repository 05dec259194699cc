"""The coordinator's certificate of an external authority, from its request to every kit."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from outside_authority import Signer, root, write
from provisioned import FEDERATION, KIT, check_sound, files, times

from confide.client.deployment.kit import load_kit
from confide.config.run import Config
from confide.deployment.checks import Finding
from confide.errors import ConfigError
from confide.security import certificate_hosts, certificates, ec_keys
from confide.server.commands.doctor import diagnose
from confide.server.deployment.kit import load_coordinator_kit
from confide.server.provisioning.files import Places
from confide.server.provisioning.provision import provision
from confide.server.provisioning.server_certificate import install

EXTERNAL = replace(FEDERATION, server_certificate="external")
TOP = root()
MIDDLE = TOP.authority("Trust Issuing")


def sign(out: Path, folder: Path, top: Signer = TOP, by: Signer = MIDDLE) -> tuple[Path, Path]:
    """Sign the coordinator's request as an authority does, and return what it sends."""
    request = x509.load_pem_x509_csr((out / "coordinator" / "server.csr").read_bytes())
    assert request.is_signature_valid
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names == certificate_hosts.server_names(FEDERATION.hosts)
    leaf = by.server(request.public_key(), FEDERATION.hosts)
    chain = write(folder / "chain.pem", by.certificate, leaf)
    return chain, write(folder / "root.pem", top.certificate)


def server_findings(out: Path) -> list[Finding]:
    named = ("server.crt", "server-ca.crt", "server.key")
    return [it for it in diagnose(out / "coordinator") if it.check in named]


def test_without_a_chain_there_is_a_request_and_nothing_that_serves(
    config: Config, tmp_path: Path
) -> None:
    out = tmp_path / "kits"
    done = provision(EXTERNAL, config, out)
    assert "Send" in done.notes[0]
    assert "cannot start" in done.notes[0]
    assert not (out / "coordinator" / "server.crt").exists()
    with pytest.raises(ConfigError, match=r"lacks server\.crt"):
        load_coordinator_kit(out / "coordinator")
    before = times(out)
    assert provision(EXTERNAL, config, out).notes == done.notes
    assert times(out) == before


def test_what_the_authority_sends_goes_into_every_kit(
    out: Path, config: Config, tmp_path: Path
) -> None:
    provision(EXTERNAL, config, out)
    before = files(out)
    told = install(EXTERNAL, Places(out), sign(out, tmp_path))
    assert "signed by 'CN=Trust Issuing'" in told[0]
    notes = provision(EXTERNAL, config, out).notes
    assert any(certificates.fingerprint(TOP.certificate) in note for note in notes)
    after = files(out)
    new = {name for name in after if after[name] != before.get(name)}
    kits = {f"institutions/{it}/server-ca.crt" for it in ("Cleveland", "VA%20Long%20Beach")}
    assert new - {"coordinator/server.crt", "coordinator/server-ca.crt"} == {
        it for it in after if it.endswith("/server-ca.crt") and it.startswith("institutions/")
    }
    assert len(new) == 2 + len(kits)
    kit = load_coordinator_kit(out / "coordinator")
    assert (kit.outer.ca.name, kit.inner.ca.name) == ("server-ca.crt", "ca.crt")
    assert "server-ca.crt" in {path.name for path in kit.certificates}
    assert {it.status for it in server_findings(out)} == {"ok"}
    # Nothing is left to be done
    again = times(out)
    assert provision(EXTERNAL, config, out).notes == []
    assert times(out) == again
    own = load_kit(out / "institutions" / "Cleveland", ["data.path=x", "policy.budget.epsilon=8"])
    assert own.server_ca.name == "server-ca.crt"
    assert [path.name for path in own.certificates][:2] == ["ca.crt", "server-ca.crt"]


def test_a_chain_that_will_not_do_changes_nothing(
    out: Path, config: Config, tmp_path: Path
) -> None:
    provision(EXTERNAL, config, out)
    chain, top = sign(out, tmp_path)
    before = files(out)
    wider = replace(EXTERNAL, hosts=[*FEDERATION.hosts, "new.fed.example.org"])
    with pytest.raises(ConfigError, match=r"lacks new\.fed\.example\.org of hosts"):
        install(wider, Places(out), (chain, top))
    with pytest.raises(ConfigError, match="server_certificate=authority; set"):
        install(FEDERATION, Places(out), (chain, top))
    assert files(out) == before


def test_another_root_is_told_and_the_way_back_too(
    out: Path, config: Config, tmp_path: Path
) -> None:
    provision(EXTERNAL, config, out)
    install(EXTERNAL, Places(out), sign(out, tmp_path))
    provision(EXTERNAL, config, out)
    top = root("New Root")
    install(EXTERNAL, Places(out), sign(out, tmp_path, top, top.authority("New Issuing")))
    (note,) = provision(EXTERNAL, config, out).notes
    assert "another root than before ('CN=Trust Root')" in note
    notes = provision(FEDERATION, config, out).notes
    assert any("server-ca.crt was removed" in it for it in notes)
    assert not list(out.rglob("server-ca.crt"))
    assert not list(out.rglob("server.csr"))
    check_sound(out, FEDERATION)


def test_a_key_that_was_replaced_asks_for_another_certificate(
    out: Path, config: Config, tmp_path: Path
) -> None:
    provision(EXTERNAL, config, out)
    install(EXTERNAL, Places(out), sign(out, tmp_path))
    (out / "coordinator" / "server.key").unlink()
    notes = provision(EXTERNAL, config, out).notes
    assert any("no certificate for server.key" in it for it in notes)
    assert any("server.csr to your authority" in it for it in notes)
    key = ec_keys.read_private_key(out / "coordinator" / "server.key").public_key()
    request = x509.load_pem_x509_csr((out / "coordinator" / "server.csr").read_bytes())
    assert request.public_key() == key
    assert any(it.status == "error" for it in server_findings(out))


def test_without_the_setting_a_kit_is_what_it_was(out: Path, config: Config) -> None:
    kit = out / "institutions" / "Cleveland"
    assert sorted(files(kit)) == sorted(KIT)
    assert not any(
        b"server-ca" in text
        for name, text in files(out).items()
        if "service" not in name and not name.endswith("install.sh")  # the same in every kit
    )
    shutil.rmtree(out / "authority")  # no key is needed for nothing
    before = times(out)
    provision(FEDERATION, config, out)
    assert times(out) == before
