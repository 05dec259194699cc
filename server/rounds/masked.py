"""Rounds, and scores, of which the coordinator sees the sum alone.

Two exchanges: masked vectors come in, then shares that take the masks off their sum. What was
added up, by whom, is durable before anybody is asked for shares: institutions help to open a sum
for one set of survivors, so that a coordinator that was killed has to ask for the same.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy
from flwr.app import ArrayRecord
from numpy.typing import NDArray

from confide.config.aggregation import FEWEST_INSTITUTIONS, MOST_INSTITUTIONS
from confide.errors import ProtocolError, RunFailedError
from confide.protocol.codecs.travel import PLAIN
from confide.protocol.masked_sums import MaskedSums, OpenedBefore, SumAnswer, SumQuestion
from confide.protocol.messages import Evaluation, Reply, Request
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import LARGEST_FLOAT32, Shapes, Tensors, num_values, shapes_of
from confide.protocol.words import decode_words
from confide.secure_aggregation.context import SumContext, least_threshold, most_colluding
from confide.secure_aggregation.survivors import is_signed
from confide.secure_aggregation.wide import from_words
from confide.server.rounds.collect import Intake, collect
from confide.server.rounds.enrolled import Enrolled, varies
from confide.server.rounds.job import Job
from confide.server.rounds.participants import Answer, Question, check_reply
from confide.server.rounds.state import Opened, RunState, SumUnderWay
from confide.server.rounds.tally import Tally
from confide.server.secure_sums.collector import MaskedSum
from confide.strategies.masked_sums import context_of, length_of, question_of, scores_in, weight_of

log = logging.getLogger(__name__)


def is_masked(job: Job) -> bool:
    """Tell whether a job's updates and scores come in under masks."""
    return job.plan.sums is not None and not job.reach.emulates_sums


def sums_of(job: Job) -> MaskedSums:
    """Return what the plan of a job with masked sums says of them."""
    assert job.plan.sums is not None  # asked by `is_masked`
    return job.plan.sums


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A sum that cannot be opened.

    Attributes:
        code: why.
        missing: name -> code of those whose vectors or shares did not come.
        opened: what institutions are shown of it that helped to open it.
    """

    code: Refusal
    missing: Mapping[str, str]
    opened: Opened


@dataclass(frozen=True, kw_only=True)
class Total:
    """A sum that was opened.

    Attributes:
        values: of the updates, int64 of shape [d].
        weight: of the updates in it.
        evaluations: split -> metrics of all together; empty where nobody told any.
        opened: what institutions are shown of it in the next sum.
    """

    values: NDArray[numpy.int64]
    weight: int
    evaluations: Mapping[str, Evaluation]
    opened: Opened


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What a masked sum is asked for.

    Attributes:
        kind: train or evaluate.
        server_round: of the request.
        cohort: names of those who are asked, in order.
        tensors: of the request.
        arrays: the same as they travel.
        shapes: of an update; empty where scores alone are asked for.
        splits: of whose records scores are.
    """

    kind: str
    server_round: int
    cohort: Sequence[str]
    tensors: Tensors
    arrays: ArrayRecord
    shapes: Shapes
    splits: tuple[str, ...]


def question_in(enrolled: Enrolled, state: RunState, asking: Asking) -> tuple[Question, SumContext]:
    """Write down what a cohort is asked, and which sum it is for.

    Raises:
        RunFailedError: if so many institutions make no masked sum, or one has no key of the job.
    """
    job, sums = enrolled.job, sums_of(enrolled.job)
    count, plan = len(asking.cohort), job.plan
    if not FEWEST_INSTITUTIONS <= count <= MOST_INSTITUTIONS:
        raise RunFailedError(
            f"A masked sum takes {FEWEST_INSTITUTIONS} to {MOST_INSTITUTIONS} institutions, and"
            f" there are {count}; bring more, draw fewer, or set aggregation=plain.",
            when=f"round {asking.server_round}",
        )
    asked = SumQuestion(
        cohort=tuple(enrolled.clients.adverts[name] for name in asking.cohort),
        threshold=sums.threshold or least_threshold(count, most_colluding(count)),
        before=state.opened.sums,
    )
    travel = enrolled.download if asking.kind == "train" else PLAIN
    digest = travel.decode(
        asking.arrays, shapes_of(asking.tensors), max_value=LARGEST_FLOAT32
    ).digest
    scores = scores_in(plan, asking.splits, count)
    context = context_of(
        plan,
        sums,
        asked,
        server_round=asking.server_round,
        question=question_of(asking.kind, plan, digest, asking.splits, asked.before),
        length=length_of(asking.shapes, scores, sums),
    )
    request = Request(
        plan=enrolled.plan,
        server_round=asking.server_round,
        arrays=asking.arrays,
        splits=asking.splits if asking.kind == "evaluate" else (),
        sum=asked,
    )
    return enrolled.question(asking.cohort, request), context


def vectors_of(
    context: SumContext, declared: Mapping[str, int]
) -> tuple[MaskedSum, Callable[[str, Reply], None]]:
    """Begin a sum; return it and what takes a reply's vector into it.

    Args:
        context: of the sum.
        declared: name -> declared number of training records.
    """
    under_way = MaskedSum(context=context)

    def take(name: str, reply: Reply) -> None:
        check_reply(reply, name, declared=declared[name])
        if reply.arrays is None or reply.sum is None:
            raise ProtocolError(f"{name} sends no masked vector.", code=Refusal.TENSOR_NAMES)
        words = decode_words(reply.arrays, bits=context.bits, length=context.length)
        under_way.add(name, words, reply.sum.boxes, reply.sum.commitments)

    return under_way, take


def add_vectors(intake: Intake, question: Question, context: SumContext) -> tuple[MaskedSum, Tally]:
    """Ask for masked vectors and add up what comes, until the exchange is over.

    Args:
        intake: of the round; what is in its accumulator stays as it is.
        question: of :func:`question_in`.
        context: of the sum.

    Returns:
        The sum, closed, and what became of whom.
    """
    under_way, take_fn = vectors_of(context, intake.declared)
    tally = collect(replace(intake, question=question), take_fn)
    under_way.close()
    return under_way, tally


def least_of_round(job: Job, context: SumContext) -> int:
    """Return the fewest whose sum ends a round: they can open it, and are enough of a run."""
    least = job.settings.min_clients
    if varies(job):  # chance drew fewer, whose loss it is not
        least = min(least, len(context.names))
    return max(least, least_to_open(context))


def least_to_open(context: SumContext) -> int:
    """Return the fewest whose sum institutions help to open."""
    return max(context.threshold, FEWEST_INSTITUTIONS)


def too_few_in(least: int, under_way: MaskedSum) -> bool:
    """Tell whether fewer than ``least`` brought vectors: nobody is asked for shares then."""
    return len(under_way.survivors) < least


def open_sum(enrolled: Enrolled, state: RunState, under_way: SumUnderWay) -> Total | Lost:
    """Ask the survivors for shares, and take the masks off.

    Args:
        enrolled: who takes part.
        state: with which the sum was made durable.
        under_way: the sum, closed.
    """
    masked, job = under_way.masked, enrolled.job
    context, alive = masked.context, masked.close()
    answers: dict[str, Mapping[str, bytes]] = {}
    signatures: dict[str, bytes] = {}
    missing: dict[str, str] = {}
    there, declared = enrolled.clients.num_examples, declared_in(context)
    missing |= {name: Refusal.NO_REPLY for name in alive if name not in there}  # it withdrew since
    for name, answer in _shares(enrolled, masked, [name for name in alive if name in there]):
        try:
            told = _share_of(name, answer)
            masked.check_answer(name, told.shares)
            if not is_signed(context, alive, name, told.signature):
                raise ProtocolError("It signed for nobody.", code=Refusal.SUM_SURVIVORS)
        except ProtocolError as error:
            log.warning("%s gives no shares: %s", name, error)
            missing[name] = error.code
            continue
        answers[name], signatures[name] = told.shares, told.signature
        if len(answers) == context.threshold:
            break
    opened = state.opened.plus(
        OpenedBefore(digest=context.digest, survivors=alive, signatures=signatures),
        is_whole=len(answers) >= context.threshold,
    )
    if len(answers) < context.threshold:
        return Lost(code=Refusal.SUM_TOO_FEW, missing=missing, opened=opened)
    sums = sums_of(job)
    weight = sum(weight_of(declared[name], sums) for name in alive)
    count = num_values(under_way.shapes)
    try:
        whole = masked.open(answers)
        most = sums.max_value * weight * 2.0**context.scale_bits
        masked.check_bound(whole[:count], int(most) + len(alive))
    except (ProtocolError, RunFailedError) as error:
        log.warning("The sum of round %d is wrong: %s", context.server_round, error)
        return Lost(code=Refusal.SUM_OUT_OF_RANGE, missing={}, opened=opened)
    scores = scores_in(job.plan, under_way.splits, len(context.cohort))
    return Total(
        values=whole[:count],
        weight=weight,
        evaluations=scores.read(from_words(whole[count:], context.bits)),
        opened=opened,
    )


def declared_in(context: SumContext) -> dict[str, int]:
    """Return what each of a cohort declared: those too who withdrew when their vectors were in."""
    return {advert.name: advert.num_examples for advert in context.cohort}


def _shares(
    enrolled: Enrolled, masked: MaskedSum, names: Sequence[str]
) -> Iterator[tuple[str, Answer]]:
    """Ask survivors for their shares, each with the boxes that are sealed for it."""
    context, alive = masked.context, masked.close()
    asked = SumQuestion(
        cohort=tuple(advert.to_text() for advert in context.cohort),
        threshold=context.threshold,
        question=context.question,
        length=context.length,
        survivors=alive,
    )

    def own(name: str, request: Request) -> Request:
        return replace(request, sum=replace(asked, boxes=masked.boxes_for(name)))

    request = Request(plan=enrolled.plan, server_round=context.server_round, sum=asked)
    question = replace(enrolled.question(names, request), own_fn=own)
    return enrolled.ask("unmask", question)


def _share_of(name: str, answer: Answer) -> SumAnswer:
    """Take shares out of an answer.

    Raises:
        ProtocolError: if it has none.
    """
    if isinstance(answer, str):
        raise ProtocolError(f"{name} did not answer.", code=answer)
    if answer.refusal or answer.sum is None or answer.institution != name:
        raise ProtocolError(f"{name} declined.", code=answer.refusal or Refusal.SUM_SHARES)
    return answer.sum


__all__ = [
    "Asking",
    "Lost",
    "Total",
    "add_vectors",
    "declared_in",
    "is_masked",
    "least_of_round",
    "least_to_open",
    "open_sum",
    "question_in",
    "sums_of",
    "too_few_in",
    "vectors_of",
]
