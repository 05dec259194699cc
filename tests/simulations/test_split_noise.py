"""Whole runs in which institutions share the noise on sums that nobody sees inside."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dp_accounting
import numpy
import pytest
import torch
from dp_accounting.pld import PLDAccountant
from stopped_run import stopped

from confide.config.composing.compose import compose
from confide.errors import ConfigError, RunFailedError
from confide.server.rounds.checkpoint import CheckpointStore

Simulate = Callable[..., dict[str, Any]]
TEN = (
    "experiment=synthetic_logistic",
    "strategy=fedavg",
    "strategy.aggregator.weighting=uniform",
    "data.num_clients=10",
    "data.generator.num_records=60",
    "server.num_rounds=4",
    "simulation.baselines=[]",
    "simulation.on_demand=false",
)
GAUSSIAN = (
    "strategy/mechanism=gaussian",
    "strategy.mechanism.noise_multiplier=2",
    "strategy.mechanism.clip_norm=0.5",
)
SHARED = (*TEN, *GAUSSIAN, "aggregation=secure", "strategy.mechanism.honest=4")
REAL = "aggregation.simulated=real"


def params(folder: Path) -> torch.Tensor:
    found = CheckpointStore(folder / "checkpoints", kept=3).latest()
    assert found is not None
    return torch.cat([value.flatten() for value in found.state.params.values()])


@pytest.mark.parametrize("bits", [64, 32])
def test_masks_engines_and_a_stop_change_no_bit(run: Simulate, bits: int) -> None:
    words = (*SHARED, f"aggregation.sum_bits={bits}")
    expected = run(*words, name="emulated")["model_sha256"]
    assert run(*words, REAL, name="masked")["model_sha256"] == expected
    process = ("simulation.engine=process", "simulation.workers=2")
    assert run(*words, *process, name="process")["model_sha256"] == expected
    assert run(*words, "simulation.engine=vectorised", name="rows")["model_sha256"] == expected
    stopped(run, *words, REAL, after=2, name="stopped")
    assert run(*words, REAL, name="stopped", resume=True)["model_sha256"] == expected


def test_sums_of_both_widths_have_the_same_bits(run: Simulate) -> None:
    """Shares lie on the grid of the narrower, so that nothing is rounded where they are added."""
    narrow, wide = (
        run(*SHARED, f"aggregation.sum_bits={bits}", name=str(bits))["model_sha256"]
        for bits in (32, 64)
    )
    assert narrow == wide


def test_the_noise_on_the_mean_is_that_of_all_shares(run: Simulate, tmp_path: Path) -> None:
    """Ten shares of z S / sqrt(4), over ten, in each of 40 rounds; updates add 0.5 a round at most.

    Steps are a hundred times longer than clipped updates: what is left is noise.
    """
    words = (
        *SHARED,
        "strategy.mechanism.clip_norm=1e-3",
        "strategy.mechanism.noise_multiplier=400",
    )
    run(*words, "server.num_rounds=40", name="run")
    values = params(tmp_path / "run").double().numpy()
    std = 400 * 1e-3 / numpy.sqrt(4) * numpy.sqrt(10) / 10 * numpy.sqrt(40)
    # Chi-square with so many degrees of freedom; one in a thousand lies further off
    spread = 3.3 / numpy.sqrt(2 * len(values))
    assert numpy.sqrt((values**2).mean()) == pytest.approx(std, rel=spread)


def test_the_summary_says_whom_the_noise_rests_on(run: Simulate) -> None:
    """Four rounds of z 2 by an independent accountant, with nothing for chance."""
    told = run(*SHARED, name="run")["client_privacy"]
    accountant = PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(dp_accounting.GaussianDpEvent(2.0), 4)
    assert told["epsilon"] == pytest.approx(accountant.get_epsilon(1e-5), rel=0.01)
    assert (told["unit"], told["sampling_rate"]) == ("client", 1.0)
    assert told["noise"] == "split over 4 honest institutions of each sum"
    assert told["guarantee"].startswith("nominal")
    fresh = run(*SHARED, "simulation.seed=null", name="fresh")["client_privacy"]
    assert "against the coordinator" in fresh["guarantee"]
    assert "where 4 institutions of each sum" in fresh["guarantee"]


def test_noise_that_counts_on_more_than_institutions_allow_is_warned_of(
    run: Simulate, caplog: pytest.LogCaptureFixture
) -> None:
    """Of ten seven open a sum, and three may collude: real masks would be denied."""
    words = (*SHARED, "server.num_rounds=1")
    run(*words, name="four")
    assert "each would decline" not in caplog.text
    run(*words, "strategy.mechanism.honest=5", name="five")
    assert "honest=5: sums of 10 institutions are opened with 7 of them, and 3" in caplog.text
    assert "lower it to 4" in caplog.text


def test_a_round_of_fewer_than_the_noise_rests_on_fails(run: Simulate) -> None:
    missing = ", ".join(
        f"{{kind: raises, client: institution-0{i}, rounds: [2]}}" for i in range(1, 8)
    )
    words = (*SHARED, "server.min_clients=2", f"simulation.faults=[{missing}]")
    with pytest.raises(RunFailedError, match=r"3 institutions brought their shares.*honest=4"):
        run(*words, name="run")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*GAUSSIAN, "aggregation=secure"), "institutions add the noise"),
        ((*GAUSSIAN, "strategy.mechanism.honest=4"), "would have a share of the noise alone"),
        (
            (*SHARED, "strategy/selection=poisson", "strategy.selection.probability=0.5"),
            "gains nothing by chance",
        ),
        ((*SHARED, "strategy.mechanism.quantile=0.5"), "a norm that the plan fixes"),
        ((*SHARED, "aggregation.threshold=3"), "a sum may be of aggregation.threshold=3"),
        ((*SHARED, "strategy.mechanism.noise_multiplier=0"), "less than 1024 steps"),
        ((*SHARED, "strategy.mechanism.clip_norm=1e3"), "server.max_update_value=1024"),
        ((*SHARED, "strategy.aggregator.weighting=num_examples"), "weighs the same"),
        ((*SHARED, "strategy/aggregator=median"), "has no such bound"),
        (
            (
                "strategy/mechanism=banded",
                "strategy.mechanism.noise_multiplier=1",
                "strategy.mechanism.bands=2",
                "strategy/selection=round_robin",
                "strategy.selection.clients_per_round=5",
                "strategy.selection.separation=2",
                "aggregation=secure",
            ),
            "takes nothing of its earlier noise back",
        ),
    ],
)
def test_what_shares_cannot_do_is_refused_before_records_are_read(
    words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        compose([*TEN, *words])
