"""Workers that are Ray actors, on whatever machines of a cluster.

Ray starts them and carries what they say, and repeats nothing: a batch that is lost with an actor
or a machine is handed to another one by the pool.
"""

import contextlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy
import ray
import torch
from numpy.typing import NDArray
from torch import Tensor

from confide.client.records.encoded import InstitutionData
from confide.config.simulation import RayConfig
from confide.errors import ConfigError
from confide.simulations.cluster.actor import (
    Actor,
    ActorSpec,
    ArrayBlock,
    Hello,
    Question,
    Shards,
)
from confide.simulations.engines.pace import Ahead
from confide.simulations.engines.shared_memory import SharedRecords
from confide.simulations.engines.worker import RoundSpec, WorkItem, WorkResult
from confide.simulations.engines.worker_handle import Heard

_SHARD_BYTES = 32 * 2**20


@dataclass(kw_only=True)
class _Remote:
    """An actor and what it owes.

    Attributes:
        actor: Ray's handle.
        owed: what it will say next, oldest first: a greeting, then batches.
        pid: of its process; 0 before its greeting.
        total: sum of the updates that it reported for the last question, int64, shape [d].
        added: how many these are.
        how: it ended; empty while it has not.
    """

    actor: Any
    owed: deque["ray.ObjectRef"]
    pid: int = 0
    total: NDArray[numpy.int64] | None = None
    added: int = 0
    how: str = ""
    results: list[WorkResult] = field(default_factory=list)

    def take(self, said: Hello | tuple[list[WorkResult], NDArray[numpy.int64] | None]) -> None:
        """Take in what was owed longest.

        Raises:
            ConfigError: if the actor says that it cannot work where it is.
        """
        if isinstance(said, Hello):
            if said.problem is not None:
                raise ConfigError(f"{said.problem}.")
            self.pid = said.pid
            return
        results, total = said
        self.results += results
        if total is not None:
            self.total = total.copy() if self.total is None else self.total + total
            self.added += sum(result.weight > 0 for result in results)


class Actors:
    """Workers in actors; a :class:`~confide.simulations.engines.worker_handle.Workforce`.

    Args:
        spec: what they have in common.
        config: what each takes of the cluster.
        kept: what has to stay as long as they do; closed with them.
    """

    # A call takes milliseconds: two batches each, one at work and one that waits
    ahead = Ahead(seconds=0.5, most_batches=2, most_items=256)

    def __init__(self, spec: ActorSpec, *, config: RayConfig, kept: ExitStack) -> None:
        # References stay here: what an actor was started with must outlive it
        self._spec = ray.put(spec)
        self._refs = spec.records.refs
        self._kept = kept
        self._class = ray.remote(Actor).options(
            num_cpus=config.cpus,
            num_gpus=config.gpus,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )
        self._there: dict[int, _Remote] = {}
        self._question: Any = None
        self._number = 0

    @property
    def pids(self) -> list[int]:
        """Process ids of the actors, each on its own machine."""
        return [one.pid for _, one in sorted(self._there.items())]

    def publish(self, round_spec: RoundSpec, params: Tensor | None) -> None:
        """Put a question into the object store, from where each machine fetches it once."""
        values = None if params is None else params.numpy()
        self._number += 1
        self._question = ray.put(Question(round_spec=round_spec, params=values))
        for one in self._there.values():
            one.total, one.added = None, 0

    def start(self, number: int) -> None:
        """Start an actor; where the cluster has no room, it waits until there is some."""
        actor = self._class.remote(number, self._spec)
        self._there[number] = _Remote(actor=actor, owed=deque([actor.hello.remote()]))

    def send(self, number: int, items: Sequence[WorkItem]) -> None:
        """Call an actor with a batch."""
        one = self._there[number]
        one.owed.append(one.actor.answer.remote(self._number, [self._question], list(items)))

    def wait(self, timeout: float) -> tuple[list[int], list[int]]:
        """Wait for an answer, or for word that there will be none."""
        by_ref = {one.owed[0]: number for number, one in self._there.items() if one.owed}
        if not by_ref:
            time.sleep(timeout)
            return [], []
        ready, _ = ray.wait(list(by_ref), timeout=timeout)
        return [by_ref[ref] for ref in ready], []

    def read(self, number: int) -> Heard:
        """Return the results that an actor sent, and whether it is still there."""
        one = self._there[number]
        try:
            while one.owed and ray.wait([one.owed[0]], timeout=0)[0]:
                said = ray.get(one.owed[0])
                one.owed.popleft()
                one.take(said)
        except ray.exceptions.RayError as error:
            one.how = _reason(error)
        results, one.results = one.results, []
        return Heard(results, one.pid > 0, not one.how)

    def begun(self, number: int) -> None:
        """Return nothing: what an actor has begun is not known here."""

    def total(self, number: int, updates: int) -> Tensor | None:
        """Return the sum of what an actor reported, which came with the reports."""
        one = self._there[number]
        return None if one.total is None or one.added != updates else torch.from_numpy(one.total)

    def end(self, number: int, patience_s: float = 0.0) -> str:
        """Kill an actor."""
        one = self._there[number]
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(one.actor)
        one.owed.clear()
        return one.how or "killed"

    def close(self) -> None:
        """Kill every actor, and leave the cluster if it was joined for them."""
        for number in self._there:
            self.end(number)
        self._there.clear()
        self._kept.close()


def _reason(error: Exception) -> str:
    """Return one line of what Ray says of a lost actor."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # Where the actor's own code raised, what it raised comes last, after the places in the code
    return lines[-1] if any(line.startswith('File "') for line in lines) else lines[0]


def put_records(data: Mapping[str, InstitutionData]) -> Shards:
    """Put encoded records into the object store, in shards of some megabytes."""
    places: dict[str, int] = {}
    refs: list[ray.ObjectRef] = []
    shard: dict[str, InstitutionData] = {}
    size = 0
    for name, part in data.items():
        shard[name] = part
        places[name] = len(refs)
        size += _bytes_of(part)
        if size >= _SHARD_BYTES:
            refs.append(ray.put(SharedRecords(shard, ArrayBlock)))
            shard, size = {}, 0
    if shard:
        refs.append(ray.put(SharedRecords(shard, ArrayBlock)))
    return Shards(places=places, refs=refs)


def _bytes_of(data: InstitutionData) -> int:
    columns = (column for split in data.parts for column in data.split(split).columns.values())
    return sum(column.numel() * column.element_size() for column in columns)


def room_for(config: RayConfig) -> int:
    """Return how many actors the machines of the joined cluster have room for, if nobody else is.

    Raises:
        ConfigError: if there is none.
    """
    room = 0
    for node in ray.nodes():
        there = node["Resources"] if node["Alive"] else {}
        wanted = {"CPU": config.cpus, "GPU": config.gpus}
        room += min(int(there.get(name, 0) / much) for name, much in wanted.items() if much)
    if not room:
        has = ray.cluster_resources()
        raise ConfigError(
            f"simulation.ray.cpus={config.cpus:g}, simulation.ray.gpus={config.gpus:g}: no machine"
            f" of the cluster has as many (in all it has {has.get('CPU', 0):g} CPUs and"
            f" {has.get('GPU', 0):g} GPUs); lower them."
        )
    return room


__all__ = ["Actors", "put_records", "room_for"]
