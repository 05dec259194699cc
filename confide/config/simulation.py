"""The schema of a simulation: its engine, its seed, what it is compared with, and clients that fail on purpose."""

from collections.abc import Iterator
from dataclasses import dataclass

from confide.config.fields import setting

BASELINES = ("local", "pooled")
"""What a federation can be compared with."""


@dataclass
class FaultConfig:
    """A client that fails on purpose when it is asked to train."""

    kind: str = setting(
        "raises", "What goes wrong.", choices=("raises", "hangs", "nan", "late", "twice")
    )
    client: str | None = setting(None, "Which client; null: any.")
    rounds: list[int] = setting(list, "In which rounds; empty: in any.")
    probability: float = setting(
        1.0, "Chance of each of them, decided by simulation.seed.", ge=0, le=1
    )
    delay_s: float = setting(5.0, "late: seconds.", ge=0, le=1e6)


@dataclass
class SimulationConfig:
    """One machine, many clients."""

    engine: str = setting(
        "inline",
        "What carries the messages: a function call (inline), or worker processes with a model each"
        " (process).",
        choices=("inline", "process"),
    )
    workers: int | None = setting(
        None, "process: how many; null: one a GPU, or one a CPU core.", ge=1, le=1024
    )
    seed: int | None = setting(
        0,
        "Makes a run repeat exactly, noise included, so its guarantee is nominal; null: secure"
        " noise.",
        ge=0,
        lt=2**63,
    )
    baselines: list[str] | None = setting(
        None,
        "Compared with, by the same steps and privacy: local (each institution alone), pooled (all"
        " records in one place). null: both; local alone where ledgers are charged.",
    )
    faults: list[FaultConfig] = setting(
        list, "Clients that fail on purpose, such as [{kind: nan, client: bank-1, rounds: [2]}]."
    )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        unknown = sorted(set(self.baselines or ()) - set(BASELINES))
        if unknown:
            yield f"baselines={unknown}: expected only {', '.join(BASELINES)}."


__all__ = ["BASELINES", "FaultConfig", "SimulationConfig"]
