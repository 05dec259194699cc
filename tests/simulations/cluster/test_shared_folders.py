"""Folders that all machines have to share are tried out."""

import subprocess
import sys
from pathlib import Path

import pytest

from confide.simulations.cluster.shared_folders import Probe, Probes

ASK = """
import sys
from pathlib import Path
from confide.simulations.cluster.shared_folders import Probe
print(Probe(setting="client.ledger", folder=Path(sys.argv[1]), files=tuple(sys.argv[2:])).problem())
"""


def asked(probe: Probe, folder: Path) -> str:
    """Ask another process, which holds none of this one's locks."""
    command = [sys.executable, "-c", ASK, str(folder), *probe.files]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledgers"


def test_a_folder_that_is_seen_and_locked_is_none_to_complain_of(folder: Path) -> None:
    probes = Probes({"client.ledger": folder})
    assert asked(probes.probes[0], folder) == "None"
    probes.close()
    assert list(folder.iterdir()) == []


def test_another_folder_is_told_apart(folder: Path, tmp_path: Path) -> None:
    probes = Probes({"client.ledger": folder})
    said = asked(probes.probes[0], tmp_path)
    assert said.startswith(f"client.ledger={tmp_path}: ")
    assert "does not see what this machine writes" in said
    assert "choose a folder that every machine of the cluster shares" in said
    probes.close()


@pytest.mark.parametrize("free", [0, 1])
def test_locks_that_do_not_hold_are_told(folder: Path, free: int) -> None:
    probes = Probes({"client.ledger": folder})
    probe = probes.probes[0]
    unlocked = folder / "unlocked"
    unlocked.touch()
    files = tuple("unlocked" if n == free else name for n, name in enumerate(probe.files))
    other = Probe(setting=probe.setting, folder=folder, files=(files[0], files[1]))
    assert "does not heed the locks of this machine" in asked(other, folder)
    probes.close()
