"""Recommendation from interactions to report: by user, on every engine, resumed, predicted."""

from pathlib import Path

import pandas
import pytest
from small_items import ITEMS, interactions, words
from stopped_run import Simulate, stopped

from confide.client.commands.data import main as check
from confide.client.commands.predict import main
from confide.config.composing.compose import compose
from confide.errors import ConfideError, DataError
from confide.inference.export import export
from confide.inference.prediction import predict
from confide.server.report.card import model_card
from confide.server.report.page import report_page
from confide.server.report.read import read_run
from confide.simulations.commands.partition import main as partition

USER = ("privacy=group", "privacy.epsilon=8", "client=default", "server.num_rounds=2")


def test_a_run_is_scored_beside_what_is_popular(run: Simulate, tmp_path: Path) -> None:
    summary = run(*words(tmp_path))
    assert set(summary["references"]) == {"popularity", "nearest text"}
    scores = {**summary["references"], "model": summary["federated"]}
    assert {"hit_rate_10", "ndcg_10", "mrr", "next_item_loss"} <= set(scores["model"])
    assert len({one["test_examples"] for one in scores.values()}) == 1
    page = report_page(read_run(tmp_path / "run"))
    assert "nearest text" in page
    assert ("wins:" in page) != ("better than every simple predictor" in page)
    assert "without privacy" in model_card(read_run(tmp_path / "run"))


def test_no_user_is_in_two_splits(run: Simulate, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.group_column=None: of two records .*=user"):
        run(*words(tmp_path, "data.group_column=null"))


def test_users_are_units_and_records_are_told_to_flatter(run: Simulate, tmp_path: Path) -> None:
    given = words(tmp_path)
    assert not compose([*given, *USER]).task.unit_note("group")
    summary = run(*given, *USER, "privacy=record", name="record")
    assert "one of up to 16 records of a user" in summary["privacy"]["flatters"]
    assert "its epsilon flatters" in report_page(read_run(tmp_path / "record"))


@pytest.mark.parametrize(
    "more", [USER, pytest.param(("simulation.engine=process",), marks=pytest.mark.slow)]
)
def test_a_run_stopped_twice_ends_as_the_undisturbed_one(
    run: Simulate, tmp_path: Path, more: tuple[str, ...]
) -> None:
    overrides = [*words(tmp_path), *more, "server.num_rounds=3"]
    expected = run(*overrides, name="undisturbed")
    stopped(run, *overrides, after=1)
    summary = run(*overrides, resume=True)
    assert summary["model_sha256"] == expected["model_sha256"]
    assert summary["federated"] == expected["federated"]


@pytest.mark.slow
def test_processes_give_the_same_weights(run: Simulate, tmp_path: Path) -> None:
    given = [*words(tmp_path), *USER]
    inline = run(*given, name="inline")
    process = run(*given, "simulation.engine=process", "simulation.workers=2", name="process")
    assert process["model_sha256"] == inline["model_sha256"]


@pytest.mark.parametrize("form", ["hf", pytest.param("onnx", marks=pytest.mark.slow)])
def test_exported_models_recommend_the_same(run: Simulate, tmp_path: Path, form: str) -> None:
    run(*words(tmp_path))
    assert export(tmp_path / "run", form).exact
    records = pandas.DataFrame({"history": ['["i1", "i4"]', "[]"]})
    own = predict(tmp_path / "run", records)
    assert own.columns[:2].tolist() == ["item_1", "text_1"]
    other = predict(tmp_path / "run" / "export" / form, records)
    pandas.testing.assert_frame_equal(own, other)


def test_interactions_give_a_line_a_user(run: Simulate, tmp_path: Path) -> None:
    run(*words(tmp_path))
    rows = interactions()
    made = predict(tmp_path / "run", rows)
    assert made["user"].tolist() == list(dict.fromkeys(sorted(rows["user"])))
    taken = rows.groupby("user")["item"].agg(set)
    named = made.filter(regex="^item_").apply(set, axis=1)
    assert not any(taken[user] & items for user, items in zip(made["user"], named, strict=True))
    file, output = tmp_path / "interactions.csv", tmp_path / "predicted.csv"
    assert main([str(tmp_path / "run"), str(file), "--output", str(output)]) == 0
    assert pandas.read_csv(output)["item_1"].tolist() == made["item_1"].tolist()


def test_a_check_looks_items_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = words(tmp_path)
    rows = interactions().replace({"item": {"i3": "gone"}})
    rows.to_csv(tmp_path / "interactions.csv", index=False)
    assert check(["check", *given]) == 0
    told = capsys.readouterr().out
    assert "records were made of" in told
    assert f"The catalogue of {ITEMS} items lacks" in told


@pytest.mark.slow
def test_records_that_were_made_already_are_taken_as_they_are(
    run: Simulate, tmp_path: Path
) -> None:
    given = words(tmp_path)
    assert partition([str(tmp_path / "parts"), *given]) == 0
    again = [*given, f"data.path={tmp_path / 'parts'}", "data.partition_by=null"]
    summary = run(*again, name="again")
    assert summary["model_sha256"] == run(*given, name="rows")["model_sha256"]


def test_a_folder_of_shops_is_read_shop_by_shop(run: Simulate, tmp_path: Path) -> None:
    (tmp_path / "shops").mkdir()
    for name, part in interactions().groupby("shop"):
        part.drop(columns="shop").to_csv(tmp_path / "shops" / f"{name}.csv", index=False)
    given = [*words(tmp_path), f"data.path={tmp_path / 'shops'}", "data.partition_by=null"]
    summary = run(*given)
    assert list(summary["clients"]) == ["shop-1", "shop-2"]
    assert any(note.startswith("shop-1: ") for note in summary["data"]["notes"])


def test_a_task_of_records_is_not_taken_for_one_of_rows(tmp_path: Path) -> None:
    with pytest.raises(ConfideError, match=r"records of task\.kind=recommendation have next_item"):
        compose(words(tmp_path, "task/outcome=regression"))
