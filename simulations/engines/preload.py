"""The server process that workers are forked from: it has imported everything and computed nothing.

A new worker is ready at once, and no thread or device is carried over a fork. Imports nothing heavy
itself, so that the server can be started before this process begins to import.
"""

import multiprocessing
from multiprocessing import forkserver

CONTEXT = multiprocessing.get_context("forkserver")
_MODULES = ["confide.simulations.engines.process", "confide.models.workload", "opacus"]


def prepare_workers() -> None:
    """Start the server process; it imports while this process does other things."""
    CONTEXT.set_forkserver_preload(_MODULES)
    forkserver.ensure_running()


__all__ = ["CONTEXT", "prepare_workers"]
