"""Keys that are revoked, and institutions that are admitted again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from provisioned import FEDERATION, LONGER, NOW, check_sound, files, states

import confide.cli
from confide.audit_log.files import files_of, lines_of
from confide.config.run import Config
from confide.errors import ConfigError
from confide.security import certificates, ec_keys
from confide.security.revocations import FILE, read_revocations
from confide.server.deployment.kit import load_coordinator_kit
from confide.server.provisioning.files import Places
from confide.server.provisioning.provision import make_request, provision
from confide.server.provisioning.revoke import revoke

GONE, LEFT = "Cleveland", "VA Long Beach"


def node_key(out: Path, name: str) -> str:
    return ec_keys.key_fingerprint(ec_keys.read_public_key(Places(out).kit(name) / "node.pub"))


def trainer_key(out: Path, name: str) -> str:
    certificate = certificates.read_certificate(Places(out).kit(name) / "trainer.crt")
    return ec_keys.key_fingerprint(ec_keys.expect_public("", certificate.public_key()))


def test_both_keys_are_listed_signed_and_given_to_the_others(out: Path) -> None:
    before = files(out)
    told = revoke(FEDERATION, Places(out), [GONE], now=NOW)
    read = read_revocations(out / "coordinator" / FILE)
    read.check(certificates.read_certificate(out / "coordinator" / "ca.crt"), "there")
    assert [it.key for it in read.keys] == [node_key(out, GONE), trainer_key(out, GONE)]
    assert {it.name for it in read.keys} == {GONE}
    others = out / "institutions" / "VA%20Long%20Beach" / FILE
    assert others.read_bytes() == (out / "coordinator" / FILE).read_bytes()
    assert f"its node's key {node_key(out, GONE)}" in told[0]
    assert "copy coordinator/revoked.json into it" in told[0]
    assert "Send each institution revoked.json from its kit" in told[1]
    assert list(load_coordinator_kit(out / "coordinator").institutions) == [LEFT]
    after = files(out)
    assert set(before) - set(after) == {
        f"coordinator/nodes/{GONE}.pub",
        f"coordinator/trainers/{GONE}.crt",
    }
    assert {name for name in after if after[name] != before.get(name)} == {
        "coordinator/federation.json",
        f"coordinator/{FILE}",
        f"institutions/VA%20Long%20Beach/{FILE}",
    }


def test_the_list_alone_is_enough_for_the_coordinators_machine(out: Path, tmp_path: Path) -> None:
    machine = shutil.copytree(out / "coordinator", tmp_path / "machine")
    revoke(FEDERATION, Places(out), [GONE])
    shutil.copy(out / "coordinator" / FILE, machine)
    assert list(load_coordinator_kit(machine).institutions) == [LEFT]


def test_without_the_authority_the_coordinator_heeds_it_and_signs_later(
    out: Path, config: Config, tmp_path: Path
) -> None:
    shutil.move(out / "authority", tmp_path / "safe")
    told = revoke(FEDERATION, Places(out), [GONE])
    assert "is not signed: the coordinator heeds it" in told[1]
    assert list(load_coordinator_kit(out / "coordinator").institutions) == [LEFT]
    assert not list(out.glob(f"institutions/*/{FILE}"))
    shutil.move(tmp_path / "safe", out / "authority")
    done = provision(FEDERATION, config, out)
    assert any("Send each institution revoked.json" in note for note in done.notes)
    signed = read_revocations(out / "institutions" / "VA%20Long%20Beach" / FILE)
    signed.check(certificates.read_certificate(out / "coordinator" / "ca.crt"), "kit")


def test_who_is_revoked_is_left_out_and_admitted_with_new_keys_alone(
    out: Path, config: Config, tmp_path: Path
) -> None:
    old = node_key(out, GONE)
    revoke(FEDERATION, Places(out), [GONE])
    done = provision(FEDERATION, config, out)
    assert list(states(done)) == [LEFT]
    assert any("is left out. It can be admitted again with new keys" in it for it in done.notes)

    theirs = make_request(GONE, tmp_path / "theirs").folder
    node, trainer = theirs / "node.csr", theirs / "trainer.csr"
    with pytest.raises(ConfigError, match=r"give both node\.csr and trainer\.csr"):
        provision(FEDERATION, config, out, requests=[node], replace=[GONE])
    with pytest.raises(ConfigError, match="--replace 'Cleveland'"):
        provision(FEDERATION, config, out, requests=[node, trainer])
    again = provision(FEDERATION, config, out, requests=[node, trainer], replace=[GONE])
    assert list(states(again)) == [GONE, LEFT]
    check_sound(out, FEDERATION)
    assert list(load_coordinator_kit(out / "coordinator").institutions) == [GONE, LEFT]
    # Its old keys stay on the list, and it is an institution like any other from now on
    assert read_revocations(out / "coordinator" / FILE).get(old) is not None
    assert set(states(provision(FEDERATION, config, out)).values()) == {"unchanged"}
    revoke(FEDERATION, Places(out), [GONE])
    assert len(read_revocations(out / "coordinator" / FILE).of(GONE)) == 4


def test_a_revoked_key_is_taken_from_nobody(config: Config, tmp_path: Path) -> None:
    out, theirs = tmp_path / "kits", make_request(GONE, tmp_path / "theirs").folder
    requests = [theirs / "node.csr", theirs / "trainer.csr"]
    provision(FEDERATION, config, out, requests=requests)
    revoke(FEDERATION, Places(out), [GONE])
    with pytest.raises(ConfigError, match="which was revoked on") as raised:
        provision(FEDERATION, config, out, requests=requests, replace=[GONE])
    assert len(raised.value.problems) == 2


def test_unknown_names_are_told_and_nothing_is_written(out: Path) -> None:
    before = files(out)
    with pytest.raises(ConfigError, match=r"institutions=\[Cleveland, VA Long Beach\]") as raised:
        revoke(FEDERATION, Places(out), ["Clevland", GONE, "nobody"])
    assert [it.split(":")[0] for it in raised.value.problems] == [
        "--revoke 'Clevland'",
        "--revoke 'nobody'",
    ]
    assert files(out) == before
    with pytest.raises(ConfigError, match="holds no federation"):
        revoke(FEDERATION, Places(out.parent / "elsewhere"), [GONE])


def test_revoking_again_says_since_when_and_changes_nothing(out: Path) -> None:
    revoke(FEDERATION, Places(out), [GONE], now=NOW)
    before = files(out)
    told = revoke(FEDERATION, Places(out), [GONE])
    assert f"was revoked on {NOW:%Y-%m-%d}, and has no other key to revoke" in told[0]
    assert files(out) == before


def test_the_last_ones_are_revoked_and_it_is_said_what_that_means(out: Path) -> None:
    told = revoke(FEDERATION, Places(out), [GONE, LEFT])
    assert told[-1].startswith("Nobody is left")
    assert load_coordinator_kit(out / "coordinator").institutions == {}


def test_who_left_the_yaml_can_be_revoked_too(out: Path, config: Config) -> None:
    rest = replace(FEDERATION, institutions=[LEFT])
    provision(rest, config, out)
    revoke(rest, Places(out), [GONE])
    assert len(read_revocations(out / "coordinator" / FILE).of(GONE)) == 2


def test_a_revocation_touches_nothing_that_the_yaml_has_new(out: Path) -> None:
    revoke(replace(LONGER, hosts=["new.example.org"]), Places(out), [GONE])
    roster = json.loads((out / "coordinator" / "federation.json").read_text())
    assert roster["hosts"] == FEDERATION.hosts
    assert list(roster["institutions"]) == [LEFT]


def test_the_command_revokes_and_the_audit_log_knows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fed.yaml"
    path.write_text("name: heart\nhosts: [127.0.0.1]\ninstitutions: [A, B]\n")
    assert confide.cli.main(["provision", str(path)]) == 0
    capsys.readouterr()
    assert confide.cli.main(["provision", str(path), "--revoke", "B"]) == 0
    assert "B is revoked: its node's key SHA256:" in capsys.readouterr().out
    lines = [it for path in files_of(tmp_path / "kits" / "audit") for it in lines_of(path)]
    events = [it.event for it in lines if it.event is not None]
    told = [it.content["certificate"] for it in events if it.kind == "revoked"]
    assert sorted(told) == ["node of B", "trainer of B"]
    assert confide.cli.main(["provision", str(path), "--revoke", "C"]) == 2
    assert confide.cli.main(["provision", str(path), "--revoke", "A", "--replace", "A"]) == 2
    assert "--revoke does nothing else" in capsys.readouterr().err
