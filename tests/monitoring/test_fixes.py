"""What may be done about each refusal."""

import dataclasses
import re

import pytest

from confide.config.privacy import PolicyConfig
from confide.monitoring.fixes import fix_of, words_of
from confide.protocol.refusals import Refusal


@pytest.mark.parametrize("code", list(Refusal))
def test_every_code_has_a_sentence_and_a_fix_for_both_sides(code: Refusal) -> None:
    assert words_of(code, "Ward") == f"Ward {code.explanation}."
    for sentence in fix_of(code):
        assert sentence[0].isupper() or sentence[0] == "`" or sentence.startswith("state/")
        assert sentence.endswith(".")


@pytest.mark.parametrize("code", list(Refusal))
def test_settings_that_a_fix_names_exist(code: Refusal) -> None:
    known = {field.name for field in dataclasses.fields(PolicyConfig)}
    for sentence in fix_of(code):
        assert set(re.findall(r"policy\.([a-z_]+)", sentence)) <= known, sentence


def test_codes_of_another_release_are_told_as_they_came() -> None:
    assert words_of("new_code: asked 3", "Ward") == (
        "Ward gave a code of another release: new_code: asked 3."
    )
    assert "trainer.log" in fix_of("new_code").institution
