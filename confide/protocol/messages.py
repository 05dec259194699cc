"""Messages of coordinator and institution, and how they are packed into Flower's records.

A request is a plan, a round and the global tensors. A reply is an update with metrics, or a
refusal: a code and figures, never the text of an exception, which could quote a record.
"""

import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from confide.metrics.tally import ScoreTally
from confide.protocol.evaluations import (
    LARGEST_COUNT,
    NOISE_OF,
    OLD,
    PERSONAL,
    SCORED,
    SPLITS,
    SUMS_OF,
    WORD,
    Evaluation,
    invalid,
    is_plain,
    read_numbers,
    read_tallies,
)
from confide.protocol.masked_sums import LONGEST_ADVERT, SumAnswer, SumQuestion

_HEAD = re.compile(r"[0-9A-Za-z+/=: ]{0,1024}")
_LONGEST_NAME = 1000

RequestKind = Literal["query", "train", "evaluate", "unmask"]
"""What is asked for: a description, an update, scores, or shares that open a masked sum."""

STEPS = "steps"
"""Figure of a reply: the number of local steps in its update, where plans allow for fewer."""


def message_type(kind: RequestKind) -> str:
    """Return the type of Flower's messages that ask this, of which it knows but three itself.

    >>> message_type("train"), message_type("unmask")
    ('train', 'query.unmask')
    """
    return "query.unmask" if kind == "unmask" else kind


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question to an institution.

    Attributes:
        plan: the training plan, as JSON, to the letter: its hash is what people approve.
        server_round: from 1; 0 where it does not matter.
        arrays: the global tensors; None when only a description is asked for.
        splits: splits to evaluate on, :data:`PERSONAL` among them.
        ledger_head: last known head of the institution's ledger; empty if unknown. One that the
            ledger does not hold shows that it is an older copy.
        sum: the masked sum that the answer is for; None where none is asked for.
    """

    plan: str
    server_round: int = 0
    arrays: ArrayRecord | None = None
    splits: Sequence[str] = ()
    ledger_head: str = ""
    sum: SumQuestion | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer.

    Attributes:
        institution: its name.
        refusal: code of the reason why it declines; None for an answer.
        figures: numbers behind a refusal, such as asked and allowed; or epsilon, noise and counts.
        arrays: the update (local minus global), after training; or the masked vector.
        num_examples: declared number of training records.
        evaluations: split -> metrics of the tensors received.
        ledger_head: number and hash of the newest event in the institution's ledger; empty where
            nothing outlives it.
        tallies: split -> sums over its records, of the tensors received; where they may leave, and
            of splits in ``evaluations`` alone.
        advert: the institution's key of the job, signed, where the plan asks for masked sums.
        sum: what the reply brings to a masked sum.
    """

    institution: str
    refusal: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    arrays: ArrayRecord | None = None
    num_examples: int = 0
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    ledger_head: str = ""
    tallies: Mapping[str, ScoreTally] = field(default_factory=dict)
    advert: str = ""
    sum: SumAnswer | None = None


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
    if request.sum is not None:
        config["sum"] = request.sum.to_text()
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
        raise invalid("Expected a record named request.")
    plan, server_round = record.get("plan"), record.get("server-round")
    splits, head = record.get("splits", []), record.get("ledger-head", "")
    about_sum = record.get("sum", "")
    if (
        not isinstance(plan, str)
        or not isinstance(head, str)
        or not isinstance(about_sum, str)
        or type(server_round) is not int  # not isinstance: True is an int to Python
        or not isinstance(splits, list)
        or not set(splits) <= set(SCORED)
        # Each split is a pass over records, and a list could repeat one for ever.
        or len(splits) > len(SCORED)
    ):
        raise invalid(
            "Expected plan (text), server-round (integer), splits (names), ledger-head (text) and"
            " sum (text)."
        )
    return Request(
        plan=plan,
        server_round=server_round,
        arrays=_read_arrays(content),
        splits=cast(list[str], splits),
        ledger_head=head,
        sum=SumQuestion.from_text(about_sum) if about_sum else None,
    )


def pack_reply(reply: Reply) -> RecordDict:
    """Pack a reply into records.

    Metrics are named ``split/metric``, sums of tallies ``sums/split/statistic``.
    """
    metrics: dict[str, int | float | list[int] | list[float]] = {"num-examples": reply.num_examples}
    for split, evaluation in reply.evaluations.items():
        metrics.update({f"{split}/{name}": value for name, value in evaluation.items()})
    metrics.update({f"figures/{name}": value for name, value in reply.figures.items()})
    for split, tally in reply.tallies.items():
        metrics[f"{NOISE_OF}{split}"] = tally.std
        # One type a list: a count that is a float stays one.
        metrics.update(
            {
                f"{SUMS_OF}{split}/{name}": list(map(float, sums))
                for name, sums in tally.sums.items()
            }
        )
    records = RecordDict()
    who = _who(reply.institution, str(reply.refusal or ""), reply.ledger_head)
    if reply.advert or reply.sum is not None:
        text = "" if reply.sum is None else reply.sum.to_text()
        # A record of its own: the other is remembered, and stands in many replies
        who = ConfigRecord({**who, "advert": reply.advert, "sum": text})
    records["reply"] = who
    records["metrics"] = MetricRecord(metrics)
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
    record, metrics = content.get("reply"), content.get("metrics")
    if not isinstance(record, ConfigRecord) or not isinstance(metrics, MetricRecord):
        raise invalid("Expected records named reply and metrics.")
    institution, refusal = record.get("institution"), record.get("refusal")
    head, num_examples = record.get("ledger-head", ""), metrics.get("num-examples")
    advert, about_sum = record.get("advert", ""), record.get("sum", "")
    texts = (institution, refusal, head, advert, about_sum)
    if (
        not all(isinstance(text, str) for text in texts)
        or type(num_examples) is not int
        or not 0 <= num_examples <= LARGEST_COUNT
    ):
        raise invalid(
            "Expected institution, refusal, ledger-head and num-examples >= 0, at most 2**53;"
            " advert and sum as text."
        )
    if refusal and not WORD.fullmatch(str(refusal)):
        raise invalid("Expected refusal to be a code: letters a to z, digits and _, at most 64.")
    if len(str(institution)) > _LONGEST_NAME or not _HEAD.fullmatch(str(head)):
        raise invalid("Expected a name of at most 1000 characters, and ledger-head as a head.")
    if len(str(advert)) > LONGEST_ADVERT:
        raise invalid(f"Expected an advert of at most {LONGEST_ADVERT} characters.")
    arrays = _read_arrays(content)
    numbers, tallies = read_tallies(metrics)
    evaluations = read_numbers(numbers)
    return Reply(
        institution=str(institution),
        refusal=str(refusal) or None,
        figures=evaluations.pop("figures", {}),
        arrays=arrays,
        num_examples=num_examples,
        evaluations=evaluations,
        ledger_head=str(head),
        tallies={split: tally for split, tally in tallies.items() if split in evaluations},
        advert=str(advert),
        sum=SumAnswer.from_text(str(about_sum)) if about_sum else None,
    )


def as_read(reply: Reply) -> Reply:
    """Return a reply as whoever it is sent to reads it, but for its tensors, in the same process.

    Raises:
        ProtocolError: as :func:`unpack_reply`.
    """
    is_of_sum = bool(reply.advert) or reply.sum is not None
    if not (reply.evaluations or reply.figures or reply.tallies or is_of_sum):
        return reply
    is_unchanged = not (reply.tallies or is_of_sum) and all(
        split in SPLITS and is_plain(evaluation) for split, evaluation in reply.evaluations.items()
    )
    if is_unchanged and all(map(_is_finite_float, reply.figures.values())):
        return reply  # reading it would change nothing
    return replace(unpack_reply(pack_reply(replace(reply, arrays=None))), arrays=reply.arrays)


def _is_finite_float(value: object) -> bool:
    return type(value) is float and math.isfinite(value)


def _read_arrays(content: RecordDict) -> ArrayRecord | None:
    arrays = content.get("arrays")
    if arrays is not None and not isinstance(arrays, ArrayRecord):
        raise invalid("Expected arrays to be an ArrayRecord.")
    return arrays


__all__ = [
    "OLD",
    "PERSONAL",
    "SCORED",
    "SPLITS",
    "STEPS",
    "Evaluation",
    "Reply",
    "Request",
    "RequestKind",
    "as_read",
    "message_type",
    "pack_reply",
    "pack_request",
    "unpack_reply",
    "unpack_request",
]
