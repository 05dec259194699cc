"""A coordinator that names an address keeps its dashboard running beside a run."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from confide.server.deployment.kit import CoordinatorKit, load_coordinator_kit
from confide.server.deployment.launch import supervised
from confide.server.provisioning.provision import provision, read_federation
from confide.server.run_folder import decides


@pytest.fixture(name="kit")
def make_kit(tmp_path: Path) -> CoordinatorKit:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    told = {"name": "t", "hosts": ["127.0.0.1"], "port": port, "institutions": ["ward"]}
    told["config"] = ["experiment=heart_disease"]
    (tmp_path / "fed.yaml").write_text(yaml.safe_dump(told))
    provision(*read_federation(tmp_path / "fed.yaml"), tmp_path / "kits")
    return load_coordinator_kit(tmp_path / "kits" / "coordinator")


def test_it_is_kept_beside_the_others_and_none_where_none_is_named(
    kit: CoordinatorKit, tmp_path: Path
) -> None:
    with supervised(kit, tmp_path) as plain:
        assert [program.name for program in plain.programs] == ["superlink", "front", "rounds"]
    with supervised(kit, tmp_path, listen="127.0.0.1:9108") as shown:
        first = shown.programs[0]
        assert [program.name for program in shown.programs[1:]] == ["superlink", "front", "rounds"]
    assert list(first.command)[3:] == [
        "dashboard",
        str(kit.folder),
        "--listen",
        "127.0.0.1:9108",
        "--with-parent",
    ]
    assert not first.is_final
    assert first.most_failures is None


def test_a_run_may_go_on_with_another_address() -> None:
    assert not decides("server.dashboard")


def test_an_address_that_others_reach_is_refused_before_anything_starts(
    kit: CoordinatorKit, tmp_path: Path
) -> None:
    words = ["experiment=heart_disease", "server.dashboard=0.0.0.0:9108"]
    words.append(f"hydra.run.dir={tmp_path / 'run'}")
    command = [sys.executable, "-m", "confide.cli", "server", str(kit.folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2
    assert "server.dashboard=0.0.0.0:9108: this page has neither password" in done.stderr
    assert not kit.state.exists()
