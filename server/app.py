"""The ServerApp: the same for a simulated grid and for a SuperLink."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from confide.protocol.tensors import Tensors, encode
from confide.server.rounds.loop import RoundLoop


def make_server_app(
    loop: RoundLoop, *, initial: Tensors, num_rounds: int, timeout_s: float
) -> ServerApp:
    """Build the app; afterwards ``loop.outcome`` says how the run ended.

    Args:
        loop: the run.
        initial: initial trainable tensors, made once for all institutions.
        num_rounds: rounds to run.
        timeout_s: bound on every wait for institutions.
    """
    app = ServerApp()

    def main(grid: Grid, context: Context) -> None:
        loop.start(grid, encode(initial), num_rounds=num_rounds, timeout=timeout_s)

    app.main()(main)
    return app


__all__ = ["make_server_app"]
