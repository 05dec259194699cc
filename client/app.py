"""The ClientApp: the same for a simulated grid and for a SuperNode."""

import logging
from collections.abc import Callable
from typing import Protocol

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from confide.errors import ProtocolError
from confide.protocol.messages import Reply, Request, RequestKind, pack_reply, unpack_request

log = logging.getLogger(__name__)


class RequestHandler(Protocol):
    """Answers requests, as :class:`~confide.client.institution.Institution` does."""

    @property
    def name(self) -> str:
        """The institution's name."""

    def handle(self, kind: RequestKind, request: Request) -> Reply:
        """Answer one request."""


FindInstitution = Callable[[Context], RequestHandler]
"""A node's context -> the institution behind it."""


def make_client_app(find_institution: FindInstitution) -> ClientApp:
    """Build the app.

    Args:
        find_institution: returns who a message is for; the same institution always in a
            deployment, one of many in a simulation.
    """
    app = ClientApp()

    def answer(kind: RequestKind) -> Callable[[Message, Context], Message]:
        def handle(message: Message, context: Context) -> Message:
            institution = find_institution(context)
            try:
                reply = institution.handle(kind, unpack_request(message.content))
            except ProtocolError as error:
                # Before anything that keeps an audit log sees it
                log.warning("%s declines what is no request: %s", institution.name, error)
                reply = Reply(institution=institution.name, refusal=error.code)
            return Message(pack_reply(reply), reply_to=message)

        return handle

    app.query()(answer("query"))
    app.train()(answer("train"))
    app.evaluate()(answer("evaluate"))
    app.query("unmask")(answer("unmask"))
    return app


__all__ = ["FindInstitution", "RequestHandler", "make_client_app"]
