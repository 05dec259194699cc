"""What a run's models tell of any one client as a whole, where its strategy has a mechanism.

The coordinator's own account: an institution's ledger is of its records, whatever this one says.
"""

import logging
import math
from typing import Any

from confide.config.noise_share import NoiseShare
from confide.config.run import Config
from confide.config.strategies.mechanisms import (
    BandedMechanismConfig,
    NoisyMechanismConfig,
    mechanism_of,
    sampling_rate,
    share_of,
)
from confide.config.strategies.strategy import ComposedStrategyConfig, StrategyConfig
from confide.privacy.accounting import Schedule, epsilon
from confide.secure_aggregation.context import least_threshold, most_colluding

log = logging.getLogger(__name__)
_FEW = 100


def client_statement(
    strategy: StrategyConfig, *, rounds: int, again: int, num_clients: int, reproducible: bool
) -> dict[str, Any]:
    """Describe what the models of some rounds cost one client; {} without a mechanism.

    Args:
        strategy: of the run.
        rounds: that were done, empty ones too.
        again: most rounds that a process may have done once more, where one went on from an earlier
            checkpoint: whoever saw their first models has seen two releases of each.
        num_clients: size of the population.
        reproducible: whether a seed decided who was drawn and the noise.
    """
    mechanism = mechanism_of(strategy)
    if mechanism is None:
        return {}
    assert isinstance(strategy, ComposedStrategyConfig)
    rate, share = sampling_rate(strategy.selection), mechanism.share
    spent = epsilon(_schedule(mechanism, rate, rounds, again), delta=mechanism.delta)
    return {
        "unit": "client",
        "mechanism": mechanism.kind,
        "epsilon": None if math.isinf(spent) else spent,
        "delta": mechanism.delta,
        "noise_multiplier": mechanism.noise_multiplier,
        "sampling_rate": rate,
        "num_clients": num_clients,
        "noise": (
            "added by the coordinator"
            if share is None
            else f"split over {share.honest} honest institutions of each sum"
        ),
        "guarantee": (
            "nominal: whoever knows simulation.seed knows who was drawn, and the noise"
            if reproducible
            else _guarantee(share)
        ),
        "not_protected": (
            "scores of single clients in this folder, saved updates"
            if share is None
            else "who took part, scores"
        ),
    }


def _guarantee(share: NoiseShare | None) -> str:
    if share is None:
        return "holds against whoever sees the models and trusts the coordinator"
    return (
        "holds against the coordinator, other institutions and whoever sees the models, where"
        f" {share.honest} institutions of each sum add their shares and keep them to themselves"
    )


def _schedule(mechanism: NoisyMechanismConfig, rate: float, rounds: int, again: int) -> Schedule:
    if isinstance(mechanism, BandedMechanismConfig):
        # One release of all rounds together. Each time a process went on, the rounds after it may
        # stand beside earlier ones of the same numbers: of both no more than two releases tell.
        rate, steps = 1.0, min(1, rounds) + again
    else:
        steps = rounds + again
    return Schedule(noise_multiplier=mechanism.noise_multiplier, sampling_rate=rate, steps=steps)


def warn_of_few(strategy: StrategyConfig, num_clients: int) -> None:
    """Say how large the noise is where clients are few, and where delta promises little."""
    mechanism = mechanism_of(strategy)
    if mechanism is None:
        return
    assert isinstance(strategy, ComposedStrategyConfig)
    expected = getattr(strategy.selection, "clients_per_round", None) or (
        sampling_rate(strategy.selection) * num_clients
    )
    if num_clients < _FEW:
        share = mechanism.noise_multiplier / expected
        log.warning(
            "strategy.mechanism: with %d clients, about %.3g a round, the noise on each value of"
            " their mean has a standard deviation of %.3g clipping norms at least; client-level"
            " privacy is for populations of hundreds and more.",
            num_clients,
            expected,
            share,
        )
    if mechanism.delta * num_clients >= 1:
        log.warning(
            "strategy.mechanism.delta=%g is not below 1 / %d clients: it would allow one of them"
            " to be told whole; lower it.",
            mechanism.delta,
            num_clients,
        )


def warn_of_trust(config: Config, num_clients: int) -> None:
    """Say that institutions would deny a run whose noise counts on more of them than is safe.

    Args:
        config: of the run.
        num_clients: size of a round's cohort.
    """
    share, colluding = share_of(config.strategy), most_colluding(num_clients)
    if share is None:
        return
    threshold = config.aggregation.threshold or least_threshold(num_clients, colluding)
    if share.honest > threshold - colluding:
        log.warning(
            "strategy.mechanism.honest=%d: sums of %d institutions are opened with %d of them, and"
            " %d may collude unless policies say less (policy.secure.max_colluding), so that each"
            " would decline; lower it to %d.",
            share.honest,
            num_clients,
            threshold,
            colluding,
            threshold - colluding,
        )


__all__ = ["client_statement", "warn_of_few", "warn_of_trust"]
