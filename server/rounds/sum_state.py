"""Masked sums in a checkpoint: one that is under way, and what is shown of those opened before."""

import base64
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from confide.protocol.masked_sums import OpenedBefore
from confide.protocol.tensors import Tensors
from confide.server.rounds.state import Opened, RoundRecord, SumUnderWay
from confide.server.secure_sums.collector import MaskedSum

ReadRecordFn = Callable[[Mapping[str, Any]], RoundRecord]


def describe_sum(under_way: SumUnderWay) -> dict[str, Any]:
    """Return everything of a sum but its total."""
    return {
        "masked": under_way.masked.described(),
        "kind": under_way.kind,
        "splits": list(under_way.splits),
        "shapes": {name: list(shape) for name, shape in under_way.shapes.items()},
        "record": dataclasses.asdict(under_way.record),
        "asked": list(under_way.asked),
        "num_bytes": under_way.num_bytes,
    }


def sum_tensors(under_way: SumUnderWay) -> Tensors:
    """Return the total of a sum, masks on."""
    return under_way.masked.tensors()


def read_sum(
    described: Mapping[str, Any] | None, tensors: Tensors, record_fn: ReadRecordFn
) -> SumUnderWay | None:
    """Read a sum that an earlier process had under way; None where there was none."""
    if described is None:
        return None
    return SumUnderWay(
        masked=MaskedSum.of(described["masked"], tensors),
        kind=described["kind"],
        splits=tuple(described["splits"]),
        shapes={name: tuple(shape) for name, shape in described["shapes"].items()},
        record=record_fn(described["record"]),
        asked=tuple(described["asked"]),
        num_bytes=described["num_bytes"],
    )


def describe_opened(opened: Opened) -> dict[str, Any]:
    """Return what the next cohort is to be shown."""
    return {
        "unproved": sorted(digest.hex() for digest in opened.unproved),
        "sums": [
            {
                "digest": one.digest.hex(),
                "survivors": list(one.survivors),
                "signatures": {
                    name: base64.b64encode(signature).decode()
                    for name, signature in one.signatures.items()
                },
            }
            for one in opened.sums
        ],
    }


def read_opened(described: Mapping[str, Any] | None) -> Opened:
    """Read what :func:`describe_opened` wrote; nothing where there was none."""
    if described is None:
        return Opened()
    return Opened(
        sums=tuple(
            OpenedBefore(
                digest=bytes.fromhex(one["digest"]),
                survivors=tuple(one["survivors"]),
                signatures={
                    name: base64.b64decode(text) for name, text in one["signatures"].items()
                },
            )
            for one in described["sums"]
        ),
        unproved=frozenset(bytes.fromhex(digest) for digest in described["unproved"]),
    )


__all__ = ["describe_opened", "describe_sum", "read_opened", "read_sum", "sum_tensors"]
