"""Reports, cards, comparisons and results of runs with many institutions."""

import json
import re
import shutil
from pathlib import Path

import pandas
import pytest

from confide.config.composing.compose import compose
from confide.errors import UnreadableError
from confide.server.progress.make import make_progress
from confide.server.report.read import read_run
from confide.server.report.write import write_comparison, write_report
from confide.simulations.result import load_run
from confide.simulations.run import simulate

COUNT = 205
POPULATION = [
    "experiment=synthetic_logistic",
    f"data.num_clients={COUNT}",
    "data.generator.num_records=12",
    "data.validation=0",
    "server.num_rounds=1",
    "server.keep=last",
    "client.sampling_rate=0.5",
    "client.local_steps=1",
    "simulation.engine=vectorised",
    "simulation.baselines=[local]",
    "trainer.num_threads=1",
    "tracking=none",
]


@pytest.fixture(scope="module")
def many_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 205 made-up institutions, each with a local model."""
    folder = tmp_path_factory.mktemp("many")
    simulate(compose(POPULATION), folder, progress=make_progress("quiet", "accuracy"))
    write_report(folder)
    return folder


def test_a_page_says_quantiles_and_names_the_few(many_run: Path) -> None:
    page = (many_run / "report.html").read_text()
    many = json.loads((many_run / "summary.json").read_text())["institutions"]
    assert many["count"] == COUNT
    assert all(f'<th scope="col">{name}</th>' in page for name in ("5 %", "median", "95 %"))
    for name in ("accuracy", "local.accuracy", "local_own.accuracy", "num_examples"):
        assert many["figures"][name]["institutions"] > 100, name
    named = set(re.findall(r"institution-\d{3}", page))
    assert named <= {*many["worst"], many["largest"], many["first"], many["last"]}
    assert {*many["worst"]} <= named
    assert f"trained by {COUNT} institutions together" in page
    assert "all 205 are in institutions.parquet" in page
    assert "They were made up from a seed" in page


def test_a_page_draws_all_of_them(many_run: Path) -> None:
    run = read_run(many_run)
    assert len(run.values("num_examples")) == COUNT
    assert run.num_institutions == COUNT
    page = (many_run / "report.html").read_text()
    for title in (
        "Accuracy on each institution&#39;s own test records",
        "Accuracy on the test records of all institutions",
        "Training records of each institution",
        "Labels at each institution",
    ):
        assert title in page


def test_a_card_says_how_results_differ(many_run: Path) -> None:
    card = (many_run / "model_card.md").read_text()
    assert re.search(r"half of \d+ institutions have accuracy between \d\.\d+ and \d\.\d+", card)
    # By number, as nobody who gets the model is told their names
    assert re.search(r"The weakest result is on the own test records of institution \d+:", card)
    assert "institution-" not in card
    assert "205 institutions, institution 1 to institution 205, took part" in card


def test_a_card_tells_of_one_among_many_that_are_as_weak(many_run: Path, tmp_path: Path) -> None:
    """Of more than the summary names, the first row need not be one that it names."""
    tied = tmp_path / "tied"
    shutil.copytree(many_run, tied)
    path = tied / "institutions.parquet"
    table = pandas.read_parquet(path)
    table.loc[:20, "accuracy"], table.loc[:20, "test_examples"] = 0.0, 7
    table.to_parquet(path)
    write_report(tied)
    said = "The weakest result is on the own test records of institution 1: accuracy 0.000 on 7"
    assert said in (tied / "model_card.md").read_text()


def test_a_comparison_says_the_spread(many_run: Path, tmp_path: Path) -> None:
    page = tmp_path / "compare.html"
    run = read_run(many_run)
    write_comparison([run, run], page, title="Two")
    assert "accuracy, own test records" in page.read_text()
    assert re.search(r"median 0\.\d{3} <small>\d\.\d{3}–\d\.\d{3}</small>", page.read_text())


def test_a_result_has_every_row(many_run: Path) -> None:
    result = load_run(many_run)
    rows = result.institutions
    assert list(rows.index) == [f"institution-{i:03}" for i in range(1, COUNT + 1)]
    assert {"records", "local_pooled", "federated_own", "local_own", "rounds"} <= {*rows.columns}
    assert rows.loc["institution-003", "records"] == 12
    shown = result._repr_html_()
    assert "<th>5 %</th>" in shown
    assert "institution-003" not in shown


def test_rows_that_are_gone_are_told(many_run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(many_run, moved)
    (moved / "institutions.parquet").unlink()
    with pytest.raises(UnreadableError, match=r"institutions\.parquet cannot be read"):
        write_report(moved)
    with pytest.raises(UnreadableError, match=r"institutions\.parquet cannot be read"):
        _ = load_run(moved).institutions
