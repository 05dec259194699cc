"""Commands that take a kit of either side, in a project's folder."""

from pathlib import Path

import pytest

from confide.deployment.either_kit import kit_and_overrides, module_of
from confide.errors import ConfigError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with configs of its own, and a kit of each side."""
    for kit, file in {"ward": "client.yaml", "coordinator": "federation.json"}.items():
        (tmp_path / kit).mkdir()
        (tmp_path / kit / file).touch()
    (tmp_path / "conf").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_own_configs_are_nothing_to_a_coordinators_kit(project: Path) -> None:
    assert kit_and_overrides(["coordinator"], [], []) == (project / "coordinator", [], "server")


def test_own_configs_are_found_for_an_institutions_kit(project: Path) -> None:
    folder, overrides, side = kit_and_overrides(["ward"], ["device=cpu"], [])
    assert (folder, side) == (project / "ward", "client")
    assert overrides == ["device=cpu", f"hydra.searchpath=['{project / 'conf'}']"]


def test_configs_named_for_a_coordinators_kit_are_refused(project: Path) -> None:
    with pytest.raises(ConfigError, match="--config-dir: a coordinator's kit"):
        kit_and_overrides(["coordinator"], [], ["conf"])


@pytest.mark.parametrize("name", ["commands.doctor", "monitoring.site"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_both_sides_have_what_is_looked_up_by_name(side: str, name: str) -> None:
    assert module_of(side, name).__name__ == f"confide.{side}.{name}"


def test_a_folder_with_both_is_no_kit(project: Path) -> None:
    (project / "ward" / "federation.json").touch()
    with pytest.raises(ConfigError, match=r"ward holds both of client\.yaml and federation\.json"):
        kit_and_overrides(["ward"], [], [])
