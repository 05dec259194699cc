"""The curves of a model, drawn."""

import json
from pathlib import Path
from typing import Any

import pytest
from report_run import run

from confide.server.report.sections.curves import curves_of_columns
from confide.server.report.write import write_report


def column(reach: float, outputs: int = 1) -> dict[str, Any]:
    heights = [[-reach / 2, reach / 2]] * outputs
    return {"kind": "numeric", "x": [0.0, 12000.0], "y": heights, "missing": [0.0] * outputs}


def keep(folder: Path, *, count: int = 1, outputs: int = 1, **fields: Any) -> Path:
    """Write the curves of a model of so many columns, the last of which reaches furthest."""
    curves = {
        "outputs": [f"log-odds of {i}" for i in range(outputs)],
        "exact": True,
        "intercept": [0.0] * outputs,
        "columns": {f"column {i}": column(float(i + 1), outputs) for i in range(count)},
        "pairs": [],
        **fields,
    }
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "curves.json").write_text(json.dumps(curves))
    return folder


def test_columns_that_reach_furthest_come_first_and_the_rest_is_told(tmp_path: Path) -> None:
    keep(tmp_path, count=14)
    first, further = curves_of_columns(tmp_path), curves_of_columns(tmp_path, 1)
    assert first is not None
    assert further is not None
    assert "column 13" in first.svg
    assert "column 8" in first.svg
    assert "column 7" not in first.svg
    assert "column 7" in further.svg
    assert "column 1" not in further.svg.replace("column 1<", "")
    assert "8 more" in first.caption
    assert "2 more" in further.caption
    assert curves_of_columns(tmp_path, 3) is None


def test_amounts_have_short_labels_in_their_units(tmp_path: Path) -> None:
    picture = curves_of_columns(keep(tmp_path))
    assert picture is not None
    assert ">12k<" in picture.svg


def test_rows_of_one_norm_are_said_to_keep_proportions_only(tmp_path: Path) -> None:
    exact, scaled = (
        curves_of_columns(keep(tmp_path)),
        curves_of_columns(keep(tmp_path, exact=False)),
    )
    assert exact is not None
    assert scaled is not None
    assert "proportions" in scaled.caption
    assert "proportions" not in exact.caption


@pytest.mark.parametrize("text", ["", "[]", "{}", "{"])
def test_damaged_curves_are_none(tmp_path: Path, text: str) -> None:
    keep(tmp_path)
    (tmp_path / "model" / "curves.json").write_text(text)
    assert curves_of_columns(tmp_path) is None


def test_more_outputs_than_colours_are_not_drawn(tmp_path: Path) -> None:
    assert curves_of_columns(keep(tmp_path, outputs=4)) is not None
    assert curves_of_columns(keep(tmp_path, outputs=5)) is None


def test_report_and_card_show_the_curves_of_a_run(tmp_path: Path) -> None:
    folder = run(
        tmp_path / "run",
        "experiment=heart_disease",
        "backbone=additive",
        "backbone.pairs=[[age,sex]]",
        "server.num_rounds=1",
        "simulation.baselines=[]",
    )
    write_report(folder)
    page, card = (folder / "report.html").read_text(), (folder / "model_card.md").read_text()
    assert "What the model learnt of each column" in page
    assert "What further columns add to the log-odds of present" in page
    assert "Surfaces of pairs (age and sex)" in page
    assert "![What columns add to the log-odds of present](curves.svg)" in card
    assert (folder / "curves.svg").read_text().startswith("<svg")
