"""What a run's process makes of keys that were revoked."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from confide.errors import ConfigError
from confide.server.deployment import gone
from confide.server.deployment.gone import Gone, withdraw_revoked
from confide.server.deployment.kit import load_coordinator_kit
from confide.server.provisioning.files import Places
from confide.server.provisioning.provision import provision, read_federation
from confide.server.provisioning.revoke import revoke
from confide.server.rounds.checkpoint import Checkpoint, CheckpointStore
from confide.server.rounds.state import RunState
from confide.server.run.withdrawal import withdrawals

TEXT = "name: t\nhosts: [127.0.0.1]\ninstitutions: [A, B, C]\nconfig: [experiment=heart_disease]\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gone")
    (folder / "fed.yaml").write_text(TEXT)
    provision(*read_federation(folder / "fed.yaml"), folder / "kits")
    return folder


@pytest.fixture
def fed(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "fed"))


def revoke_in(fed: Path, name: str) -> None:
    federation, _ = read_federation(fed / "fed.yaml")
    revoke(federation, Places(fed / "kits"), [name])


class Control:
    """Remembers which nodes are refused."""

    def __init__(self) -> None:
        self.refused: list[int] = []

    def unregister(self, node: int) -> None:
        self.refused.append(node)


def test_a_run_hears_of_it_once_and_superlink_too(
    fed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gone, "_LOOK_S", 0.0)
    kit, control, told = load_coordinator_kit(fed / "kits" / "coordinator"), Control(), []
    names: Mapping[int, str] = {11: "A", 12: "B", 13: "C"}
    asked = Gone(kit, lambda name, key: told.append((name, key)))
    asked.known_by(control, names)  # type: ignore[arg-type]  # what it calls alone
    assert asked() == frozenset()
    revoke_in(fed, "B")
    assert asked() == asked() == {"B"}
    assert control.refused == [12]
    assert [name for name, _ in told] == ["B"]
    (fed / "kits" / "coordinator" / "revoked.json").unlink()
    assert asked() == {"B"}


def test_the_file_is_looked_at_once_a_second(fed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gone, "_LOOK_S", 1000.0)
    asked = Gone(load_coordinator_kit(fed / "kits" / "coordinator"), lambda name, key: None)
    assert asked() == frozenset()
    revoke_in(fed, "B")
    assert asked() == frozenset()


def checkpoint(folder: Path) -> None:
    state = RunState(server_round=2, params={"w": torch.zeros(2)}, strategy_state={})
    store = CheckpointStore(folder / "checkpoints", kept=1)
    store.save(Checkpoint(state=state, clients={"A": 5, "B": 6, "C": 7}, ledger_heads={}))


def test_a_run_that_goes_on_does_so_without_those_who_were_revoked(
    fed: Path, tmp_path: Path
) -> None:
    run, coordinator = tmp_path / "run", fed / "kits" / "coordinator"
    assert withdraw_revoked(load_coordinator_kit(coordinator), run, least=2) == []
    checkpoint(run)
    revoke_in(fed, "B")
    with pytest.raises(ConfigError, match=r"revoked in .*: 2 of 3 institutions would be left"):
        withdraw_revoked(load_coordinator_kit(coordinator), run, least=3)
    (entry,) = withdraw_revoked(load_coordinator_kit(coordinator), run, least=2)
    assert entry.name == "B"
    assert withdrawals(run)["B"].after_round == 2
    assert json.loads((run / "checkpoints" / "withdrawn.json").read_text())["B"] == {
        "after_round": 2,
        "num_examples": 6,
    }
    # Once, whoever asks again
    assert withdraw_revoked(load_coordinator_kit(coordinator), run, least=2) == []
