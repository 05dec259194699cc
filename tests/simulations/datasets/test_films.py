"""Titles and genres of films: all of them, and a message where the package is not there."""

import importlib.util

import pytest

from confide.config.composing.compose import compose
from confide.errors import ConfigError
from confide.simulations.datasets import films


def test_films_have_titles_and_the_genres_that_the_task_knows() -> None:
    if importlib.util.find_spec("recbole") is None:  # importing it takes seconds
        pytest.skip("recbole is not installed: its records are for research alone")
    table = films.titles()
    assert len(table) == 1682
    config = compose(["experiment=titles"])
    known = {*config.task.outcome.labels, ""}  # type: ignore[attr-defined]
    assert {genre for genres in table["genres"] for genre in genres.split("|")} == known
    assert table.loc[0].tolist() == ["Toy Story", "Animation|Children's|Comedy", "Animation"]
    assert (table["genres"] == "").sum() == (table["first"] == "none").sum() == 2


def test_a_package_that_is_not_there_is_named_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("confide.simulations.datasets.films._FILE", "pkg://recbole/nothing")
    with pytest.raises(ConfigError, match="has no nothing"):
        films.titles()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install --no-deps recbole==1"):
        films.titles()
