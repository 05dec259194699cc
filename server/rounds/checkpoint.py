"""Checkpoints: a run between two rounds, on disk.

One safetensors file a round, ``round-00012.safetensors``: global tensors, state of the server
optimizer and best model as tensors, everything else as JSON, compressed, in a tensor of bytes (the
format's own header is limited to 100 MB, which the history of many clients passes), and a checksum
over all. A file appears whole or not at all; the last few are kept, so that a damaged one costs a
round and not the run.
"""

import dataclasses
import json
import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from confide.errors import StorageError, UnreadableError
from confide.protocol.tensors import Tensors
from confide.server.rounds.state import Asked, Begun, Best, Flight, RoundRecord, RunState
from confide.server.rounds.sum_state import (
    describe_opened,
    describe_sum,
    read_opened,
    read_sum,
    sum_tensors,
)
from confide.storage.tensor_files import read_checked, write_checked

log = logging.getLogger(__name__)

SCHEMA = 1
_SCHEMA, _DESCRIPTION = "schema", "description"
_COMPRESSION = 1
_TUPLES = ("accepted", "staleness", "order")
_PARAMS, _STRATEGY, _BEST, _VERSION = "params/", "strategy/", "best/", "version/"
_TOTAL, _SUM = "begun/total", "sum/"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything that the rest of a run depends on.

    Attributes:
        state: state after the last round done.
        clients: name -> declared number of training units; empty before anybody enrolled.
        ledger_heads: name -> last known head of its ledger.
        extra: JSON that the run's owner keeps with it, such as what simulated institutions spent.
    """

    state: RunState
    clients: Mapping[str, int] = field(default_factory=dict)
    ledger_heads: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


class CheckpointStore:
    """The last checkpoints of one run.

    Args:
        folder: made if need be; temporary files that a killed process left are removed.
        kept: number of checkpoints that stay, >= 1.
    """

    def __init__(self, folder: Path, *, kept: int) -> None:
        self._folder = folder
        self._kept = kept
        self._written: list[tuple[RoundRecord, str]] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.glob(".round-*"):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{folder} cannot be written: {error}.") from None

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove those that are no longer kept.

        Raises:
            StorageError: if it cannot be written; the one before stands.
        """
        state = checkpoint.state
        tensors = _prefixed(_PARAMS, state.params) | _prefixed(_STRATEGY, state.strategy_state)
        if state.best:
            best = _prefixed(_BEST, state.best.params)
            # They may be the params themselves, and the format refuses shared memory.
            tensors |= {name: tensor.clone() for name, tensor in best.items()}
        # Whom they were given to answers from them, after a restart too
        for number, version in (state.flight.versions if state.flight else {}).items():
            tensors |= _prefixed(f"{_VERSION}{number}/", version)
        if state.flight and state.flight.begun and state.flight.begun.total is not None:
            tensors[_TOTAL] = state.flight.begun.total
        if state.sum is not None:
            tensors |= _prefixed(_SUM, sum_tensors(state.sum))
        text = (
            _to_json(_describe(checkpoint))[:-1]
            + f',"history":[{",".join(self._lines(state.history))}]}}'
        )
        tensors[_DESCRIPTION] = torch.frombuffer(
            bytearray(zlib.compress(text.encode(), _COMPRESSION)), dtype=torch.uint8
        )
        path = self._folder / f"round-{state.server_round:05}.safetensors"
        # The file holds what a simulation's noise may be derived from: its owner's alone.
        write_checked(path, tensors, metadata={_SCHEMA: str(SCHEMA)})
        # After the new one stands, so that at every instant there is one to go on from.
        for old in self._paths()[self._kept :]:
            if old != path:
                old.unlink(missing_ok=True)

    def latest(self) -> Checkpoint | None:
        """Read the newest checkpoint that is sound, and say so where a newer one is not.

        Returns:
            None where there is none at all.

        Raises:
            UnreadableError: if there are some and none of them is sound.
        """
        paths = self._paths()
        for path in paths:
            try:
                return _read(path)
            except UnreadableError as error:
                log.warning("%s Falling back to the checkpoint before.", error)
        if paths:
            raise UnreadableError(
                f"None of the {len(paths)} checkpoints in {self._folder} can be read; start the run"
                " anew."
            )
        return None

    def _lines(self, history: Sequence[RoundRecord]) -> list[str]:
        """Write each record once, however many checkpoints hold it."""
        known = [record for record, _ in self._written]
        if list(history[: len(known)]) != known:  # the same objects, so this is quick
            self._written.clear()
        new = history[len(self._written) :]
        self._written += [(record, _to_json(dataclasses.asdict(record))) for record in new]
        return [line for _, line in self._written]

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("round-*.safetensors"), reverse=True)


def _prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: tensor.contiguous() for name, tensor in tensors.items()}


def _part(prefix: str, tensors: Tensors) -> Tensors:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _to_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return everything but tensors and history."""
    state = checkpoint.state
    return {
        "server_round": state.server_round,
        "stale_rounds": state.stale_rounds,
        "best": (
            {"server_round": state.best.server_round, "value": state.best.value}
            if state.best
            else None
        ),
        "order": {"params": list(state.params), "strategy": list(state.strategy_state)},
        "clients": dict(checkpoint.clients),
        "ledger_heads": dict(checkpoint.ledger_heads),
        "extra": dict(checkpoint.extra),
        "flight": _describe_flight(state.flight) if state.flight else None,
        **({"sum": describe_sum(state.sum)} if state.sum else {}),
        **({"opened": describe_opened(state.opened)} if state.opened.sums else {}),
        "lost_rounds": state.lost_rounds,
    }


def _describe_flight(flight: Flight) -> dict[str, Any]:
    return {
        "asked": dict(flight.asked),
        "waiting": [dataclasses.asdict(asked) for asked in flight.waiting],
        "versions": list(flight.versions),
        "begun": _describe_begun(flight.begun) if flight.begun else None,
    }


def _describe_begun(begun: Begun) -> dict[str, Any]:
    plain = {item.name: getattr(begun, item.name) for item in dataclasses.fields(begun)}
    del plain["total"]  # a tensor
    return plain | {"record": dataclasses.asdict(begun.record)}


def _read(path: Path) -> Checkpoint:
    read = read_checked(path)
    try:
        if read.metadata[_SCHEMA] != str(SCHEMA):
            raise UnreadableError(
                f"{path} has schema={read.metadata[_SCHEMA]}, this release reads {SCHEMA}."
            )
        compressed = read.tensors[_DESCRIPTION].numpy().tobytes()
        described = json.loads(zlib.decompress(compressed))
    except (KeyError, ValueError, zlib.error) as error:
        raise UnreadableError(
            f"{path} is no checkpoint: {type(error).__name__}: {error}."
        ) from None
    # Past its checksum the content is what this class wrote, so nothing more is checked.
    return Checkpoint(
        state=_state(described, read.tensors),
        clients=described["clients"],
        ledger_heads=described["ledger_heads"],
        extra=described["extra"],
    )


def _state(described: Mapping[str, Any], tensors: Tensors) -> RunState:
    order, best = described["order"], described["best"]
    params = _in_order(_part(_PARAMS, tensors), order["params"])
    return RunState(
        server_round=described["server_round"],
        params=params,
        strategy_state=_in_order(_part(_STRATEGY, tensors), order["strategy"]),
        best=(
            Best(**best, params=_in_order(_part(_BEST, tensors), order["params"])) if best else None
        ),
        stale_rounds=described["stale_rounds"],
        history=tuple(_record(record) for record in described["history"]),
        flight=_flight(described.get("flight"), tensors, order["params"]),
        sum=read_sum(described.get("sum"), _part(_SUM, tensors), _record),
        opened=read_opened(described.get("opened")),
        lost_rounds=described.get("lost_rounds", 0),
    )


def _record(described: Mapping[str, Any]) -> RoundRecord:
    return RoundRecord(**{**described, **{key: tuple(described.get(key, ())) for key in _TUPLES}})


def _flight(
    described: Mapping[str, Any] | None, tensors: Tensors, names: Sequence[str]
) -> Flight | None:
    if described is None:
        return None
    return Flight(
        asked=described["asked"],
        waiting=tuple(Asked(**asked) for asked in described["waiting"]),
        versions={
            number: _in_order(_part(f"{_VERSION}{number}/", tensors), names)
            for number in described["versions"]
        },
        begun=_begun(described.get("begun"), tensors),
    )


def _begun(described: Mapping[str, Any] | None, tensors: Tensors) -> Begun | None:
    if described is None:
        return None
    return Begun(
        record=_record(described["record"]),
        asked=tuple(described["asked"]),
        total=tensors.get(_TOTAL),
        total_weight=described["total_weight"],
        max_total_weight=described["max_total_weight"],
    )


def _in_order(tensors: Tensors, names: Iterable[str]) -> Tensors:
    return {name: tensors[name] for name in names}


__all__ = ["Checkpoint", "CheckpointStore"]
