"""The ClientApp: the same for a simulated grid and for a SuperNode."""

from collections.abc import Callable

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from confide.client.institution import Institution
from confide.errors import ProtocolError
from confide.exchange import Reply, pack_reply, unpack_request

FindInstitution = Callable[[Context], Institution]


def make_client_app(find_institution: FindInstitution) -> ClientApp:
    """Build the app.

    Args:
        find_institution: tells whose message it is; one institution in a deployment, many in a simulation.
    """
    app = ClientApp()

    def answer(kind: str) -> Callable[[Message, Context], Message]:
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


__all__ = ["FindInstitution", "make_client_app"]
