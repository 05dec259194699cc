"""The executor: takes messages from the SuperNode and passes them on to the trainer.

It has neither records nor torch.
"""

import argparse
import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from confide.client.app import make_client_app
from confide.client.service.codec import WireLimits
from confide.client.service.stub import TrainerStub
from confide.deployment.supervisor import end_with_parent, log_to_stderr, stop_signals
from confide.flower.executor import run_tasks
from confide.flower.runtime import Runtime
from confide.protocol.messages import Reply, Request, RequestKind
from confide.protocol.refusals import Refusal

log = logging.getLogger(__name__)


class _Door:
    """The stub, but a trainer that cannot be reached is an error, which the coordinator takes for no answer and asks again."""

    def __init__(self, stub: TrainerStub) -> None:
        self._stub = stub

    @property
    def name(self) -> str:
        """The institution's name."""
        return self._stub.name

    def handle(self, kind: RequestKind, request: Request) -> Reply:
        """Answer one request.

        Raises:
            RuntimeError: if the trainer does not answer in time.
        """
        reply = self._stub.handle(kind, request)
        if reply.refusal == Refusal.TRAINER_UNAVAILABLE:
            raise RuntimeError("The trainer does not answer.")
        return reply


def main(argv: Sequence[str]) -> int:
    """Pass messages on until told to stop.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="python -m confide.client.deployment.executor", description=__doc__
    )
    parser.add_argument("--name", required=True, help="of the institution")
    parser.add_argument("--runtime", required=True, help="HOST:PORT of the SuperNode's runtime API")
    parser.add_argument(
        "--secret", required=True, type=Path, help="file of the secret shared with the SuperNode"
    )
    parser.add_argument("--socket", required=True, type=Path, help="of the trainer")
    parser.add_argument("--max-mb", type=float, default=300.0, help="largest message")
    arguments = parser.parse_args(argv)
    log_to_stderr()
    limits = WireLimits(max_bytes=round(arguments.max_mb * 2**20))
    with (
        stop_signals() as stop,
        TrainerStub(arguments.name, arguments.socket, limits=limits) as stub,
    ):
        end_with_parent(stop)
        door = _Door(stub)
        app = make_client_app(lambda _: door)
        runtime = Runtime(address=arguments.runtime, secret=arguments.secret)
        worker = threading.Thread(target=run_tasks, args=(runtime, app, stop), daemon=True)
        worker.start()
        while worker.is_alive() and not stop.wait(0.5):
            pass
        worker.join(1.0)  # a message under way is asked again by the coordinator
        return 0 if stop.is_set() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
