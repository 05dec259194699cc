"""Provisioning with passphrases: each key that has one is encrypted, and found again."""

from pathlib import Path

import pytest
from provisioned import FEDERATION, LONGER, check_sound, files, states

from confide.config.run import Config
from confide.errors import UnreadableError
from confide.security import ec_keys
from confide.security.passphrases import FOLDER
from confide.server.provisioning.provision import make_request, provision

ENCRYPTED = ("ca.key", "server.key", "heads.key", "node.key", "trainer.key")


@pytest.fixture
def passphrases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "passphrases"
    folder.mkdir()
    for name in ENCRYPTED:
        path = folder / f"{name}.passphrase"
        path.write_text(f"of {name}\n")
        path.chmod(0o600)
    monkeypatch.setenv(FOLDER, str(folder))
    return folder


def test_all_keys_but_loopbacks_are_encrypted(
    config: Config, tmp_path: Path, passphrases: Path
) -> None:
    out = tmp_path / "kits"
    provision(FEDERATION, config, out)
    for path in out.rglob("*.key"):
        # SuperLink reads it itself, and has no passphrase; it is worth something here alone
        assert ec_keys.is_encrypted(path) is (path.name != "loopback.key"), path
        assert path.stat().st_mode & 0o777 == 0o600
    check_sound(out, FEDERATION)
    before = files(out)
    assert set(states(provision(FEDERATION, config, out)).values()) == {"unchanged"}
    assert files(out) == before


def test_the_authoritys_passphrase_is_asked_for_when_something_is_signed(
    config: Config, tmp_path: Path, passphrases: Path
) -> None:
    out = tmp_path / "kits"
    provision(FEDERATION, config, out)
    (passphrases / "ca.key.passphrase").unlink()
    before = files(out)
    provision(FEDERATION, config, out)
    assert files(out) == before
    with pytest.raises(UnreadableError, match=r"authority/ca\.key is encrypted, and its passph"):
        provision(LONGER, config, out)


def test_an_institution_encrypts_its_own_keys(tmp_path: Path, passphrases: Path) -> None:
    made = make_request("Cleveland", tmp_path / "theirs").folder
    assert ec_keys.is_encrypted(made / "node.key")
    assert ec_keys.is_encrypted(made / "trainer.key")
    before = files(made)
    make_request("Cleveland", made)
    assert files(made) == before
