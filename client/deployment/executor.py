"""The executor: passes an institution's messages from its SuperNode on to the trainer.

It has neither records nor torch, because it talks to Flower, and Flower to the network.
"""

import argparse
import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from confide.client.app import make_client_app
from confide.client.service.chunks import WireLimits
from confide.client.service.stub import TrainerServiceClient
from confide.deployment.lifetime import end_with_parent, stop_signals
from confide.deployment.logs import log_to_stderr
from confide.flower.executor import run_tasks
from confide.flower.runtime import Runtime
from confide.protocol.messages import Reply, Request, RequestKind
from confide.protocol.refusals import Refusal

log = logging.getLogger(__name__)


class _RaisingClient:
    """The client of the trainer service, but a trainer that cannot be reached raises an error.

    The coordinator takes an error reply for no answer and asks again; a refusal would be final.
    """

    def __init__(self, trainer: TrainerServiceClient) -> None:
        self._trainer = trainer

    @property
    def name(self) -> str:
        """Name of the institution."""
        return self._trainer.name

    def handle(self, kind: RequestKind, request: Request) -> Reply:
        """Answer one request.

        Raises:
            RuntimeError: if the trainer does not answer in time.
        """
        reply = self._trainer.handle(kind, request)
        if reply.refusal == Refusal.TRAINER_UNAVAILABLE:
            raise RuntimeError("The trainer does not answer.")
        return reply


def main(argv: Sequence[str]) -> int:
    """Pass messages on until told to stop.

    Args:
        argv: words of the command.

    Returns:
        Exit status: 0 if told to stop, 1 if SuperNode and executor must be restarted.
    """
    arguments = _parser().parse_args(argv)
    log_to_stderr()
    limits = WireLimits(max_bytes=round(arguments.max_mb * 2**20))
    with (
        stop_signals() as stop,
        TrainerServiceClient(arguments.name, arguments.socket, limits=limits) as trainer,
    ):
        end_with_parent(stop)
        handler = _RaisingClient(trainer)
        app = make_client_app(lambda _: handler)
        runtime = Runtime(address=arguments.runtime, secret=arguments.secret)
        # In a thread, which is a daemon: signals reach the main thread alone, and an answer may
        # take hours, for which a stop does not wait.
        worker = threading.Thread(target=run_tasks, args=(runtime, app, stop), daemon=True)
        worker.start()
        while worker.is_alive() and not stop.wait(0.5):
            pass
        # A message that is being answered then is sent again by the coordinator.
        worker.join(1.0)
        return 0 if stop.is_set() else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m confide.client.deployment.executor", description=__doc__
    )
    parser.add_argument("--name", required=True, help="name of the institution")
    parser.add_argument("--runtime", required=True, help="HOST:PORT of the SuperNode's runtime API")
    parser.add_argument(
        "--secret", required=True, type=Path, help="file of the secret shared with the SuperNode"
    )
    parser.add_argument("--socket", required=True, type=Path, help="socket of the trainer")
    parser.add_argument("--max-mb", type=float, default=300.0, help="largest message in MiB")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
