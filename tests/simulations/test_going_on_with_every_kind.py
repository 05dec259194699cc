"""A model of any kind goes on with `backbone=run`: as it was, or trained further, or is refused."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from every_kind import KINDS, STEPS, train, words_of

from confide.config.composing.compose import compose
from confide.errors import ConfigError
from confide.models.saved import read_description

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # peft asks transformers for a property that transformers has renamed.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
GROWN = "trees"
"""The kind whose model is complete once its rounds are done."""
OTHERS = ("classes of rows", "conversations")
"""Kinds whose task is another one than any kind's, the second one for the first."""
STILL = "client.optimizer.learning_rate=1e-30"


def goes_on(words: Sequence[str], run: Path) -> list[str]:
    """Return a run's overrides with its model in place of the one that they name."""
    kept = [word for word in words if not word.startswith(("backbone", "tuning", "client="))]
    return [*kept, "backbone=run", f"backbone.path={run}", "strategy=fedavg", STEPS]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != GROWN])
def test_it_goes_on(kind: str, tmp_path: Path) -> None:
    """With steps of no length to the very tensors, with others further; never for another task."""
    words = words_of(kind, tmp_path)
    first = train(words, tmp_path / "first")
    later = goes_on(words, tmp_path / "first")
    still = train([*later, STILL], tmp_path / "still")
    assert still["model_sha256"] == first["model_sha256"]
    assert still["release"]["scores"]["new_model"] == still["release"]["scores"]["old_model"]
    further = train(later, tmp_path / "further")
    assert further["model_sha256"] != first["model_sha256"]
    plans = {
        name: read_description(tmp_path / name / "model").plan for name in ("first", "further")
    }
    assert plans["further"].tuning == plans["first"].tuning
    [parent] = further["lineage"]["parents"]
    assert parent["model_sha256"] == first["model_sha256"]
    other = words_of(OTHERS[kind.startswith(OTHERS[0])], tmp_path / "other")
    with pytest.raises(ConfigError, match=rf"task\.\w+=.*the model of {tmp_path / 'first'} was"):
        compose(goes_on(other, tmp_path / "first"))


def test_grown_trees_are_refused(tmp_path: Path) -> None:
    words = words_of(GROWN, tmp_path)
    train(words, tmp_path / "first")
    with pytest.raises(ConfigError, match="is complete once its rounds are done"):
        compose(goes_on(words, tmp_path / "first"))
