"""Figures of names in any script: drawn without a word about fonts."""

import warnings

import pytest

from confide.pages.figures import new_axes, picture


@pytest.mark.parametrize("name", ["北京第一医院", "مستشفى", "病院", "clinic 🏥", "Ж" * 300])
def test_names_in_other_scripts_are_drawn_without_warnings(name: str) -> None:
    figure, axes = new_axes(2.0)
    axes.barh([0], [1.0])
    axes.set_yticks([0], [name[:30]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = picture("names", figure, title=name, caption="")
    assert name[:2] in drawn.svg
