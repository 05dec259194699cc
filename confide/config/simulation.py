"""Settings of a simulation: its engine, seed, baselines, and clients that fail on purpose."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from confide.config.attacks import AttackConfig
from confide.config.delays.delays import DelaysConfig
from confide.config.fields import setting

BASELINES = ("local", "pooled")
"""Kinds of training that a federation can be compared with."""
ENGINES = ("inline", "process", "vectorised")
"""Names of the engines; ``confide.simulations.engines.engine`` builds each."""


@dataclass
class FaultConfig:
    """Failure of a client on purpose, when it is asked to train."""

    kind: str = setting(
        "raises", "Kind of failure.", choices=("raises", "hangs", "nan", "late", "twice")
    )
    client: str | None = setting(None, "Name of the client that fails; null: any client.")
    rounds: list[int] = setting(list, "Rounds in which it fails; empty: any round.")
    probability: float = setting(
        1.0, "Probability of each failure, drawn from simulation.seed.", ge=0, le=1
    )
    delay_s: float = setting(5.0, "Delay of a late answer (late), in seconds.", ge=0, le=1e6)


@dataclass
class SimulationConfig:
    """Many clients on one machine."""

    engine: str = setting(
        "inline",
        "Way in which clients are run: by function calls in this process (inline), in worker"
        " processes with one model each (process), or all of a round as one program (vectorised),"
        " where the model is a stack of linear layers; other models are run inline.",
        choices=ENGINES,
    )
    workers: int | None = setting(
        None,
        "Number of worker processes (process); null: one for each GPU, or for each CPU core.",
        ge=1,
        le=1024,
    )
    on_demand: bool | None = setting(
        None,
        "Whether an institution is opened, and its records made, when it is asked, and closed"
        " again: memory then does not grow with their number. Records come from a generator, or"
        " from Parquet partitioned or sorted by institution. null: where a generator makes those"
        " of more than 1,000.",
    )
    seed: int | None = setting(
        0,
        "Seed with which a run repeats exactly, noise included, so that its guarantee is nominal;"
        " null: secure noise.",
        ge=0,
        lt=2**63,
    )
    # Left open here: the default depends on client.ledger, which the whole config knows.
    baselines: list[str] | None = setting(
        None,
        "Models to compare with, trained with the same steps and privacy: local (each institution"
        " alone), pooled (all records in one place). null: both; only local if ledgers are"
        " charged.",
    )
    faults: list[FaultConfig] = setting(
        list, "Clients that fail on purpose, such as [{kind: nan, client: bank-1, rounds: [2]}]."
    )
    attack: AttackConfig = field(default_factory=AttackConfig)
    delays: DelaysConfig = field(default_factory=DelaysConfig)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        unknown = sorted(set(self.baselines or ()) - set(BASELINES))
        if unknown:
            yield f"baselines={unknown}: expected only {', '.join(BASELINES)}."
        if self.baselines and self.attack.poisons:
            yield (
                f"attack.kind={self.attack.kind} changes records, which baselines={self.baselines}"
                " would be trained on; set baselines=[], or leave it out."
            )
        timed = sorted({fault.kind for fault in self.faults} & {"hangs", "late"})
        if timed and self.delays.kind != "none":
            yield (
                f"faults: {' and '.join(timed)} with delays.kind={self.delays.kind}: in virtual"
                " time answers are late by delays.deadline_s and lost by delays.dropout; set these."
            )


__all__ = ["BASELINES", "ENGINES", "FaultConfig", "SimulationConfig"]
