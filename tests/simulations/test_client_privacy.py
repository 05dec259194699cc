"""Whole simulations under client-level privacy."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from stopped_run import stopped

from confide.config.composing.compose import compose
from confide.errors import ConfigError, RunFailedError
from confide.server.rounds.checkpoint import CheckpointStore
from confide.strategies.mechanisms.rule import ClippedSum, sum_of
from confide.strategies.strategy import Bounds, ClientUpdate

Simulate = Callable[..., dict[str, Any]]
POPULATION = (
    "experiment=synthetic_logistic",
    "strategy=fedavg",
    "strategy.aggregator.weighting=uniform",
    "data.num_clients=30",
    "data.generator.num_records=60",
    "server.num_rounds=6",
    "server.min_clients=1",
    "simulation.baselines=[]",
    "simulation.on_demand=false",
)
POISSON = ("strategy/selection=poisson", "strategy.selection.probability=0.3")
GAUSSIAN = ("strategy/mechanism=gaussian", "strategy.mechanism.noise_multiplier=0.5")
BANDED = (
    "strategy/mechanism=banded",
    "strategy.mechanism.noise_multiplier=1",
    "strategy.mechanism.bands=3",
    "strategy/selection=round_robin",
    "strategy.selection.clients_per_round=5",
    "strategy.selection.separation=3",
)
ADAPTIVE = (*GAUSSIAN, "strategy.mechanism.quantile=0.5", "strategy.mechanism.bit_noise=1")
KINDS = {
    "gaussian": (*POISSON, *GAUSSIAN),
    "adaptive": (*POISSON, *ADAPTIVE),
    "banded": BANDED,
}


def models(folder: Path) -> dict[str, torch.Tensor]:
    found = CheckpointStore(folder / "checkpoints", kept=3).latest()
    assert found is not None
    return dict(found.state.params)


@pytest.mark.parametrize("kind", KINDS)
def test_engines_agree_and_a_run_that_stopped_goes_on(
    run: Simulate, tmp_path: Path, kind: str
) -> None:
    words = (*POPULATION, *KINDS[kind])
    whole = run(*words, name="whole")
    process = run(*words, "simulation.engine=process", "simulation.workers=2", name="process")
    assert process["model_sha256"] == whole["model_sha256"]
    stopped(run, *words, after=3, name="stopped")
    resumed = run(*words, name="stopped", resume=True)
    assert resumed["model_sha256"] == whole["model_sha256"]
    # Rounds that a process may have done again are counted
    assert resumed["client_privacy"]["epsilon"] > whole["client_privacy"]["epsilon"]
    vectorised = run(*words, "simulation.engine=vectorised", name="vectorised")
    assert vectorised["client_privacy"] == whole["client_privacy"]
    # Other last bits of a sum draw other noise, of the same size
    for name, value in models(tmp_path / "whole").items():
        assert value.shape == models(tmp_path / "vectorised")[name].shape


def test_without_noise_and_within_the_norm_it_is_fedavg_to_the_last_bit(run: Simulate) -> None:
    words = (*POPULATION, "server.max_update_value=1024")
    expected = run(*words, name="fedavg")["model_sha256"]
    silent = ("strategy.mechanism.noise_multiplier=0", "strategy.mechanism.clip_norm=1e6")
    summary = run(*words, *GAUSSIAN[:1], *silent, name="silent")
    assert summary["model_sha256"] == expected
    assert summary["client_privacy"]["epsilon"] is None


def test_a_round_with_nobody_has_noise_like_any_other(run: Simulate, tmp_path: Path) -> None:
    rarely = "strategy.selection.probability=0.001"
    words = (*POPULATION, *POISSON, *GAUSSIAN, rarely)
    run(*words, "server.num_rounds=1", name="one")
    found = CheckpointStore(tmp_path / "one" / "checkpoints", kept=3).latest()
    assert found is not None
    assert found.state.history[0].accepted == ()
    assert all(float(value.abs().max()) > 1 for value in found.state.params.values())


def test_the_summary_tells_epsilon_of_whole_clients(run: Simulate) -> None:
    """30 clients at rate 0.3, z 4, 6 rounds, by an independent accountant: 0.61."""
    noise = "strategy.mechanism.noise_multiplier=4"
    summary = run(*POPULATION, *POISSON, *GAUSSIAN[:1], noise, name="run")
    told = summary["client_privacy"]
    assert (told["unit"], told["delta"], told["sampling_rate"]) == ("client", 1e-5, 0.3)
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    step = dp_accounting.PoissonSampledDpEvent(0.3, dp_accounting.GaussianDpEvent(4.0))
    accountant.compose(step, 6)
    assert told["epsilon"] == pytest.approx(accountant.get_epsilon(1e-5), rel=0.01)
    assert told["guarantee"].startswith("nominal")


def test_one_client_moves_the_sum_by_no_more_than_the_clipping_norm() -> None:
    rule = ClippedSum(clip_norm=0.5)
    shapes = {"w": (1000,)}
    bounds = Bounds(max_value=1024.0, max_total_weight=100)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 0.4, 0.5, 0.500001, 1.0, 1000.0):
        drawn = torch.randn(1000, generator=generator)
        summed = rule.start(shapes, bounds)
        update = {"w": drawn / drawn.norm() * size}
        summed.add(ClientUpdate(client="a", tensors=update, num_examples=7))
        total = sum_of(summed)["w"]
        assert float(total.norm()) <= 0.5
        assert float(total.norm()) == pytest.approx(min(size, 0.5), rel=1e-5)
        rows = rule.start(shapes, bounds)
        rows.add_rows(update["w"][None], [7])
        assert torch.equal(rows.total, summed.total)
        assert rows.within == summed.within == (0.5 if update["w"].double().norm() <= 0.5 else -0.5)


def test_rounding_to_a_coarse_grid_lengthens_nobody_beyond_the_norm() -> None:
    """In sums of 32 bits: 1,000 clients of 40,000 values, each rounded away from zero by a half."""
    values, clients = 40_000, 1000
    bounds = Bounds(max_value=1024.0, max_total_weight=clients, sum_bits=32)
    summed = ClippedSum(clip_norm=1.0).start({"w": (values,)}, bounds)
    step = 2.0**-summed.scale_bits
    most = 1 / values**0.5
    # Longer than the norm, and still so once its values, clipped, go up to the next step
    update = {"w": torch.full((values,), (math.floor(most / step) + 0.51) * step)}
    assert float(update["w"].norm()) > 1 - 1e-4
    summed.add(ClientUpdate(client="a", tensors=update, num_examples=1))
    assert 0.99 < float(sum_of(summed)["w"].norm()) <= 1.0


def test_a_grid_on_which_rounding_is_most_of_the_norm_is_refused() -> None:
    bounds = Bounds(max_value=1024.0, max_total_weight=2_000_000, sum_bits=32)
    with pytest.raises(RunFailedError, match=r"set aggregation\.sum_bits=64"):
        ClippedSum(clip_norm=1.0).start({"w": (1_000_000,)}, bounds)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*GAUSSIAN, *POISSON, "strategy.aggregator.weighting=num_examples"), "weighs the same"),
        ((*GAUSSIAN, *POISSON, "strategy/aggregator=median"), "has no such bound"),
        ((*GAUSSIAN, *POISSON, "strategy/objective=scaffold"), "clips and noises one update"),
        (
            (
                *GAUSSIAN,
                "strategy/selection=uniform",
                "strategy.selection.clients_per_round=3",
            ),
            "drawn each by itself",
        ),
        ((*BANDED, "strategy.mechanism.bands=4"), "have to be as far apart"),
        ((*BANDED[:3], *POISSON), "rounds of one client that lie apart"),
        ((*GAUSSIAN, *POISSON, "server.keep=best"), "which model is released"),
        ((*GAUSSIAN, *POISSON, "server.patience=2"), "which model is released"),
        ((*GAUSSIAN, "strategy/timing=fedbuff"), "accounts for rounds"),
    ],
)
def test_what_cannot_be_accounted_for_is_refused_before_records_are_read(
    words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        compose([*POPULATION, *words])


def test_few_clients_are_told_how_large_the_noise_is(
    run: Simulate, caplog: pytest.LogCaptureFixture
) -> None:
    words = (*POPULATION, *POISSON, *GAUSSIAN, "server.num_rounds=1")
    run(*words, "strategy.mechanism.delta=0.1", name="run")
    assert "with 30 clients, about 9 a round" in caplog.text
    assert "strategy.mechanism.delta=0.1 is not below 1 / 30 clients" in caplog.text
