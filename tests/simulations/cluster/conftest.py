"""A Ray of this machine's own, which tests of this folder share."""

import functools
import os
from collections.abc import Callable, Iterator

import pytest
from small_federation import Small

from confide.config.simulation import RayConfig
from confide.simulations.cluster.engine import ray_engine
from confide.simulations.cluster.launch import joined
from confide.simulations.engines.pool_engine import PoolEngine
from confide.simulations.preparing import build_trainer

os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # loopback alone; read at Ray's import

OnRay = Callable[..., PoolEngine]


@pytest.fixture(scope="session")
def own_ray() -> Iterator[None]:
    with joined(RayConfig(), cpus=2):
        yield


@pytest.fixture
def on_ray() -> Iterator[OnRay]:
    """Put clients on Ray, in so many actors, until the test ends."""
    engines: list[PoolEngine] = []

    def started(small: Small, workers: int | None, config: RayConfig | None = None) -> PoolEngine:
        engine = ray_engine(
            small.data,
            make_trainer=functools.partial(build_trainer, small.plan, small.config.trainer),
            initial=small.initial,
            setup=small.setup,
            config=config or RayConfig(),
            workers=workers,
        )
        engines.append(engine)
        return engine

    yield started
    for engine in engines:
        engine.close()
