"""When answers come: by distribution, by trace, by key."""

import statistics
from dataclasses import replace
from pathlib import Path

import pandas
import pytest
from fake_institutions import SECRET
from virtual_runs import taking

from confide.config.delays.delays import AvailabilityConfig, BandwidthConfig, DelaysConfig
from confide.config.delays.exponential import ExponentialDelaysConfig
from confide.config.delays.lognormal import LognormalDelaysConfig
from confide.config.delays.trace import TraceDelaysConfig
from confide.config.delays.uniform import UniformDelaysConfig
from confide.errors import ConfigError
from confide.server.rounds.arrivals import Load
from confide.simulations.virtual.delays import Delays
from confide.simulations.virtual.presence import Presence

LOAD = Load(bytes_down=4_000_000, bytes_up=2_000_000, num_examples={"a": 7})
NAMES = [f"client-{number}" for number in range(2000)]


def seconds(config: DelaysConfig, names: list[str] = NAMES, number: int = 1) -> list[float]:
    delays = Delays(config, SECRET)
    return [delays.due(name, number, 0.0, LOAD).at for name in names]


def test_each_kind_has_the_distribution_that_it_names() -> None:
    uniform = seconds(UniformDelaysConfig(low_s=2.0, high_s=20.0))
    assert 2.0 <= min(uniform) < 2.2
    assert 19.8 < max(uniform) <= 20.0
    assert statistics.mean(uniform) == pytest.approx(11.0, rel=0.05)
    assert statistics.mean(seconds(ExponentialDelaysConfig(mean_s=3.0))) == pytest.approx(
        3.0, rel=0.08
    )
    assert statistics.median(seconds(LognormalDelaysConfig(median_s=5.0))) == pytest.approx(
        5.0, rel=0.1
    )


def test_a_client_has_one_speed_unless_each_answer_is_drawn() -> None:
    config = LognormalDelaysConfig()
    assert seconds(config, number=1) == seconds(config, number=2)
    each = replace(config, per="answer")
    assert seconds(each, number=1) != seconds(each, number=2)


def test_jitter_stays_around_a_speed() -> None:
    config = UniformDelaysConfig(low_s=2.0, high_s=2.0, jitter=0.25)
    times = seconds(config)
    assert min(times) >= 1.5
    assert max(times) <= 2.5
    assert len(set(times)) > 1000


def test_times_follow_from_secret_client_and_number_alone() -> None:
    config = LognormalDelaysConfig(jitter=0.2, dropout=0.3)
    forward, backward = Delays(config, SECRET), Delays(config, SECRET)
    one = {name: forward.due(name, 3, 1.0, LOAD) for name in NAMES[:50]}
    other = {name: backward.due(name, 3, 1.0, LOAD) for name in reversed(NAMES[:50])}
    assert one == other
    elsewhere = Delays(config, bytes([1]) * 32)
    assert [elsewhere.due(name, 3, 1.0, LOAD) for name in NAMES[:50]] != list(one.values())


def test_records_and_bytes_take_their_time() -> None:
    config = UniformDelaysConfig(
        low_s=2.0, high_s=2.0, work="record", bandwidth=BandwidthConfig(down_mb_s=4.0, up_mb_s=1.0)
    )
    assert seconds(config, ["a"]) == [2.0 * 7 + 1.0 + 2.0]


def test_rates_of_clients_differ_where_they_are_spread() -> None:
    spread = BandwidthConfig(down_mb_s=4.0, sigma=1.0)
    times = seconds(replace(UniformDelaysConfig(low_s=0.0, high_s=0.0), bandwidth=spread))
    assert statistics.median(times) == pytest.approx(1.0, rel=0.1)
    assert max(times) > 10.0


def test_as_many_answers_are_lost_as_dropout_says() -> None:
    delays = Delays(UniformDelaysConfig(dropout=0.2), SECRET)
    heard = [delays.due(name, 1, 0.0, LOAD).is_heard for name in NAMES]
    assert statistics.mean(heard) == pytest.approx(0.8, abs=0.04)


def test_a_late_answer_is_given_up_at_the_deadline() -> None:
    delays = Delays(UniformDelaysConfig(low_s=9.0, high_s=9.0, deadline_s=4.0), SECRET)
    due = delays.due("a", 1, 1.0, LOAD)
    assert (due.at, due.is_heard) == (5.0, False)


def test_rows_of_a_trace_are_taken_in_turn(tmp_path: Path) -> None:
    delays = taking(tmp_path, {"a": [1.0, 5.0], "b": [2.0]})
    assert [delays.due("a", number, 0.0, LOAD).at for number in (1, 2, 3)] == [1.0, 5.0, 1.0]
    with pytest.raises(ConfigError, match=r"has no row of client c"):
        delays.due("c", 1, 0.0, LOAD)


def test_a_trace_may_be_parquet(tmp_path: Path) -> None:
    path = tmp_path / "times.parquet"
    pandas.DataFrame({"client": ["a"], "seconds": [2.5]}).to_parquet(path)
    assert seconds(TraceDelaysConfig(path=str(path)), ["a"]) == [2.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("client,time\na,1\n", r"simulation\.delays\.path=.* lacks the column seconds"),
        ("client,seconds\na,x\n", r"row 1: expected seconds >= 0"),
        ("client,seconds\na,-1\n", r"row 1: expected seconds >= 0"),
        ("client,seconds\n", r"has no rows"),
        (None, r"cannot be read"),
    ],
)
def test_a_wrong_trace_is_told_by_its_setting(
    tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "times.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Delays(TraceDelaysConfig(path=str(path)), SECRET)


# When clients are there


def test_clients_are_away_for_the_share_of_time_that_they_should() -> None:
    presence = Presence(AvailabilityConfig(on_s=3.0, off_s=1.0), SECRET)
    there = [presence.back_at(name, 40.0) == 40.0 for name in NAMES]
    assert statistics.mean(there) == pytest.approx(0.75, abs=0.04)


def test_presence_does_not_depend_on_what_was_asked_before() -> None:
    config = AvailabilityConfig(on_s=2.0, off_s=2.0)
    times = [float(at) for at in range(0, 60, 3)]
    forward, backward = Presence(config, SECRET), Presence(config, SECRET)
    one = {at: forward.back_at("a", at) for at in times}
    other = {at: backward.back_at("a", at) for at in reversed(times)}
    assert one == other
    assert any(back > at for at, back in one.items())


def test_windows_of_a_trace_begin_anew(tmp_path: Path) -> None:
    path = tmp_path / "windows.csv"
    path.write_text("client,start_s,end_s\na,6,8\na,1,2\n")
    presence = Presence(AvailabilityConfig(trace=str(path)), SECRET)
    asked = [0.0, 1.5, 2.0, 7.0, 8.0, 9.5, 10.0]
    assert [presence.back_at("a", at) for at in asked] == [1.0, 1.5, 6.0, 7.0, 9.0, 9.5, 14.0]
    assert presence.back_at("b", 2.0) == 2.0


def test_windows_that_overlap_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "windows.csv"
    path.write_text("client,start_s,end_s\na,1,5\na,4,8\n")
    with pytest.raises(ConfigError, match=r"availability\.trace=.*the windows of a overlap"):
        Presence(AvailabilityConfig(trace=str(path)), SECRET)
