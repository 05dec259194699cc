"""An executor with an app of the tests, in a process of its own.

It echoes a query, and raises where it is to train.
"""

import logging
import sys
import threading
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from confide.flower.executor import run_tasks
from confide.flower.runtime import Runtime

CANARY = "patient-4711-has-gout"
app = ClientApp()


@app.query()
def _echo(message: Message, context: Context) -> Message:
    return Message(message.content, reply_to=message)


@app.train()
def _raise(message: Message, context: Context) -> Message:
    raise ValueError(CANARY)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    run_tasks(Runtime(address=sys.argv[1], secret=Path(sys.argv[2])), app, threading.Event())
