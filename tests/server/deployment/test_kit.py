"""The coordinator's kit.

What `confide provision` made is found again, and what is missing is named.
"""

import json
from pathlib import Path

import pytest

from confide.config.composing.compose import compose
from confide.deployment.federation import FederationConfig
from confide.errors import ConfigError
from confide.server.deployment.kit import FILE, load_coordinator_kit
from confide.server.provisioning.provision import provision

INSTITUTIONS = ["Cleveland", "VA Long Beach"]


def make(folder: Path, *hosts: str) -> Path:
    federation = FederationConfig(
        name="it's hearts", hosts=list(hosts), port=8555, institutions=INSTITUTIONS
    )
    return provision(federation, compose(["experiment=heart_disease"]), folder).places.coordinator


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made") / "kits", "fed.example.org", "10.0.0.5")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path / "kits", "127.0.0.1")


def test_what_was_provisioned_is_found_again(made: Path) -> None:
    kit = load_coordinator_kit(made)
    assert (kit.name, kit.hosts, kit.port) == ("it's hearts", ("fed.example.org", "10.0.0.5"), 8555)
    assert list(kit.institutions) == INSTITUTIONS
    assert all(
        path.read_text().startswith("ecdsa-sha2-nistp384 ") for path in kit.institutions.values()
    )
    assert kit.outer.ca == kit.inner.ca
    assert kit.outer.certificate != kit.inner.certificate


def test_a_kit_named_relative_to_here_has_absolute_paths(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.parent)
    assert load_coordinator_kit(Path(made.name)).folder == made.resolve()


def test_state_lies_in_the_kit(made: Path) -> None:
    kit = load_coordinator_kit(made)
    assert kit.database.parent == kit.secret.parent == kit.state == made.resolve() / "state"


def test_it_listens_on_every_interface_unless_provisioned_for_loopback(
    made: Path, folder: Path
) -> None:
    assert load_coordinator_kit(made).listens_on() == "0.0.0.0:8555"
    assert load_coordinator_kit(folder).listens_on() == "127.0.0.1:8555"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        '"x"',
        "{}",
        '{"name": "x", "hosts": ["h"], "port": "many", "institutions": {}}',
    ],
)
def test_a_folder_that_is_no_kit_is_told_what_makes_one(folder: Path, text: str | None) -> None:
    (folder / FILE).unlink()
    if text is not None:
        (folder / FILE).write_text(text)
    with pytest.raises(
        ConfigError, match=r"federation\.json cannot be read \(.*name the folder `coordinator`"
    ):
        load_coordinator_kit(folder)


def test_every_file_that_is_missing_is_named(folder: Path) -> None:
    (folder / "loopback.key").unlink()
    institutions = json.loads((folder / FILE).read_text())["institutions"]
    (folder / institutions["Cleveland"]).unlink()
    with pytest.raises(
        ConfigError, match=r"lacks loopback\.key, Cleveland\.pub; run `confide provision` again"
    ):
        load_coordinator_kit(folder)
