"""Selections that leave fewer in a round than a masked sum takes are refused with the config."""

import pytest

from confide.config.composing.compose import compose
from confide.errors import ConfigError

SECURE = ("experiment=heart_disease", "aggregation=secure")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("strategy/selection=poisson", "strategy.selection.probability=0.5"),
            "chance may draw fewer than the 3",
        ),
        (
            ("strategy/selection=uniform", "strategy.selection.clients_per_round=2"),
            "clients_per_round=2: a masked sum takes 3 institutions at least",
        ),
        (
            (
                "strategy/selection=uniform",
                "strategy.selection.clients_per_round=3",
                "strategy.selection.over_selection=1.3",
                "simulation/delays=uniform",
            ),
            "closed before enough have answered",
        ),
    ],
)
def test_a_selection_of_too_few_is_refused(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        compose([*SECURE, *words])
    compose([SECURE[0], *words])
