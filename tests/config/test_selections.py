"""Selections that contradict the rest of a config are refused before anything runs."""

import pytest

from confide.config.composing.compose import compose
from confide.config.strategies.selections import PoissonSelectionConfig, RoundRobinSelectionConfig
from confide.errors import ConfigError

HEART = ("experiment=heart_disease", "data.num_clients=4")
POISSON = ("strategy/selection=poisson", "strategy.selection.probability=0.5")
EXPECTED = (*POISSON, "strategy.selection.denominator=expected")
ROBIN = ("strategy/selection=round_robin", "strategy.selection.clients_per_round=2")
AVAILABLE = ("strategy/selection=available", "strategy.selection.clients_per_round=3")


def selection_of(*words: str) -> object:
    return getattr(compose([*HEART, *words]).strategy, "selection", None)


def test_each_has_its_settings() -> None:
    assert selection_of(*POISSON) == PoissonSelectionConfig(probability=0.5)
    assert selection_of(*ROBIN, "strategy.selection.separation=2") == RoundRobinSelectionConfig(
        clients_per_round=2, separation=2
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (POISSON[:1], r"selection\.probability is not set"),
        ((*POISSON[:1], "strategy.selection.probability=0"), r"probability=0.* > 0"),
        ((*POISSON[:1], "strategy.selection.probability=1.5"), r"probability=1\.5.* <= 1"),
        (
            (*POISSON, "strategy=median"),
            r"aggregator\.kind=median: it withstands a part of a known",
        ),
        (
            (*POISSON, "strategy=newton", "privacy=none"),
            r"selection\.kind=poisson: objective\.kind",
        ),
        (EXPECTED, r"denominator=expected counts clients.*weighting=uniform"),
        ((*EXPECTED, "strategy=scaffold"), r"objective\.kind=scaffold is defined for means"),
        (
            (*ROBIN, "strategy.selection.separation=3"),
            r"separation=3, clients_per_round=2 need 6 clients.*separation to at most 2",
        ),
        ((*ROBIN, "strategy.selection.clients_per_round=5"), r"clients_per_round=5 exceeds"),
        ((*ROBIN, "server.min_clients=3"), r"clients_per_round=2 is below server\.min_clients=3"),
        ((*AVAILABLE, "strategy.selection.clients_per_round=9"), r"clients_per_round=9 exceeds"),
        ((*AVAILABLE, "strategy=median"), r"server\.min_clients=1 of those who are there"),
        ((*POISSON, "strategy=fedbuff"), r"selection\.kind=poisson: with timing\.kind=fedbuff"),
    ],
)
def test_what_contradicts_itself_is_refused(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        compose([*HEART, *words])


@pytest.mark.parametrize(
    "words",
    [
        (*EXPECTED, "strategy.aggregator.weighting=uniform", "strategy=fedprox"),
        (*POISSON, "strategy=scaffold"),
        (*ROBIN, "strategy.selection.separation=2"),
        (*AVAILABLE, "strategy=median", "server.min_clients=3"),
    ],
)
def test_what_fits_is_taken(words: tuple[str, ...]) -> None:
    compose([*HEART, *words])
