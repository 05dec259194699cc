"""From the checked config of a run to the plan that institutions are sent."""

import dataclasses
import hashlib

from confide.config.client import ClientConfig
from confide.config.run import Config
from confide.config.strategies.mechanisms import share_of
from confide.config.strategies.secure import weighting_of
from confide.config.strategies.strategy import (
    BufferedTimingConfig,
    codecs_of,
    objective_of,
    timing_of,
)
from confide.protocol.masked_sums import MaskedSums
from confide.protocol.plan import TrainingPlan


def make_plan(
    config: Config, *, backbone_sha256: str | None, job: str = "simulation"
) -> TrainingPlan:
    """Write the plan of a composed config.

    Args:
        config: the checked config of the run.
        backbone_sha256: content hash of the coordinator's copy of a pretrained backbone; None for a
            table's.
        job: the run's name, where the config gives none.
    """
    # The base class's fields alone travel; ledgers and their folders stay at the institution.
    travelling = [item.name for item in dataclasses.fields(ClientConfig)]
    name, seed = config.job or job, config.simulation.seed
    upload, download = codecs_of(config.strategy)
    # Public, and the same when a run that was killed early begins again
    drawn = hashlib.sha256(f"frozen\0{name}\0{seed}".encode()).digest()
    return TrainingPlan(
        job=name,
        task=config.task,
        backbone=config.backbone,
        backbone_sha256=backbone_sha256,
        tuning=config.tuning.seeded(int.from_bytes(drawn[:8], "little") >> 1),
        objective=objective_of(config.strategy),
        client=ClientConfig(**{name: getattr(config.client, name) for name in travelling}),
        privacy=config.privacy,
        # Of one institution: each of its answers is a round to its ledger, asynchronous ones too
        num_rounds=_most_answers(config),
        deadline_s=config.server.round_timeout_s,
        seed=seed,
        upload=upload,
        download=download,
        sums=_masked_sums(config),
    )


def _masked_sums(config: Config) -> MaskedSums | None:
    aggregation, share = config.aggregation, share_of(config.strategy)
    if not aggregation.is_secure:
        return None
    return MaskedSums(
        threshold=aggregation.threshold,
        bits=aggregation.sum_bits,
        weighting=weighting_of(config.strategy),
        max_value=config.server.max_update_value if share is None else share.largest,
        share=share,
    )


def _most_answers(config: Config) -> int:
    timing = timing_of(config.strategy)
    most = timing.most_answers if isinstance(timing, BufferedTimingConfig) else None
    return most or config.server.num_rounds


__all__ = ["make_plan"]
