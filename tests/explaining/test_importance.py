"""Importance by permutation, and dependence, of a model whose weights are known."""

from pathlib import Path

import pytest
from explained_models import drawn_loans, rows_of, save_loans

from confide.explaining.dependence import partial_dependence
from confide.explaining.importance import permutation_importance


def test_a_column_the_model_does_not_use_loses_nothing_and_others_do(tmp_path: Path) -> None:
    predictor = save_loans(tmp_path)
    found = permutation_importance(predictor, rows_of(predictor), drawn_loans(150))
    by_name = {it.column: it for it in found.columns}
    assert found.metric == "accuracy"
    assert found.records == 150
    assert by_name["shoe"].low <= 0 <= by_name["shoe"].high
    for name in ("income", "debt"):
        assert 0.05 < by_name[name].low <= by_name[name].loss <= by_name[name].high
    # debt weighs more, and so more is lost without it
    assert [it.column for it in found.columns][:2] == ["debt", "income"]


def test_labels_that_tell_nothing_leave_every_interval_around_zero(tmp_path: Path) -> None:
    predictor, columns = save_loans(tmp_path), drawn_loans(150)
    columns["state"] = ["approved", "refused"] * 75
    found = permutation_importance(predictor, rows_of(predictor), columns)
    assert all(it.low <= 0 <= it.high for it in found.columns)


def test_the_mean_moves_with_a_column_as_the_model_says(tmp_path: Path) -> None:
    predictor = save_loans(tmp_path)
    found = partial_dependence(
        rows_of(predictor), drawn_loans(12), lambda outputs: outputs[:, 1] - outputs[:, 0]
    )
    by_name = {it.column: it for it in found}
    assert [it.column for it in found][:2] == ["debt", "income"]
    # Linear inputs go from one end of the range to the other
    ends = by_name["income"].mean[[0, -1]].tolist()
    assert ends[1] - ends[0] == pytest.approx(by_name["income"].reach, abs=1e-5)
    assert by_name["shoe"].reach == pytest.approx(0, abs=1e-5)
    assert by_name["house"].values == ["none", "rents", "owns"]
    assert by_name["house"].records.shape == (12, 3)
    assert (by_name["income"].values[0], by_name["income"].values[-1]) == ("0", "100")
