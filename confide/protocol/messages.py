"""Messages of coordinator and institution, and how they are packed into Flower's records.

A request is a plan, a round and the global tensors. A reply is an update with metrics, or a
refusal: a code and figures, never the text of an exception, which could quote a record.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from confide.config.task import known_metrics
from confide.errors import ProtocolError
from confide.protocol.refusals import Refusal

_LARGEST_COUNT = 2**53
"""Of records, in a reply: counts are weights, and beyond this a float is no longer exact."""
_ROUNDING = 1e-9

RequestKind = Literal["query", "train", "evaluate"]
"""What is asked for: a description, an update, or scores."""

SPLITS = ("train", "validation", "test")

Evaluation = Mapping[str, float]
"""Metric name -> value, with ``num_examples``, its support."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question to an institution.

    Attributes:
        plan: the training plan, as JSON, to the letter: its hash is what people approve.
        server_round: from 1; 0 where it does not matter.
        arrays: the global tensors; None when only a description is asked for.
        splits: splits to evaluate on.
        ledger_head: last known head of the institution's ledger; empty if unknown. One that the
            ledger does not hold shows that it is an older copy.
    """

    plan: str
    server_round: int = 0
    arrays: ArrayRecord | None = None
    splits: Sequence[str] = ()
    ledger_head: str = ""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer.

    Attributes:
        institution: its name.
        refusal: code of the reason why it declines; None for an answer.
        figures: numbers behind a refusal, such as asked and allowed; or epsilon, noise and counts.
        arrays: the update (local minus global), after training.
        num_examples: declared number of training records.
        evaluations: split -> metrics of the tensors received, exact and so not protected.
        ledger_head: number and hash of the newest event in the institution's ledger; empty where
            nothing outlives it.
    """

    institution: str
    refusal: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    arrays: ArrayRecord | None = None
    num_examples: int = 0
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    ledger_head: str = ""


def pack_request(request: Request) -> RecordDict:
    """Pack a request into records."""
    config = ConfigRecord(
        {
            "plan": request.plan,
            "server-round": request.server_round,
            "splits": list(request.splits),
            "ledger-head": request.ledger_head,
        }
    )
    return RecordDict(
        {"request": config}
        if request.arrays is None
        else {"request": config, "arrays": request.arrays}
    )


def unpack_request(content: RecordDict) -> Request:
    """Read a request.

    Raises:
        ProtocolError: if it is not one.
    """
    record = content.get("request")
    if not isinstance(record, ConfigRecord):
        raise ProtocolError("Expected a record named request.", code=Refusal.INVALID_MESSAGE)
    plan, server_round, splits = (
        record.get("plan"),
        record.get("server-round"),
        record.get("splits", []),
    )
    head = record.get("ledger-head", "")
    if (
        not isinstance(plan, str)
        or not isinstance(head, str)
        or type(server_round) is not int
        or not isinstance(splits, list)
        or not set(splits) <= set(SPLITS)
        or len(splits) > len(SPLITS)
    ):
        raise ProtocolError(
            "Expected plan (text), server-round (integer), splits (names) and ledger-head (text).",
            code=Refusal.INVALID_MESSAGE,
        )
    arrays = content.get("arrays")
    if arrays is not None and not isinstance(arrays, ArrayRecord):
        raise ProtocolError("Expected arrays to be an ArrayRecord.", code=Refusal.INVALID_MESSAGE)
    return Request(
        plan=plan,
        server_round=server_round,
        arrays=arrays,
        splits=cast(list[str], splits),
        ledger_head=head,
    )


def pack_reply(reply: Reply) -> RecordDict:
    """Pack a reply into records; metrics are named ``split/metric``."""
    metrics: dict[str, float | int] = {"num-examples": reply.num_examples}
    for split, evaluation in reply.evaluations.items():
        metrics.update({f"{split}/{name}": value for name, value in evaluation.items()})
    metrics.update({f"figures/{name}": value for name, value in reply.figures.items()})
    records = RecordDict()
    records["reply"] = _who(reply.institution, str(reply.refusal or ""), reply.ledger_head)
    records["metrics"] = MetricRecord(
        cast(dict[str, int | float | list[int] | list[float]], metrics)
    )
    if reply.arrays is not None:
        records["arrays"] = reply.arrays
    return records


# The same in every round: making Flower's record costs more than finding it.
@functools.lru_cache(maxsize=4096)
def _who(institution: str, refusal: str, ledger_head: str) -> ConfigRecord:
    return ConfigRecord(
        {"institution": institution, "refusal": refusal, "ledger-head": ledger_head}
    )


def unpack_reply(content: RecordDict) -> Reply:
    """Read a reply.

    Raises:
        ProtocolError: if it is not one.
    """
    record, metrics, arrays = content.get("reply"), content.get("metrics"), content.get("arrays")
    if not isinstance(record, ConfigRecord) or not isinstance(metrics, MetricRecord):
        raise ProtocolError(
            "Expected records named reply and metrics.", code=Refusal.INVALID_MESSAGE
        )
    institution, refusal, num_examples = (
        record.get("institution"),
        record.get("refusal"),
        metrics.get("num-examples"),
    )
    head = record.get("ledger-head", "")
    texts = all(isinstance(text, str) for text in (institution, refusal, head))
    if not texts or type(num_examples) is not int or not 0 <= num_examples <= _LARGEST_COUNT:
        raise ProtocolError(
            "Expected institution, refusal, ledger-head and num-examples >= 0, at most 2**53.",
            code=Refusal.INVALID_MESSAGE,
        )
    if arrays is not None and not isinstance(arrays, ArrayRecord):
        raise ProtocolError("Expected arrays to be an ArrayRecord.", code=Refusal.INVALID_MESSAGE)
    parts = _sections(metrics)
    figures = {
        name: value for name, value in parts.pop("figures", {}).items() if math.isfinite(value)
    }
    return Reply(
        institution=str(institution),
        refusal=str(refusal) or None,
        figures=figures,
        arrays=arrays,
        num_examples=num_examples,
        evaluations={split: _evaluation(split, values) for split, values in parts.items()},
        ledger_head=str(head),
    )


def _sections(metrics: MetricRecord) -> dict[str, dict[str, float]]:
    """Sort numbers by what stands before the slash; one without a slash belongs nowhere."""
    parts: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        section, _, name = key.partition("/")
        if name:
            if isinstance(value, list):
                raise ProtocolError(f"Expected {key} to be a number.", code=Refusal.INVALID_MESSAGE)
            parts.setdefault(section, {})[name] = value
    return parts


def _evaluation(split: str, values: Evaluation) -> Evaluation:
    """Check what an institution says of a split.

    What is not finite is left out, as is every other undefined metric.
    """
    support = values.get("num_examples")
    if split not in SPLITS or type(support) is not int or not 1 <= support <= _LARGEST_COUNT:
        raise ProtocolError(
            f"Expected metrics of a split with its num_examples >= 1, at most 2**53; got {split}.",
            code=Refusal.INVALID_MESSAGE,
        )
    # The JSON of summaries has no word for NaN and infinity.
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    metrics = known_metrics()
    for name in finite.keys() & metrics.keys():
        least, largest = metrics[name].least, metrics[name].largest
        if not least - _ROUNDING <= finite[name] <= largest + _ROUNDING:
            raise ProtocolError(
                f"Expected {split}/{name}={finite[name]} in [{least:g}, {largest:g}].",
                code=Refusal.INVALID_MESSAGE,
            )
    return finite


__all__ = [
    "SPLITS",
    "Evaluation",
    "Reply",
    "Request",
    "RequestKind",
    "pack_reply",
    "pack_request",
    "unpack_reply",
    "unpack_request",
]
