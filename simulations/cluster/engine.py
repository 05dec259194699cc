"""An engine over the machines of a Ray cluster."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from torch import Tensor

from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.config.simulation import RayConfig
from confide.errors import ConfigError
from confide.protocol.tensors import num_values, shapes_of
from confide.simulations.cluster.launch import joined
from confide.simulations.cluster.shared_folders import Probes
from confide.simulations.engines.pool import WorkerPool
from confide.simulations.engines.pool_engine import PoolEngine
from confide.simulations.institutions import Setup
from confide.strategies.parts import build_algorithm
from confide.version import __version__


def ray_engine(  # noqa: PLR0913 - a composition root
    data: Mapping[str, InstitutionData],
    *,
    make_trainer: Callable[[int], Trainer],
    initial: Mapping[str, Tensor],
    setup: Setup,
    config: RayConfig,
    workers: int | None,
    num_threads: int = 1,
    cpus_here: int = 1,
    folders: Mapping[str, Path] | None = None,
) -> PoolEngine:
    """Return an engine over Ray actors.

    Args:
        data: encoded records by institution.
        make_trainer: number of a worker -> its trainer; it and what it needs can be pickled.
        initial: initial trainable tensors.
        setup: what institutions have in common.
        config: where the cluster is, and what a worker takes of it.
        workers: how many; None for as many as there is room for.
        num_threads: of torch, in each.
        cpus_here: CPUs that this process may use.
        folders: setting that names it -> folder that every machine has to share.

    Raises:
        ConfigError: if no cluster is there, or it has no room for so many workers.
    """
    with ExitStack() as stack:
        # On this machine workers may be more than its CPUs, as with processes
        stack.enter_context(joined(config, cpus=max(cpus_here, (workers or 1) * config.cpus)))
        # After Ray's environment is set, which it reads when it is imported
        from confide.simulations.cluster.actor import ActorSpec
        from confide.simulations.cluster.actors import Actors, put_records, room_for

        room = room_for(config)
        if workers is not None and workers > room:
            raise ConfigError(
                f"simulation.workers={workers}: the cluster has room for {room} of"
                f" simulation.ray.cpus={config.cpus:g} and simulation.ray.gpus={config.gpus:g};"
                " lower one of them, or add machines."
            )
        probes = Probes(folders or {})
        stack.callback(probes.close)
        spec = ActorSpec(
            make_trainer=make_trainer,
            setup=setup,
            num_threads=num_threads,
            records=put_records(data),
            largest_sum=num_values(
                build_algorithm(setup.serves.objective).reply_shapes(shapes_of(initial))
            ),
            probes=probes.probes,
            version=__version__,
        )
        actors = Actors(spec, config=config, kept=stack.pop_all())
    count = min(workers or room, len(data))
    return PoolEngine(WorkerPool(actors, count=count), data, faults=setup.faults)


__all__ = ["ray_engine"]
