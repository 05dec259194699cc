"""A round's question is put to doors without messages: what comes of it is the same."""

import functools
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_federation import Small

from confide.client.institution import Institution
from confide.client.training_round import RoundWork
from confide.errors import RunFailedError
from confide.server.rounds import clock as clock_module
from confide.server.rounds.clock import REAL, Deadline
from confide.server.rounds.outcome import Outcome
from confide.simulations.engines import one_by_one
from confide.simulations.engines.inline import InlineEngine, InlineGrid, LocalGrid
from confide.simulations.institutions import simulated_states
from confide.simulations.virtual.clock import VirtualClock
from confide.storage.tensor_files import sha256
from confide.strategies.algorithm import ClientResult


class ByMessages(InlineEngine):
    """The inline engine as it is where messages may be lost: each question is one."""

    def grid(self, job: str, names: Sequence[str]) -> LocalGrid:
        grid = super().grid(job, names)
        assert isinstance(grid, InlineGrid)
        grid._doors = None
        return grid


def both(folder: Path, *overrides: str) -> tuple[Outcome, Outcome]:
    """Return the outcomes by doors and by messages, of the same records and secrets."""
    small = Small("server.num_rounds=3", "client.local_steps=3", *overrides)
    found = []
    for engine in (InlineEngine, ByMessages):
        states = functools.partial(simulated_states, folder / engine.__name__, 2)
        setup = replace(small.setup, states=states)
        found.append(small.run(engine(small.data, trainer=small.trainer, setup=setup)))
    return found[0], found[1]


def told(outcome: Outcome) -> list[Any]:
    """Return all that a round tells but how long it took."""
    return [replace(record, seconds=0.0) for record in outcome.state.history]


@pytest.mark.parametrize(
    "overrides",
    [
        ("privacy=none",),
        ("privacy=record",),
        ("privacy=record", "policy.metrics_privacy=noisy", "privacy.epsilon=30"),
        ("privacy=none", "strategy=feddyn"),
        ("privacy=none", "strategy=median"),
        ("privacy=none", "strategy=flower"),
        ("privacy=none", "backbone=mlp", "backbone.hidden=[700]"),
    ],
)
def test_a_run_is_that_of_messages_to_the_last_bit(
    overrides: tuple[str, ...], tmp_path: Path
) -> None:
    doors, messages = both(tmp_path, *overrides)
    assert sha256(doors.state.params) == sha256(messages.state.params)
    assert told(doors) == told(messages)
    assert (doors.test, doors.epsilon) == (messages.test, messages.epsilon)


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        ("server.max_update_value=1e-6", "tensor_values"),
        ("policy.max_update_norm=1e-6", "policy_max_update_norm"),
    ],
)
def test_updates_beyond_a_bound_are_refused_as_those_in_messages(overrides: str, code: str) -> None:
    small = Small("privacy=none", overrides)
    for engine in (
        small.inline(),
        ByMessages(small.data, trainer=small.trainer, setup=small.setup),
    ):
        with pytest.raises(RunFailedError, match=code):
            small.run(engine)


def test_what_breaks_off_at_one_client_is_its_own_refusal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compute = Institution.compute

    def breaks(institution: Institution, work: RoundWork) -> ClientResult:
        if institution.name == "client-03":
            raise ArithmeticError("a record")
        return compute(institution, work)

    monkeypatch.setattr(Institution, "compute", breaks)
    for outcome in both(tmp_path, "privacy=record", "server.min_clients=11"):
        assert [record.refused for record in outcome.state.history] == [
            {"client-03": "internal_error"}
        ] * 3
        assert outcome.state.history[0].epsilon.keys() == set(outcome.state.history[0].accepted)


@pytest.mark.parametrize("shape", ["names", "dtype"])
def test_an_update_of_another_form_is_refused_as_in_a_message(
    shape: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compute = Institution.compute

    def other(institution: Institution, work: RoundWork) -> ClientResult:
        result = compute(institution, work)
        if institution.name != "client-03":
            return result
        if shape == "names":
            return replace(result, update={f"{name}.": it for name, it in result.update.items()})
        return replace(result, update={name: it.double() for name, it in result.update.items()})

    monkeypatch.setattr(Institution, "compute", other)
    doors, messages = both(tmp_path, "privacy=none", "server.min_clients=11")
    assert told(doors) == told(messages)
    assert doors.state.history[0].refused.keys() == {"client-03"}


def test_who_has_not_begun_when_time_is_up_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    compute = Institution.compute

    def slow(institution: Institution, work: RoundWork) -> ClientResult:
        now[0] += 30
        return compute(institution, work)

    monkeypatch.setattr(clock_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(Institution, "compute", slow)
    small = Small("privacy=none", "server.round_timeout_s=100", "server.num_rounds=1")
    with caplog.at_level(logging.WARNING):
        outcome = small.run(small.inline())
    (record,) = outcome.state.history
    assert list(record.accepted) == [f"client-{n:02}" for n in range(4)]
    assert set(record.refused.values()) == {"no_reply"}
    assert "8 institutions have not answered within 100 s" in caplog.text


def test_virtual_time_loses_nobody_to_a_slow_machine() -> None:
    past = Deadline.after(-1.0, VirtualClock())
    with pytest.raises(RunFailedError, match="3 institutions have computed for -1 s"):
        past.is_past(3)
    assert Deadline.after(-1.0, REAL).is_past(3)
    assert not Deadline.after(60.0, VirtualClock()).is_past(3)


def test_slices_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = set()
    for most in (1, 5, 64):
        monkeypatch.setattr(one_by_one, "_SLICE", most)
        monkeypatch.setattr(one_by_one, "_SLICE_S", 60.0)
        small = Small("privacy=none", "server.num_rounds=2")
        digests.add(sha256(small.run(small.inline()).state.params))
    assert len(digests) == 1
