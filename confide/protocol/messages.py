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

from confide.config.tasks.table import known_metrics
from confide.errors import ProtocolError
from confide.metrics.metric import NOISE
from confide.metrics.tally import ScoreTally
from confide.protocol.masked_sums import LONGEST_ADVERT, SumAnswer, SumQuestion
from confide.protocol.refusals import Refusal

_LARGEST_COUNT = 2**53
"""Of records, in a reply: counts are weights, and beyond this a float is no longer exact."""
# Means are computed in floating point: an honest score may pass 1 by its last bits.
_ROUNDING = 1e-9
# A standard deviation beyond it says nothing, and its square has to be a number.
_LARGEST_NOISE = 1e9
_SUMS, _STD = "sums/", "sums-noise/"
# What a reply calls something is kept with a run, logged and shown; a later release has other words
_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_HEAD = re.compile(r"[0-9A-Za-z+/=: ]{0,1024}")
_LONGEST_METRIC, _LONGEST_NAME, _MOST_NUMBERS = 300, 1000, 5000

RequestKind = Literal["query", "train", "evaluate", "unmask"]
"""What is asked for: a description, an update, scores, or shares that open a masked sum."""

SPLITS = ("train", "validation", "test")
STEPS = "steps"
"""Figure of a reply: the number of local steps in its update, where plans allow for fewer."""
PERSONAL = "personal"
"""What stands among splits for the test records, scored with tensors of the institution's own."""
OLD = "old"
"""What stands among splits for test records that the model a run started from was tested on too;
where an institution tells them apart, the test split has the others alone."""
SCORED = (*SPLITS, PERSONAL, OLD)
"""All that an evaluation may be about."""

Evaluation = Mapping[str, float]
"""Metric name -> value, with ``num_examples``, its support; where it was released with noise,
``num_examples`` has noise too, and metric_noise -> the standard deviation of the metric's."""


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
        raise _invalid("Expected a record named request.")
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
        raise _invalid(
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
        metrics[f"{_STD}{split}"] = tally.std
        # One type a list: a count that is a float stays one.
        metrics.update(
            {f"{_SUMS}{split}/{name}": list(map(float, sums)) for name, sums in tally.sums.items()}
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
        raise _invalid("Expected records named reply and metrics.")
    institution, refusal = record.get("institution"), record.get("refusal")
    head, num_examples = record.get("ledger-head", ""), metrics.get("num-examples")
    advert, about_sum = record.get("advert", ""), record.get("sum", "")
    texts = (institution, refusal, head, advert, about_sum)
    if (
        not all(isinstance(text, str) for text in texts)
        or type(num_examples) is not int
        or not 0 <= num_examples <= _LARGEST_COUNT
    ):
        raise _invalid(
            "Expected institution, refusal, ledger-head and num-examples >= 0, at most 2**53;"
            " advert and sum as text."
        )
    if refusal and not _WORD.fullmatch(str(refusal)):
        raise _invalid("Expected refusal to be a code: letters a to z, digits and _, at most 64.")
    if len(str(institution)) > _LONGEST_NAME or not _HEAD.fullmatch(str(head)):
        raise _invalid("Expected a name of at most 1000 characters, and ledger-head as a head.")
    if len(str(advert)) > LONGEST_ADVERT:
        raise _invalid(f"Expected an advert of at most {LONGEST_ADVERT} characters.")
    arrays = _read_arrays(content)
    numbers, tallies = _read_tallies(metrics)
    evaluations = _read_numbers(numbers)
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
    is_plain = not (reply.tallies or is_of_sum) and all(
        split in SPLITS and _is_plain(evaluation) for split, evaluation in reply.evaluations.items()
    )
    if is_plain and all(map(_is_finite_float, reply.figures.values())):
        return reply  # reading it would change nothing
    return replace(unpack_reply(pack_reply(replace(reply, arrays=None))), arrays=reply.arrays)


def _is_finite_float(value: object) -> bool:
    return type(value) is float and math.isfinite(value)


def _is_plain(evaluation: Evaluation) -> bool:
    """Tell whether metrics are read as they are: all are numbers of their range."""
    ranges = _ranges(tuple(evaluation))
    return ranges is not None and all(
        type(value) is kind and least <= value <= largest and value < math.inf
        for value, (kind, least, largest) in zip(evaluation.values(), ranges, strict=True)
    )


# Of few different sets of metrics, and each name is looked for in many tables.
@functools.lru_cache(maxsize=256)
def _ranges(names: tuple[str, ...]) -> Sequence[tuple[type, float, float]] | None:
    """Return type and range of each metric; None if one is a custom task's, or noise."""
    known = known_metrics()
    found: list[tuple[type, float, float]] = []
    for name in names:
        if name == "num_examples":
            found.append((int, 1.0, float(_LARGEST_COUNT)))
        elif name in known:
            found.append((float, known[name].least, known[name].largest))
        else:
            return None
    return found if "num_examples" in names else None


_Values = Mapping[str, int | float | list[int] | list[float]]


def _read_tallies(metrics: MetricRecord) -> tuple[_Values, dict[str, ScoreTally]]:
    """Take the tallies out of a reply's numbers, and check them; return the others too."""
    rest = {key: value for key, value in metrics.items() if not key.startswith((_SUMS, _STD))}
    sums: dict[str, dict[str, list[float]]] = {}
    for key, value in metrics.items():
        if key.startswith(_SUMS):
            split, _, name = key.removeprefix(_SUMS).partition("/")
            if not isinstance(value, list) or split not in SCORED or not name:
                raise _invalid(f"Expected {key} to be sums of a split.")
            sums.setdefault(split, {})[name] = [float(it) for it in value]
    tallies = {}
    for split, named in sums.items():
        std = metrics.get(f"{_STD}{split}")
        if not isinstance(std, float):
            raise _invalid(f"Expected the noise of the sums of {split}.")
        tally = ScoreTally(sums=named, std=std)
        problem = tally.problem()
        if problem is not None:
            raise _invalid(f"Expected {problem}, of {split}.")
        tallies[split] = tally
    return rest, tallies


def _read_numbers(metrics: _Values) -> dict[str, Evaluation]:
    """Sort a reply's numbers by what stands before the slash, and check those of splits.

    What is not finite is left out, as is every other undefined metric.
    """
    parts = _by_section(metrics)
    known = known_metrics()
    for split in parts.keys() - {"figures"}:
        support = parts[split].get("num_examples")
        if split not in SCORED or type(support) is not int or not 1 <= support <= _LARGEST_COUNT:
            raise _invalid(
                f"Expected metrics of a split with its num_examples >= 1, at most 2**53; got"
                f" {split}."
            )
        # A metric that is known here has a range; a custom task's own may be any number.
        for name in parts[split].keys() & known.keys():
            value, least, largest = parts[split][name], known[name].least, known[name].largest
            if math.isfinite(value) and not least - _ROUNDING <= value <= largest + _ROUNDING:
                raise _invalid(f"Expected {split}/{name}={value} in [{least:g}, {largest:g}].")
        for name, value in parts[split].items():
            if name.endswith(NOISE) and not 0 <= value <= _LARGEST_NOISE:
                raise _invalid(f"Expected {split}/{name}={value} in [0, {_LARGEST_NOISE:g}].")
    # The JSON of summaries has no word for NaN and infinity.
    return {
        section: {name: value for name, value in values.items() if math.isfinite(value)}
        for section, values in parts.items()
    }


def _by_section(metrics: _Values) -> dict[str, dict[str, float]]:
    """Sort a reply's numbers by what stands before the slash; without one they belong nowhere."""
    if len(metrics) > _MOST_NUMBERS:
        raise _invalid(f"Expected at most {_MOST_NUMBERS} numbers, got {len(metrics)}.")
    parts: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        section, _, name = key.partition("/")
        if not name:
            continue
        if isinstance(value, list):
            raise _invalid(f"Expected {key} to be a number.")
        if not _is_name(section, name):
            raise _invalid(f"Expected a name and not {name[:_LONGEST_METRIC]!a} of a number.")
        parts.setdefault(section, {})[name] = value
    return parts


def _is_name(section: str, name: str) -> bool:
    """Tell whether a figure or a metric may be called so."""
    if section == "figures":
        return _WORD.fullmatch(name) is not None
    return len(name) <= _LONGEST_METRIC and name.isprintable()  # a custom task's own is any


def _read_arrays(content: RecordDict) -> ArrayRecord | None:
    arrays = content.get("arrays")
    if arrays is not None and not isinstance(arrays, ArrayRecord):
        raise _invalid("Expected arrays to be an ArrayRecord.")
    return arrays


def _invalid(reason: str) -> ProtocolError:
    return ProtocolError(reason, code=Refusal.INVALID_MESSAGE)


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
