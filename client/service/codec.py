"""Writes requests and replies as a header and chunks, and reads them.

A header says all but the values of tensors, which :mod:`confide.client.service.chunks` carries. It
is checked before anything that follows it is kept.
"""

import itertools
from collections.abc import Iterator, Sequence

from confide.client.service import trainer_pb2 as pb
from confide.client.service.chunks import WireLimits, chunks, read_arrays, signatures
from confide.errors import ProtocolError
from confide.metrics.tally import ScoreTally
from confide.protocol.masked_sums import (
    LONGEST_ADVERT,
    LONGEST_SUM_TEXT,
    SumAnswer,
    SumQuestion,
)
from confide.protocol.messages import SCORED, Evaluation, Reply, Request
from confide.protocol.plan import LONGEST_PLAN

MESSAGE_BYTES = 4 * 2**20
"""Size of the largest message: a header with the most names, or the longest plan and the longest
text about a masked sum, which are larger than a chunk."""

_LONGEST_TEXT = 300
_MOST_NUMBERS = 1000


def request_parts(request: Request) -> Iterator[pb.RequestPart]:
    """Write a request: its header at once, its tensors in chunks as they are sent.

    Raises:
        ProtocolError: if it cannot be written, for instance tensors of another dtype.
    """
    # Not a generator, so that a mistake is raised here and not inside gRPC's thread.
    about_sum = _about_sum(request.sum)
    try:
        header = pb.RequestHeader(
            plan=request.plan,
            server_round=request.server_round,
            splits=request.splits,
            ledger_head=request.ledger_head,
            arrays=signatures(request.arrays),
            sum=about_sum,
        )
    except (TypeError, ValueError):  # not encodable as UTF-8, or beyond 64 bits
        raise ProtocolError(
            "Expected plan, splits and ledger_head as text, server_round as an integer."
        ) from None
    first = pb.RequestPart(header=header)
    _check_header_size(first.ByteSize())
    return itertools.chain(
        [first], (pb.RequestPart(chunk=chunk) for chunk in chunks(request.arrays))
    )


def reply_parts(reply: Reply) -> Iterator[pb.ReplyPart]:
    """Write a reply: its header at once, its tensors in chunks as they are sent.

    Raises:
        ProtocolError: if it cannot be written, for instance tensors of another dtype.
    """
    about_sum = _about_sum(reply.sum)
    try:
        header = pb.ReplyHeader(
            institution=reply.institution,
            refusal=reply.refusal,
            figures=_numbers(reply.figures),
            num_examples=reply.num_examples,
            evaluations=[
                pb.Evaluation(
                    split=split, metrics=_numbers(metrics), tally=_tally(reply.tallies.get(split))
                )
                for split, metrics in reply.evaluations.items()
            ],
            ledger_head=reply.ledger_head,
            arrays=signatures(reply.arrays),
            advert=reply.advert,
            sum=about_sum,
        )
    except (TypeError, ValueError):
        raise ProtocolError(
            "Expected names as text, figures and metrics as numbers of 64 bits."
        ) from None
    first = pb.ReplyPart(header=header)
    _check_header_size(first.ByteSize())
    return itertools.chain([first], (pb.ReplyPart(chunk=chunk) for chunk in chunks(reply.arrays)))


def read_request(parts: Iterator[pb.RequestPart], limits: WireLimits) -> Request:
    """Read a request to its end.

    Args:
        parts: parts as they arrive.
        limits: limits of what is accepted.

    Raises:
        ProtocolError: if it is not a request, or exceeds the limits (``too_large``, before any
            tensor is kept).
    """
    part = next(parts, None)
    if part is None or part.WhichOneof("part") != "header":
        raise ProtocolError("Expected a request to begin with a header.")
    header = part.header
    _check_texts(header.ledger_head)
    if len(header.plan) > LONGEST_PLAN:
        raise ProtocolError(
            f"Expected a plan of at most {LONGEST_PLAN} characters; got {len(header.plan)}.",
            code="too_large",
        )
    _check_splits(header.splits)
    question = SumQuestion.from_text(header.sum) if header.sum else None
    return Request(
        plan=header.plan,
        server_round=header.server_round,
        arrays=read_arrays(header, parts, limits),
        splits=list(header.splits),
        ledger_head=header.ledger_head,
        sum=question,
    )


def read_reply(parts: Iterator[pb.ReplyPart], limits: WireLimits) -> Reply:
    """Read a reply to its end.

    Args:
        parts: parts as they arrive.
        limits: limits of what is accepted.

    Raises:
        ProtocolError: if it is not a reply, or exceeds the limits (``too_large``, before any tensor
            is kept).
    """
    part = next(parts, None)
    if part is None or part.WhichOneof("part") != "header":
        raise ProtocolError("Expected a reply to begin with a header.")
    header = part.header
    _check_texts(header.institution, header.refusal, header.ledger_head)
    if len(header.advert) > LONGEST_ADVERT:
        raise ProtocolError(f"Expected an advert of at most {LONGEST_ADVERT} characters.")
    if header.num_examples < 0:
        raise ProtocolError(f"Expected num_examples={header.num_examples} >= 0.")
    _check_splits([evaluation.split for evaluation in header.evaluations])
    answer = SumAnswer.from_text(header.sum) if header.sum else None
    return Reply(
        institution=header.institution,
        refusal=header.refusal if header.HasField("refusal") else None,
        figures=_read_numbers(header.figures),
        num_examples=header.num_examples,
        evaluations={
            evaluation.split: _read_numbers(evaluation.metrics) for evaluation in header.evaluations
        },
        ledger_head=header.ledger_head,
        arrays=read_arrays(header, parts, limits),
        tallies={
            evaluation.split: _read_tally(evaluation.tally)
            for evaluation in header.evaluations
            if evaluation.HasField("tally")
        },
        advert=header.advert,
        sum=answer,
    )


def _about_sum(told: SumQuestion | SumAnswer | None) -> str:
    """Write what a message says of a masked sum, where it says anything."""
    text = "" if told is None else told.to_text()
    if len(text) > LONGEST_SUM_TEXT:
        raise ProtocolError(
            f"Expected at most {LONGEST_SUM_TEXT} characters about a masked sum; got {len(text)}.",
            code="too_large",
        )
    return text


def _check_header_size(size: int) -> None:
    if size > MESSAGE_BYTES:
        raise ProtocolError(
            f"Expected a header of at most {MESSAGE_BYTES} bytes; got {size}.", code="too_large"
        )


def _check_texts(*texts: str) -> None:
    if any(len(text) > _LONGEST_TEXT for text in texts):
        raise ProtocolError(
            f"Expected names, codes and heads of at most {_LONGEST_TEXT} characters."
        )


def _check_splits(splits: Sequence[str]) -> None:
    if len(splits) > len(SCORED) or len({*splits} & {*SCORED}) != len(splits):
        raise ProtocolError(f"Expected splits among {', '.join(SCORED)}, each once.")


def _numbers(values: Evaluation) -> list[pb.Number]:
    return [
        (
            pb.Number(name=name, integer=value)
            if isinstance(value, int)
            else pb.Number(name=name, real=value)
        )
        for name, value in values.items()
    ]


def _read_numbers(numbers: Sequence[pb.Number]) -> dict[str, float]:
    if len(numbers) > _MOST_NUMBERS:
        raise ProtocolError(f"Expected at most {_MOST_NUMBERS} figures; got {len(numbers)}.")
    _check_texts(*(number.name for number in numbers))
    values: dict[str, float] = {}
    for number in numbers:
        kind = number.WhichOneof("value")
        if kind is None or number.name in values:
            raise ProtocolError("Expected every figure to have one name and one value.")
        values[number.name] = number.real if kind == "real" else number.integer
    return values


def _tally(tally: ScoreTally | None) -> pb.Tally | None:
    if tally is None:
        return None
    sums = [pb.Sums(statistic=name, values=values) for name, values in tally.sums.items()]
    return pb.Tally(sums=sums, std=tally.std)


def _read_tally(told: pb.Tally) -> ScoreTally:
    if len(told.sums) > _MOST_NUMBERS:
        raise ProtocolError(f"Expected at most {_MOST_NUMBERS} statistics; got {len(told.sums)}.")
    _check_texts(*(one.statistic for one in told.sums))
    tally = ScoreTally(sums={one.statistic: list(one.values) for one in told.sums}, std=told.std)
    problem = tally.problem()
    if problem is not None:
        raise ProtocolError(f"Expected {problem}.")
    return tally


__all__ = [
    "MESSAGE_BYTES",
    "read_reply",
    "read_request",
    "reply_parts",
    "request_parts",
]
