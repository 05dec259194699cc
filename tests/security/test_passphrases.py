"""Keys that are encrypted, and where their passphrases come from."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from confide.errors import UnreadableError
from confide.security import ec_keys
from confide.security.passphrases import CREDENTIALS, FOLDER, passphrase_for

KEY = ec_keys.make_key()
WORDS = "four words nobody guesses"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(CREDENTIALS, raising=False)
    made = tmp_path / "passphrases"
    made.mkdir()
    monkeypatch.setenv(FOLDER, str(made))
    return made


def passphrase(folder: Path, name: str, words: str = WORDS, mode: int = 0o600) -> Path:
    path = folder / f"{name}.passphrase"
    path.write_text(f"{words}\n")
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("name", "read", "new"),
    [
        ("trainer.key", ec_keys.read_private_key, ec_keys.new_pem),
        ("node.key", ec_keys.read_node_key, ec_keys.new_node_text),
    ],
)
def test_a_key_is_encrypted_where_there_is_a_passphrase_for_it(
    name: str,
    read: Callable[[Path], ec_keys.PrivateKey],
    new: Callable[[Path], str],
    folder: Path,
    tmp_path: Path,
) -> None:
    plain, path = tmp_path / "plain" / name, tmp_path / name
    plain.parent.mkdir()
    plain.write_text(new(plain))
    assert not ec_keys.is_encrypted(plain)
    passphrase(folder, name)
    path.write_text(new(path))
    assert path.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert read(path).public_key() != read(plain).public_key()  # one that is not is read as before
    shown = subprocess.run(
        ["openssl", "pkey", "-in", str(path), "-passin", "stdin", "-noout", "-text"],
        input=f"{WORDS}\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "NIST CURVE: P-384" in shown.stdout


def test_a_passphrase_that_is_missing_or_another_is_told_in_a_sentence(
    folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "trainer.key"
    path.write_text(ec_keys.private_pem(KEY, WORDS.encode()))
    with pytest.raises(UnreadableError, match="is encrypted, and its passphrase is not") as raised:
        ec_keys.read_private_key(path)
    assert "trainer.key.passphrase of the folder that CONFIDE_PASSPHRASES names" in str(
        raised.value
    )
    passphrase(folder, "trainer.key", "others")
    with pytest.raises(UnreadableError, match="encrypted with another passphrase than") as raised:
        ec_keys.read_private_key(path)
    assert "others" not in str(raised.value)
    passphrase(folder, "trainer.key")
    assert ec_keys.read_private_key(path) is not None


def test_systemds_credentials_come_first_and_their_mode_is_systemds(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    monkeypatch.setenv(CREDENTIALS, str(credentials))
    passphrase(folder, "ca.key", "of the folder")
    assert passphrase_for(Path("ca.key")) == b"of the folder"
    passphrase(credentials, "ca.key", "of the service", mode=0o440)
    assert passphrase_for(Path("ca.key")) == b"of the service"
    assert passphrase_for(Path("heads.key")) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_passphrase_that_others_may_read_or_write_is_refused(mode: int, folder: Path) -> None:
    passphrase(folder, "ca.key", mode=mode)
    with pytest.raises(UnreadableError, match=rf"mode {mode:04o} .*: others may.*chmod 600"):
        passphrase_for(Path("ca.key"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_passphrase_of_another_user_is_refused(folder: Path) -> None:
    os.chown(passphrase(folder, "ca.key"), 12345, -1)
    with pytest.raises(UnreadableError, match="owner 12345"):
        passphrase_for(Path("ca.key"))


@pytest.mark.parametrize("words", ["", "x" * 1001])
def test_a_passphrase_that_is_none_is_refused(words: str, folder: Path) -> None:
    passphrase(folder, "ca.key", words)
    with pytest.raises(UnreadableError, match="expected a passphrase of 1 to 1000"):
        passphrase_for(Path("ca.key"))


def test_keys_that_are_there_are_encrypted_by_openssl_and_ssh_keygen(
    folder: Path, tmp_path: Path
) -> None:
    """The two commands of docs/operations.md."""
    trainer, node = tmp_path / "trainer.key", tmp_path / "node.key"
    trainer.write_text(ec_keys.private_pem(KEY))
    node.write_text(ec_keys.node_key_text(KEY))
    node.chmod(0o600)
    words = passphrase(folder, "trainer.key")
    shutil.copy(words, passphrase(folder, "node.key"))
    encrypted = tmp_path / "encrypted.key"
    command = ["openssl", "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", str(trainer)]
    subprocess.run([*command, "-out", str(encrypted), "-passout", f"file:{words}"], check=True)
    encrypted.rename(trainer)
    command = ["ssh-keygen", "-q", "-p", "-m", "PKCS8", "-f", str(node), "-P", "", "-N", WORDS]
    subprocess.run(command, check=True, capture_output=True)
    for path, read in ((trainer, ec_keys.read_private_key), (node, ec_keys.read_node_key)):
        assert ec_keys.is_encrypted(path)
        assert read(path).public_key() == KEY.public_key()
