"""Clients that are drawn among those who are there in virtual time."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_institutions import SECRET, drifters
from virtual_runs import strategy, virtual_run

from confide.config.delays.delays import AvailabilityConfig
from confide.config.delays.uniform import UniformDelaysConfig
from confide.errors import ConfigError, RunFailedError
from confide.simulations.virtual.delays import Delays
from confide.simulations.virtual.presence import Presence
from confide.strategies.selections.available import SelectAvailable

Simulate = Callable[..., dict[str, Any]]
pytestmark = pytest.mark.usefixtures("identity")


def there(folder: Path, windows: str) -> Delays:
    """Answers take one second."""
    path = folder / "windows.csv"
    path.write_text("client,start_s,end_s\n" + windows)
    settings = UniformDelaysConfig(
        low_s=1.0, high_s=1.0, availability=AvailabilityConfig(trace=str(path))
    )
    return Delays(settings, SECRET)


def test_each_round_draws_among_those_whose_window_is_open(tmp_path: Path) -> None:
    # Seconds 0 to 2: a and b; 2 to 4: b and c; from 4 on a and b again. A round takes one second.
    delays = there(tmp_path, "a,0,2\na,4,4.5\nb,0,4.5\nc,2,4\nc,4.4,4.5\n")
    select = SelectAvailable(clients_per_round=3)
    outcome = virtual_run(drifters(), strategy(selection=select), delays, num_rounds=4)
    assert [record.accepted for record in outcome.state.history] == [
        ("a", "b"),
        ("a", "b"),
        ("b", "c"),
        ("b", "c"),
    ]
    assert [record.virtual_s for record in outcome.state.history] == [1.0, 2.0, 3.0, 4.0]


def test_the_clock_goes_to_where_enough_are_there_together(tmp_path: Path) -> None:
    # Two at a time are there from second 10 on, and no sooner: a has left when b comes at 5
    delays = there(tmp_path, "a,0,4\na,10,100\nb,5,6\nb,9,100\nc,50,100\n")
    select = SelectAvailable(clients_per_round=3)
    outcome = virtual_run(
        drifters(), strategy(selection=select), delays, num_rounds=1, min_clients=2
    )
    [record] = outcome.state.history
    assert record.accepted == ("a", "b")
    assert record.virtual_s == 11.0


def test_those_who_are_never_there_together_end_the_run() -> None:
    availability = AvailabilityConfig(on_s=0.001, off_s=1000.0)
    delays = Delays(UniformDelaysConfig(availability=availability), SECRET)
    select = SelectAvailable(clients_per_round=3)
    with pytest.raises(RunFailedError, match=r"never server\.min_clients=3 clients at a time"):
        virtual_run(drifters(), strategy(selection=select), delays, num_rounds=1, min_clients=3)


def test_a_client_that_is_away_is_looked_up_without_beginning_again() -> None:
    settings = AvailabilityConfig(on_s=5.0, off_s=20.0)
    one, other = Presence(settings, SECRET), Presence(settings, SECRET)
    times = [second / 7 for second in range(5000)]
    forwards = [one.back_at("a", at) for at in times]
    backwards = [other.back_at("a", at) for at in reversed(times)]
    assert forwards == backwards[::-1]
    assert sum(back > at for back, at in zip(forwards, times, strict=True)) > 2000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("simulation/delays=trace", "simulation.delays.path=gone.csv"),
            r"simulation\.delays\.path=gone\.csv cannot be read",
        ),
        (
            ("simulation.engine=ray", "simulation.ray.address=127.0.0.1:9"),
            r"simulation\.ray\.address=127\.0\.0\.1:9: no Ray answers there",
        ),
    ],
)
def test_mistakes_elsewhere_are_told_before_records_are_read(
    run: Simulate, words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A Ray that other tests of this process started is nobody's address
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    unread = ("data.path=/nowhere/records.csv", "data.public=true", "simulation.baselines=[]")
    with pytest.raises(ConfigError, match=said):
        run("experiment=heart_disease", *unread, *words)
