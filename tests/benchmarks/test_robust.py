"""The heat map of rules and attacks: what is kept of runs, and what is told of them."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def robust(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("robust")


def keep(robust: ModuleType, folder: Path, seed: int, **accuracies: float | None) -> None:
    """Keep 0.9 for every run of a seed, but for those named RULE_ATTACK."""
    for cell in robust.cells([seed]):
        found = accuracies.get(f"{cell.rule}_{cell.attack}", 0.9)
        path = cell.path(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        figures = {"accuracy": found, "success": None}
        path.write_text(json.dumps({"settings": cell.words, "figures": figures}))


def test_losses_are_those_against_fedavg_without_an_attack(
    robust: ModuleType, tmp_path: Path
) -> None:
    keep(robust, tmp_path, 0, FedAvg_alie=0.5, Krum_none=0.8, FedAvg_gaussian=None)
    losses = robust.lost(robust.means(tmp_path, [0]), 1.0)
    assert losses.loc["FedAvg", "alie"] == 40.0
    assert losses.loc["Krum", "none"] == 10.0
    assert losses.loc["FedAvg", "gaussian"] == 90.0  # a run that failed has lost all
    assert losses.loc["median", "alie"] == 0.0


def test_only_what_all_seeds_have_is_told(robust: ModuleType, tmp_path: Path) -> None:
    keep(robust, tmp_path, 0)
    keep(robust, tmp_path, 1, FedAvg_none=0.7)
    one = next(cell for cell in robust.cells([1]) if cell.rule == "Krum")
    one.path(tmp_path).unlink()
    table = robust.means(tmp_path, [0, 1]).set_index(["alpha", "rule", "attack"])
    assert (1.0, "Krum", "none") not in table.index
    assert (1.0, "Krum", "alie") in table.index
    assert table.loc[(1.0, "FedAvg", "none"), "accuracy"] == pytest.approx(80.0)


def test_the_picture_and_the_table_are_made_of_what_is_kept(
    robust: ModuleType, tmp_path: Path
) -> None:
    keep(robust, tmp_path, 0, FedAvg_alie=0.5)
    table = robust.means(tmp_path, [0])
    robust.draw(table, tmp_path / "robust.svg")
    assert (tmp_path / "robust.svg").stat().st_size > 10_000
    assert "| `alie` | 40.0 | 0.0: norm bound | 40.0 | 0.0: norm bound |" in robust.markdown(table)


def test_a_run_is_that_of_its_own_settings(robust: ModuleType, tmp_path: Path) -> None:
    """Composed once a rule, a cell's config is the one that its words say."""
    robust.write_records(tmp_path)
    cell = robust.Cell(seed=3, alpha=0.1, rule="NNM, median", attack="alie")
    path = tmp_path / "digits.csv"
    with robust.own_configs([], more=[tmp_path / "conf"]):
        composed = robust.compose([*cell.words, f"data.path={path}"])
        assert robust.config_of(cell, path) == composed
