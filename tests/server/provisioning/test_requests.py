"""Institutions that make their own keys and send requests."""

import shutil
from pathlib import Path

import pytest
from provisioned import FEDERATION, KIT, LONGER, check_sound, files, states

from confide.config.run import Config
from confide.errors import ConfigError
from confide.server.provisioning.provision import (
    make_request,
    provision,
)

# --- requests


def test_a_kit_made_from_a_request_holds_no_private_key(config: Config, tmp_path: Path) -> None:
    requested = make_request("Hungary", tmp_path / "theirs")
    requests = [tmp_path / "theirs" / f"{role}.csr" for role in ("node", "trainer")]
    done = provision(LONGER, config, tmp_path / "kits", requests=requests)
    kit = tmp_path / "kits" / "institutions" / "Hungary"
    assert set(files(kit)) == set(KIT) - {"node.key", "trainer.key"}
    assert (kit / "node.pub").read_bytes() == (tmp_path / "theirs" / "node.pub").read_bytes()
    assert done.kits[2].key_fingerprint == requested.key_fingerprint
    check_sound(tmp_path / "kits", LONGER)
    before = files(tmp_path / "kits")
    provision(LONGER, config, tmp_path / "kits")
    assert files(tmp_path / "kits") == before


def test_a_request_made_again_keeps_its_key(tmp_path: Path) -> None:
    make_request("Hungary", tmp_path / "theirs")
    assert (tmp_path / "theirs" / "node.key").stat().st_mode & 0o777 == 0o600
    before = files(tmp_path / "theirs")
    make_request("Hungary", tmp_path / "theirs")
    assert files(tmp_path / "theirs") == before
    make_request("Budapest", tmp_path / "theirs")
    assert {
        name for name, content in files(tmp_path / "theirs").items() if content != before[name]
    } == {"node.csr", "trainer.csr"}


def test_who_makes_its_own_keys_gets_none_for_its_trainer(config: Config, tmp_path: Path) -> None:
    make_request("Hungary", tmp_path / "theirs")
    done = provision(LONGER, config, tmp_path / "kits", requests=[tmp_path / "theirs" / "node.csr"])
    kit = tmp_path / "kits" / "institutions" / "Hungary"
    assert not list(kit.glob("trainer.*"))
    assert done.notes[0].startswith("Hungary has no trainer.crt, which masked sums need")
    again = provision(
        LONGER, config, tmp_path / "kits", requests=[tmp_path / "theirs" / "trainer.csr"]
    )
    assert again.notes == []
    assert states(again)["Hungary"] == "completed"
    check_sound(tmp_path / "kits", LONGER)


def test_another_trainer_is_certified_only_when_told(
    out: Path, config: Config, tmp_path: Path
) -> None:
    make_request("Cleveland", tmp_path / "theirs")
    request = [tmp_path / "theirs" / "trainer.csr"]
    before = files(out)
    with pytest.raises(ConfigError, match=r"The trainer of 'Cleveland' is certified with key SHA"):
        provision(FEDERATION, config, out, requests=request)
    assert files(out) == before
    done = provision(FEDERATION, config, out, requests=request, replace=["Cleveland"])
    assert done.notes == [
        "trainer.crt of Cleveland was replaced: its key was replaced. Send it the file."
    ]
    kit = "institutions/Cleveland"
    after = files(out)
    assert set(before) - set(after) == {f"{kit}/trainer.key"}
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {f"{kit}/trainer.crt", "coordinator/trainers/Cleveland.crt"}
    check_sound(out, FEDERATION)


def test_another_key_is_taken_only_when_told(out: Path, config: Config, tmp_path: Path) -> None:
    make_request("Cleveland", tmp_path / "theirs")
    request = [tmp_path / "theirs" / "node.csr"]
    before = files(out)
    with pytest.raises(
        ConfigError, match=r"'Cleveland' is registered with key SHA256:.*give --replace 'Cleveland'"
    ):
        provision(FEDERATION, config, out, requests=request)
    assert files(out) == before
    done = provision(FEDERATION, config, out, requests=request, replace=["Cleveland"])
    after = files(out)
    assert states(done) == {"Cleveland": "new key", "VA Long Beach": "unchanged"}
    kit = "institutions/Cleveland"
    assert set(before) - set(after) == {f"{kit}/node.key"}
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {f"{kit}/node.pub", f"{kit}/README.md", "coordinator/nodes/Cleveland.pub"}
    check_sound(out, FEDERATION)


def test_wrong_requests_are_all_named(out: Path, config: Config, tmp_path: Path) -> None:
    for folder, name in (("a", "Cleveland"), ("b", "Cleveland"), ("c", "Basel")):
        make_request(name, tmp_path / folder)
    (tmp_path / "d.csr").write_text("hello")
    requests = [*(tmp_path / folder / "node.csr" for folder in "abc"), tmp_path / "d.csr"]
    with pytest.raises(ConfigError) as caught:
        provision(FEDERATION, config, out, requests=requests)
    second, stranger, broken = caught.value.problems
    assert "is a second request of 'Cleveland'" in second
    assert (
        "is of 'Basel', which institutions=[Cleveland, VA Long Beach] lacks; add it there"
        in stranger
    )
    assert "cannot be read as a certificate request" in broken


def test_one_key_for_two_is_refused(config: Config, tmp_path: Path) -> None:
    for name in FEDERATION.institutions:
        make_request(name, tmp_path / "theirs")
        shutil.copy(tmp_path / "theirs" / "node.csr", tmp_path / f"{name}.csr")
    with pytest.raises(
        ConfigError, match="'Cleveland' and 'VA Long Beach' have the same public key"
    ):
        provision(FEDERATION, config, tmp_path / "kits", requests=sorted(tmp_path.glob("*.csr")))


def test_one_trainers_key_for_two_is_refused(config: Config, tmp_path: Path) -> None:
    for name in FEDERATION.institutions:
        make_request(name, tmp_path / "theirs")
        shutil.copy(tmp_path / "theirs" / "trainer.csr", tmp_path / f"{name}.csr")
    with pytest.raises(ConfigError, match="'VA Long Beach' has the public key of the trainer of"):
        provision(FEDERATION, config, tmp_path / "kits", requests=sorted(tmp_path.glob("*.csr")))


def test_a_replacement_needs_a_request(out: Path, config: Config) -> None:
    with pytest.raises(
        ConfigError,
        match="--replace 'Cleveland' needs the request of the new key; give --csr FILE too",
    ):
        provision(FEDERATION, config, out, replace=["Cleveland"])


def test_a_name_that_fits_no_request_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--request='ü+' takes 80 bytes in UTF-8, and a certificate holds 64"
    ):
        make_request("ü" * 40, tmp_path)
