"""The inline engine: a grid that calls institutions in this process, one after the other.

A round's question needs no message for each of them: their doors are called at once. All else, and
whatever is to be lost or late on purpose, is carried as Flower messages through the app that a
SuperNode would run.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from confide.client.app import RequestHandler, make_client_app
from confide.client.ledger.ledger import RoundsSpent
from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.flower.messages import Run, assign_message_id, raised
from confide.flower.polling import PollingGrid
from confide.server.rounds.collect import Intake, collect_updates
from confide.server.rounds.tally import Tally
from confide.simulations.engines.gathering import Gathering
from confide.simulations.engines.one_by_one import OneByOne
from confide.simulations.faults import FaultyDelivery, delivery_of
from confide.simulations.institutions import InstitutionFactory, Setup, faulty
from confide.simulations.populations.doors import Doors, open_doors, opened_or_not
from confide.simulations.populations.roster import NodeNames

log = logging.getLogger(__name__)

_SLICE_S = 0.05


class LocalGrid(PollingGrid):
    """What grids on one machine have in common.

    Args:
        node_ids: one for each institution.
    """

    pause_s = _SLICE_S

    def __init__(self, node_ids: Sequence[int]) -> None:
        self._node_ids = node_ids

    def set_run(self, run: Run) -> None:
        """Remember the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run, once set."""
        return self._run

    def collect(self, intake: Intake) -> Tally:
        """Ask a round's question and fill its accumulator; every update comes by itself."""
        return collect_updates(intake)

    def get_node_ids(self) -> Iterable[int]:
        """Return every institution's node."""
        return self._node_ids


class InlineGrid(LocalGrid):
    """Runs a ClientApp for each message when its reply is pulled; calls doors in a round.

    Little is queued but instructions, so memory does not grow with the number of clients.

    Args:
        app: the app a SuperNode would run.
        node_ids: one for each institution.
        delivery: what happens to questions and replies on their way; None brings each at once.
        expect_fn: hears which nodes will be asked, in which order.
        doors: opens institutions, whom a round's question then is put to without a message; None
            to carry every question as one.
    """

    def __init__(
        self,
        app: ClientApp,
        node_ids: Sequence[int],
        *,
        delivery: FaultyDelivery | None = None,
        expect_fn: Callable[[Sequence[int]], None] | None = None,
        doors: Doors | None = None,
    ) -> None:
        super().__init__(node_ids)
        self._app, self._doors = app, doors
        self._delivery = delivery
        self._expect_fn = expect_fn
        # The oldest goes first, which a plain dict of many would take longer and longer to find
        self._waiting: OrderedDict[str, Message] = OrderedDict()

    def collect(self, intake: Intake) -> Tally:
        """Ask a round's question and fill its accumulator, by one sum if the rule is one."""
        question = intake.question
        # What is written on its way is read from messages; and of whom comes first, one by one
        is_direct = intake.travel.codec is None and intake.wanted is None
        if question is None or self._doors is None or not is_direct:
            return super().collect(intake)
        gathering = Gathering(intake, question)
        asker = OneByOne(self._doors, gathering, intake)
        return gathering.tally(asker.answers(question.names, question.requests()))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue instructions and return their ids.

        What still waits from before is nobody's any more.
        """
        self._waiting.clear()
        if self._delivery:
            self._delivery.forget()
        ids = []
        # A question that is not heard has an id all the same: it is waited for until the timeout.
        for message in messages:
            ids.append(assign_message_id(message))
            if self._delivery is None or self._delivery.is_heard(message):
                self._waiting[ids[-1]] = message
        if self._expect_fn is not None:
            self._expect_fn([waiting.metadata.dst_node_id for waiting in self._waiting.values()])
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Carry out the oldest of these instructions that wait.

        One, or as many as fit into a twentieth of a second.

        Small clients are trained one after the other and their replies taken together, which keeps
        the code of either in the processor's cache; a large client's reply is handed over before
        the next one trains.
        """
        # The round loop gives a set, and of a large cohort a copy at each look would be long
        wanted = message_ids if isinstance(message_ids, Set) else set(message_ids)
        replies: list[Message] = []
        end = time.monotonic() + _SLICE_S
        while not replies or time.monotonic() < end:
            message_id = next((waiting for waiting in self._waiting if waiting in wanted), None)
            if message_id is None:
                break
            message = self._waiting.pop(message_id)
            replies.append(self._answer(message))
        return self._delivery.deliver(replies) if self._delivery else replies

    def _answer(self, message: Message) -> Message:
        try:
            node = message.metadata.dst_node_id
            # Our app keeps nothing in it
            context = Context(
                run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={}
            )
            return self._app(message, context)
        # As at a SuperNode: an app that raises is an error reply, and the round goes on
        except Exception:
            log.exception("Node %d raised.", message.metadata.dst_node_id)
            return raised(message)


class InlineEngine:
    """Institutions in this process, which share one trainer.

    Args:
        data: encoded records, by institution; where they are made on demand, so are institutions.
        trainer: shared by all of them.
        setup: what else they share.
    """

    def __init__(
        self, data: Mapping[str, InstitutionData], *, trainer: Trainer, setup: Setup
    ) -> None:
        self.data = data
        self._faults = setup.faults
        self._doors = open_doors(data, InstitutionFactory(trainer, setup))

    def grid(self, job: str, names: Sequence[str]) -> LocalGrid:
        """Return a grid that calls institutions when their replies are pulled."""
        by_node = NodeNames(names)
        delivery = delivery_of(self._faults, job, by_node)
        return InlineGrid(
            self._app(job, by_node),
            by_node.nodes,
            delivery=delivery,
            expect_fn=self._expecting(by_node),
            doors=self._doors if delivery is None else None,
        )

    def _expecting(self, by_node: Mapping[int, str]) -> Callable[[Sequence[int]], None]:
        """Return what tells doors who will be asked."""

        def expect(nodes: Sequence[int]) -> None:
            self._doors.expect([by_node[node] for node in nodes])

        return expect

    def _app(self, job: str, by_node: Mapping[int, str]) -> ClientApp:
        # For each job anew: faults are meant for one of them
        def find(context: Context) -> RequestHandler:
            opened = opened_or_not(self._doors, by_node[context.node_id])
            return faulty(opened, self._faults, job)

        return make_client_app(find)

    def spent(self, job: str) -> Mapping[str, RoundsSpent]:
        """Return what a job has computed at each institution."""
        return self._doors.spent(job)

    def restore_spent(self, job: str, spent: Mapping[str, RoundsSpent]) -> None:
        """Take over what an earlier process knew of a job."""
        self._doors.restore_spent(job, spent)

    def close(self) -> None:
        """Nothing was started."""


__all__ = ["InlineEngine", "InlineGrid", "LocalGrid"]
