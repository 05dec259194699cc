"""Settings of a simulation: its engine, seed, baselines, and clients that fail on purpose."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from confide.config.aggregation import MOST_INSTITUTIONS, AggregationConfig
from confide.config.attacks import AttackConfig
from confide.config.delays.delays import DelaysConfig
from confide.config.fields import setting
from confide.config.tracking import is_installed

BASELINES = ("local", "pooled")
"""Kinds of training that a federation can be compared with."""
ENGINES = ("inline", "process", "ray", "vectorised")
"""Names of the engines; ``confide.simulations.engines.engine`` builds each."""
POOLED = ("process", "ray")
"""Those whose clients run in workers, of one torch thread each unless told otherwise."""


@dataclass
class FaultConfig:
    """Failure of a client on purpose, when it is asked to train, or after it has."""

    kind: str = setting(
        "raises",
        "Kind of failure; leaves: it answers with an update, and not when it is asked to open the"
        " masked sum that the update is in.",
        choices=("raises", "hangs", "nan", "late", "twice", "leaves"),
    )
    client: str | None = setting(None, "Name of the client that fails; null: any client.")
    rounds: list[int] = setting(list, "Rounds in which it fails; empty: any round.")
    probability: float = setting(
        1.0, "Probability of each failure, drawn from simulation.seed.", ge=0, le=1
    )
    delay_s: float = setting(5.0, "Delay of a late answer (late), in seconds.", ge=0, le=1e6)


@dataclass
class RayConfig:
    """The Ray cluster that simulation.engine=ray runs on."""

    address: str | None = setting(
        None,
        "Address of a Ray cluster that this machine belongs to, as host:port; null: a Ray of this"
        " machine's own, started and ended with the run.",
    )
    cpus: float = setting(1.0, "CPUs that a worker takes of the cluster.", ge=0.01, le=1024)
    gpus: float = setting(0.0, "GPUs that a worker takes of the cluster.", ge=0, le=64)

    def problems(self) -> Iterator[str]:
        """Yield a sentence if the address is none."""
        if self.address is None:
            return
        host, _, port = self.address.rpartition(":")
        if "/" in self.address or not host or not port.isdecimal():
            yield (
                f"address={self.address}: expected host:port, such as 10.0.0.4:6379, of a cluster"
                " that this machine belongs to (`ray start --address=...`)."
            )


@dataclass
class SimulationConfig:
    """Many clients on one machine, or on a cluster."""

    engine: str = setting(
        "inline",
        "Way in which clients are run: by function calls in this process (inline), in worker"
        " processes with one model each (process), in such workers on a Ray cluster (ray), or all"
        " of a round as one program (vectorised), where the model is a stack of linear layers;"
        " other models are run inline.",
        choices=ENGINES,
    )
    workers: int | None = setting(
        None,
        "Number of worker processes (process, ray); null: one for each GPU, or for each CPU core;"
        " of a cluster, as many as it has room for.",
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
    ray: RayConfig = field(default_factory=RayConfig)
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
        " charged; none where policy.secure.required=true.",
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
        if self.engine == "ray" and not is_installed("ray"):
            yield "engine=ray: Ray is not installed; pip install 'confide[ray]'."

    def sum_problems(self, aggregation: AggregationConfig) -> Iterator[str]:
        """Yield what masked sums do not go with, where they are carried out with keys and masks.

        Args:
            aggregation: what the coordinator sees.
        """
        is_real = aggregation.is_simulated_with_masks
        if any(fault.kind == "leaves" for fault in self.faults) and not is_real:
            yield (
                "simulation.faults: leaves without masks: nobody is asked to open a sum; set"
                " aggregation=secure aggregation.simulated=real, or another kind."
            )
        if not is_real:
            return
        key, fix = "aggregation.simulated=real", "aggregation.simulated=emulate has the same bits"
        if self.engine == "vectorised":
            yield (
                f"simulation.engine=vectorised with {key}: each institution masks its own update;"
                f" choose inline, process or ray; or {fix}."
            )
        if self.on_demand:
            yield (
                f"simulation.on_demand=true with {key}: every institution has a key and a"
                f" certificate, made beforehand; set on_demand=false, or {fix}."
            )
        if self.delays.kind != "none":
            yield (
                f"simulation.delays.kind={self.delays.kind} with {key}: masks and shares are"
                f" exchanged at once, and not in virtual time; leave the delays out, or {fix}."
            )
        if self.attack.forges:
            yield (
                f"simulation.attack.kind={self.attack.kind} with {key}: it replaces updates where"
                f" they arrive, and masked ones are not seen there; {fix}."
            )

    def sum_size_problems(
        self, aggregation: AggregationConfig, clients: int, there: str
    ) -> Iterator[str]:
        """Yield a sentence if there are more institutions than a simulation masks.

        Args:
            aggregation: what the coordinator sees.
            clients: number of institutions.
            there: how that is set.
        """
        if aggregation.is_simulated_with_masks and clients > MOST_INSTITUTIONS:
            yield (
                f"aggregation.simulated=real with {there}: masks and shares are for at most"
                f" {MOST_INSTITUTIONS} institutions; aggregation.simulated=emulate has the same"
                " bits."
            )

    def asynchronous_problems(self, timing: str) -> Iterator[str]:
        """Yield what an asynchronous strategy does not go with.

        Args:
            timing: its kind.
        """
        key = f"strategy.timing.kind={timing}"
        if self.attack.forges:
            yield (
                f"simulation.attack.kind={self.attack.kind} replaces updates when everybody's of a"
                f" round are there, and {key} has no rounds; choose strategy=fedavg, or an attack"
                " on records such as label_flip."
            )
        timed = sorted({fault.kind for fault in self.faults} & {"hangs", "late"})
        if timed and self.delays.kind == "none":  # of others it is said already
            yield (
                f"simulation.faults: {' and '.join(timed)} with {key}: it runs in virtual time, in"
                " which answers are late and lost by simulation.delays; set these."
            )


__all__ = ["BASELINES", "ENGINES", "POOLED", "FaultConfig", "RayConfig", "SimulationConfig"]
