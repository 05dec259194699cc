"""The page of explanations: one file without scripts, told without colours too."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from browsing import STICKING_OUT, browser
from datasets import Dataset
from explained_models import drawn_loans, save_loans, save_plan
from pictures_made import build_pictures, cell, drawn
from playwright.sync_api import Browser
from small_models import TEXT, make_backbone
from small_seq2seq import TASK, make_seq2seq

from confide.config.models.cnn import CnnConfig
from confide.config.models.perceptrons import LogisticConfig
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.tabular import TabularConfig
from confide.explaining.asked import Asked, answerable
from confide.explaining.drawings import round_numbers
from confide.explaining.explanation import WARNING, Explaining, Explanations
from confide.explaining.page import page_of
from confide.explaining.sentences import all_sentences, as_json, record_sentences
from confide.inference.inputs import read_inputs
from confide.inference.predictor import Predictor

__all__ = ["browser"]


def explained(predictor: Predictor, given: Dataset, **asked: object) -> Explanations:
    wanted = dataclasses.replace(Asked(), **asked)  # type: ignore[arg-type]
    able = answerable(predictor, wanted)
    inputs = read_inputs(predictor, given)
    return Explaining(predictor, inputs, wanted, able).explain(title="Classification")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A page of a table, of texts, of pictures and of what was written."""
    folder = tmp_path_factory.mktemp("pages")
    loans = explained(save_loans(folder / "loans"), Dataset.from_dict(drawn_loans(40)))
    words = Dataset.from_dict({"text": ["a <b>very</b> good crew & kind", "x" * 200]})
    texts = explained(save_plan(folder / "texts", TEXT, make_backbone(folder / "tiny")), words)
    shown = Dataset.from_dict({"image": [cell(drawn())]})
    pictures = explained(
        save_plan(folder / "pictures", build_pictures(), CnnConfig(widths=[4])), shown
    )
    numbers = Dataset.from_dict({"source": ["one two <three>", "nine"]})
    written = explained(
        save_plan(folder / "written", TASK, make_seq2seq(folder / "marian"), "lora"), numbers
    )
    made = {"loans": loans, "texts": texts, "pictures": pictures, "written": written}
    return {name: page_of(it) for name, it in made.items()}


def test_pages_run_nothing_load_nothing_and_say_whose_they_are(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert "<script" not in page
        assert not re.search(r"(?:src|href)=\"(?!data:image/png)", page)
        assert "default-src 'none'" in page
        assert WARNING in page


def test_a_token_is_text_and_its_sign_is_told_beside_its_colour(pages: dict[str, str]) -> None:
    page = pages["texts"]
    assert "<b>very" not in page
    assert "&lt;" in page
    found = re.findall(r'word (for|against)"[^>]*>[^<]*</span><small>(.)', page)
    assert {("for", "+"), ("against", "−")} == set(found)


def test_pages_fit_any_window_and_label_their_drawings(
    pages: dict[str, str], browser: Browser
) -> None:
    for width in (1280, 400):
        for scheme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": width, "height": 900},
                color_scheme=scheme,  # type: ignore[arg-type]
            )
            shown = context.new_page()
            for name, page in pages.items():
                shown.set_content(page)
                assert shown.evaluate(STICKING_OUT) == [], (name, width)
                unnamed = "it => !it.getAttribute('alt') && !it.getAttribute('aria-label')"
                drawn_ones = f"[...document.querySelectorAll('img, svg')].filter({unnamed}).length"
                assert shown.evaluate(drawn_ones) == 0
            context.close()


def test_sentences_and_json_tell_the_same(tmp_path: Path) -> None:
    made = explained(
        save_loans(tmp_path), Dataset.from_dict(drawn_loans(40)), records=[2], goal="approved"
    )
    (one,) = made.records
    told = json.loads(json.dumps(as_json(made)))
    assert told["warning"] == WARNING
    record = told["records"][0]
    assert record["record"] == 2
    assert record["attributions"]["complete"] is True
    added = {it["unit"]: it["adds"] for it in record["attributions"]["units"]}
    assert sum(added.values()) == pytest.approx(record["attributions"]["sum"])
    text = "\n".join([*record_sentences(one), *all_sentences(made)])
    assert f"predicted {one.target.prediction}" in text
    assert "error 0.00%" in text
    changes = record["counterexample"].get("changes", [])
    for change in changes:
        assert f"{change['column']} were {change['after']} (is {change['before']})" in text
    assert bool(changes) != record["counterexample"].get("already", False)
    # A linear model is a sum of curves, and they are exact
    assert told["curves"]["exact"] is True
    assert {it["column"] for it in told["dependence"]} == {"income", "debt", "house", "shoe"}


def test_ticks_are_round_and_whole_where_values_are(pages: dict[str, str]) -> None:
    # Debt from 0 to 50, and shoes from 30 to 50, in whole numbers
    ticks = set(re.findall(r'y="114.0"[^>]*>([^<]+)<', pages["loans"]))
    assert {"0", "20", "40", "60", "80", "100", "10", "30", "50"} <= ticks
    assert all("." not in it for it in ticks)
    assert round_numbers(20, 90) == [20, 40, 60, 80]
    assert round_numbers(0, 1, is_whole=True) == [0, 1]


def test_every_column_is_drawn_or_what_is_left_out_is_said(tmp_path: Path) -> None:
    columns = {f"c{at}": ColumnConfig(minimum=0, maximum=1) for at in range(33)}
    task = TabularConfig(labels=["no", "yes"], label_column="state", columns=columns)
    rows = {name: ["0", "0.5", "1"] for name in columns}
    predictor = save_plan(tmp_path, task, LogisticConfig())
    page = page_of(explained(predictor, Dataset.from_dict(rows), parts=["dependence"]))
    assert page.count("<svg") == 30
    assert "30 of 33 columns are drawn, those that move it furthest; JSON has all." in page
