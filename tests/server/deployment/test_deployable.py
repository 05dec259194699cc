"""What is simulated alone is refused before a coordinator starts anything."""

import pytest

from confide.config.composing.compose import compose
from confide.errors import ConfigError
from confide.server.deployment.start import check_deployable

DELAYS = "simulation/delays=uniform"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("strategy=fedbuff",), r"strategy\.timing\.kind=fedbuff: asynchronous strategies run in"),
        (("strategy=fedasync",), r"choose strategy=fedavg for a federation of real institutions"),
        (
            (
                DELAYS,
                "strategy/selection=uniform",
                "strategy.selection.clients_per_round=2",
                "strategy.selection.over_selection=2",
            ),
            r"strategy\.selection\.over_selection=2: .* set it to 1",
        ),
    ],
)
def test_what_runs_in_virtual_time_alone_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_deployable(compose(["experiment=heart_disease", *words]))


def test_any_other_strategy_may_be_deployed() -> None:
    check_deployable(compose(["experiment=heart_disease", "strategy=fedadam"]))
