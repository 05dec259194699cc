"""Updates of a round that are taken where they were computed, without a message for each.

Doors are passed as ever, before the computation and after it (`confide.client.training_round`), and
the coordinator's own checks are made on every update: what is left out is bytes that one process
would write for itself. Where the aggregation rule is a sum, updates of several institutions are
added up at once, bit for bit as one by one.
"""

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from confide.client.institution import Institution
from confide.client.training_round import RoundWork
from confide.client.update_measures import UpdateMeasures
from confide.errors import ProtocolError
from confide.protocol.messages import Reply, as_read
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import LARGEST_FLOAT32, Shapes, Tensors, check_values, unflatten
from confide.server.rounds.collect import Intake, PartialSum, collect
from confide.server.rounds.participants import Answer, Question, check_reply
from confide.server.rounds.tally import Tally
from confide.strategies.aggregators import FixedPointMean
from confide.strategies.algorithm import ClientResult
from confide.strategies.strategy import ClientUpdate, SumRule

log = logging.getLogger(__name__)

Begun = Sequence[tuple[Institution, RoundWork]]
"""Rounds that were begun, each with whose it is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Leaving:
    """What leaves of m institutions: updates, and what the algorithm sends beside them.

    Attributes:
        rows: values of each, float32 of shape [m, d].
        shapes: of the tensors in a row, in their order there.
        measures: of each, for the policy; None to have each measured at its door.
    """

    rows: Tensor
    shapes: Shapes
    measures: Sequence[UpdateMeasures] | None = None

    def of(self, index: int) -> Tensors:
        """Return one institution's."""
        return unflatten(self.rows[index], self.shapes)

    def ordered(self, shapes: Shapes) -> Tensor:
        """Return rows in the order of ``shapes``, which are the same."""
        if list(self.shapes) == list(shapes):
            return self.rows
        widths = [torch.Size(shape).numel() for shape in self.shapes.values()]
        parts = dict(zip(self.shapes, self.rows.split(widths, dim=1), strict=True))
        return torch.cat([parts[name] for name in shapes], dim=1)


class Gathering:
    """A round whose updates are taken where they were computed.

    Args:
        intake: of the round.
        question: what is asked.
    """

    def __init__(self, intake: Intake, question: Question) -> None:
        self._intake, self._question = intake, question
        rule = intake.under_way.rule
        self._total = None if rule is None else _start(rule)
        # Of those who are checked; None where the update is in the sum
        self._taken: dict[str, Tensors | None] = {}

    def tally(self, answers: Iterator[tuple[str, Answer]]) -> Tally:
        """Take answers, some of them as :meth:`ended` returned them, to the end of the round."""
        intake, clients = self._intake, self._question.clients

        def heard() -> Iterator[tuple[str, Answer]]:
            for name, answer in answers:
                clients.hear(name, answer)
                yield name, answer

        tally = collect(replace(intake, ask_fn=lambda _: heard()), self._take)
        if self._total is not None:
            intake.merge(PartialSum(self._total.total, self._total.total_weight, {}), tally)
        return tally

    def _take(self, name: str, reply: Reply) -> None:
        if name not in self._taken:
            self._intake.add_unless_summed(name, reply)
            return
        update = self._taken.pop(name)  # checked already
        if update is not None:
            own = ClientUpdate(client=name, tensors=update, num_examples=reply.num_examples)
            self._intake.under_way.add(own)

    def ended(
        self, begun: Begun, result_fn: Callable[[int], ClientResult], leaving: Leaving | None
    ) -> list[tuple[str, Reply]]:
        """Bring what was computed to the doors, and take the updates that may leave.

        Args:
            begun: m rounds.
            result_fn: index of a round -> what was computed of it; what it raises is a refusal.
            leaving: of the same rounds; None where there is nothing, or something else than was
                asked for, to be sent as it is.

        Returns:
            Name and reply of each.
        """
        measures: Sequence[UpdateMeasures | None] = [None] * len(begun)
        if leaving is not None and leaving.measures is not None:
            measures = leaving.measures
        replies = [
            (
                institution.name,
                institution.end(
                    work,
                    functools.partial(result_fn, index),
                    sends_update=leaving is None,
                    measures=measures[index],
                ),
            )
            for index, (institution, work) in enumerate(begun)
        ]
        return replies if leaving is None else self._added(replies, leaving)

    def broken_off(
        self, institution: Institution, work: RoundWork, error: Exception
    ) -> list[tuple[str, Reply]]:
        """Bring what broke a computation off to its door, which refuses."""

        def raises(index: int) -> ClientResult:
            raise error

        return self.ended([(institution, work)], raises, None)

    def _added(
        self, replies: Sequence[tuple[str, Reply]], leaving: Leaving
    ) -> list[tuple[str, Reply]]:
        """Check updates as the coordinator would, and add them up or keep them for their turn.

        Returns:
            Replies, with a refusal where an update did not go in.
        """
        intake = self._intake
        values = leaving.ordered(intake.shapes)
        bound = min(intake.max_value, LARGEST_FLOAT32)
        within = (_largest(values) <= bound).tolist()
        rows: list[int] = []
        answers = []
        for index, (name, reply) in enumerate(replies):
            answer = reply
            if not reply.refusal:
                try:
                    check_reply(reply, name, declared=intake.declared[name])
                    if not within[index]:
                        check_values(leaving.of(index), max_value=bound)
                    answer = as_read(reply)
                    rows.append(index)
                except ProtocolError as error:
                    log.warning("The update of %s is refused: %s", name, error)
                    # Nor is what it says of a model believed whose update is wrong
                    answer = replace(reply, refusal=error.code, evaluations={})
            answers.append((name, answer))
        if self._total is None:
            for index in rows:
                self._taken[replies[index][0]] = unflatten(values[index], intake.shapes)
        elif rows:
            self._taken |= dict.fromkeys(replies[index][0] for index in rows)
            taken = values if len(rows) == len(values) else values[rows]
            self._total.add_rows(taken, [replies[index][1].num_examples for index in rows])
        return answers


def silent(late: Sequence[str], timeout_s: float) -> Iterator[tuple[str, Answer]]:
    """Yield what stands in place of answers that did not come in time, and say how many."""
    if late:
        log.warning("%d institutions have not answered within %g s.", len(late), timeout_s)
    yield from ((name, Refusal.NO_REPLY) for name in sorted(late))


def _largest(rows: Tensor) -> Tensor:
    """Return the largest absolute value of each row, NaN for NaN, shape [m].

    In float64, as where updates are decoded: what it is held against need not be a float32.
    """
    if not rows.shape[1]:
        return torch.zeros(len(rows), dtype=torch.float64)
    if len(rows) == 1:  # without a copy of a large one
        low, high = torch.aminmax(rows[0])
        return torch.maximum(low.neg_(), high).double()[None]
    return rows.abs().amax(dim=1).double()


def _start(rule: SumRule) -> FixedPointMean | None:
    """Begin a sum of rows; None for a rule of one's own that takes each update its own way."""
    accumulator = rule.aggregator.start(rule.shapes, rule.bounds)
    # Additive custom rules are checked for this when the strategy is built.
    assert isinstance(accumulator, FixedPointMean)
    return accumulator if type(accumulator).add is FixedPointMean.add else None


__all__ = ["Begun", "Gathering", "Leaving", "silent"]
