"""The ClientApp: the same for a simulated grid and for a SuperNode."""

from collections.abc import Callable
from typing import Protocol

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from confide.errors import ProtocolError
from confide.protocol.messages import Reply, Request, RequestKind, pack_reply, unpack_request


class RequestHandler(Protocol):
    """The door to an institution, as :class:`~confide.client.institution.Institution` opens it."""

    @property
    def name(self) -> str:
        """The institution's name."""

    def handle(self, kind: RequestKind, request: Request) -> Reply:
        """Answer one request."""


FindInstitution = Callable[[Context], RequestHandler]


def make_client_app(find_institution: FindInstitution) -> ClientApp:
    """Build the app.

    Args:
        find_institution: tells whose message it is; one institution in a deployment, many in a
            simulation.
    """
    app = ClientApp()

    def answer(kind: RequestKind) -> Callable[[Message, Context], Message]:
        def handle(message: Message, context: Context) -> Message:
            institution = find_institution(context)
            try:
                reply = institution.handle(kind, unpack_request(message.content))
            except ProtocolError as error:
                reply = Reply(institution=institution.name, refusal=error.code)
            return Message(pack_reply(reply), reply_to=message)

        return handle

    app.query()(answer("query"))
    app.train()(answer("train"))
    app.evaluate()(answer("evaluate"))
    return app


__all__ = ["FindInstitution", "RequestHandler", "make_client_app"]
