"""A round's question to institutions in this process, which compute one after the other."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence

import torch

from confide.client.institution import Institution
from confide.client.training_round import RoundWork
from confide.client.update_measures import measure_rows
from confide.protocol.messages import Reply, Request
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import Shapes, flatten, shapes_of
from confide.server.rounds.clock import Deadline
from confide.server.rounds.collect import Intake
from confide.server.rounds.participants import Answer
from confide.simulations.engines.gathering import Gathering, Leaving, silent
from confide.simulations.populations.doors import Doors, Unopened, opened_or_not
from confide.strategies.algorithm import ClientResult, join_extra

log = logging.getLogger(__name__)

# Small clients are computed one after the other, and what they bring is taken together.
_SLICE_S, _SLICE = 0.05, 64
# Values of an update up to which several are measured at once: torch adds more up in parts.
_MEASURED = 2**14

_Computed = list[tuple[tuple[Institution, RoundWork], ClientResult | Exception]]


class OneByOne:
    """Asks institutions one after the other.

    Args:
        doors: opens them.
        gathering: takes their updates.
        intake: of the round.
    """

    def __init__(self, doors: Doors, gathering: Gathering, intake: Intake) -> None:
        self._doors, self._gathering, self._intake = doors, gathering, intake

    def answers(
        self, names: Sequence[str], requests: Iterable[tuple[str, Request]]
    ) -> Iterator[tuple[str, Answer]]:
        """Yield an answer for each who is asked.

        Nobody begins once the round's time is up; what is under way is taken.

        Args:
            names: of all of them.
            requests: what each is asked.
        """
        deadline = Deadline.after(self._intake.timeout_s, self._intake.clock)
        self._doors.expect(names)
        late: list[str] = []
        computed: _Computed = []
        end = time.monotonic() + _SLICE_S
        for number, (name, request) in enumerate(requests):
            if late or deadline.is_past(len(names) - number):
                late.append(name)
                continue
            begun = self._begin(name, request)
            if isinstance(begun, tuple):
                computed.append((begun, _compute(*begun)))
            else:
                yield name, begun
            if len(computed) == _SLICE or time.monotonic() >= end:
                yield from self._ended(computed)
                computed, end = [], time.monotonic() + _SLICE_S
        yield from self._ended(computed)
        yield from silent(late, self._intake.timeout_s)

    def _begin(self, name: str, request: Request) -> tuple[Institution, RoundWork] | Answer:
        try:
            opened = opened_or_not(self._doors, name)
        # As an app that raises at a SuperNode: an error reply, and the round goes on
        except Exception:
            log.exception("%s raised.", name)
            return Refusal.ERROR_REPLY
        if isinstance(opened, Unopened):
            return opened.handle("train", request)
        begun = opened.begin(request)
        return begun if isinstance(begun, Reply) else (opened, begun)

    def _ended(self, computed: _Computed) -> Iterator[tuple[str, Reply]]:
        whole = [(pair, one) for pair, one in computed if isinstance(one, ClientResult)]
        results = [one for _, one in whole]
        if results:
            leaving = _side_by_side(results, self._intake.shapes)
            yield from self._gathering.ended(
                [pair for pair, _ in whole], results.__getitem__, leaving
            )
        for pair, one in computed:
            if isinstance(one, Exception):
                yield from self._gathering.broken_off(*pair, one)


def _compute(institution: Institution, work: RoundWork) -> ClientResult | Exception:
    try:
        return institution.compute(work)
    except Exception as error:  # a refusal, once it is brought to the door
        return error


def _side_by_side(results: Sequence[ClientResult], shapes: Shapes) -> Leaving | None:
    """Lay updates out in rows; None where one is not what was asked for."""
    updates = [join_extra(one.update, one.extra) for one in results]
    names = list(updates[0])
    own = shapes_of(updates[0])
    if own != shapes or any(shapes_of(update) != own for update in updates):
        return None
    flat = [flatten(update, names).detach() for update in updates]
    if any(one.dtype != torch.float32 or one.device.type != "cpu" for one in flat):
        return None
    rows = torch.stack(flat) if len(flat) > 1 else flat[0][None]
    is_small = rows.shape[1] <= _MEASURED
    return Leaving(rows=rows, shapes=own, measures=measure_rows(rows) if is_small else None)


__all__ = ["OneByOne"]
