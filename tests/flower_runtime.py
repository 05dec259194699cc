"""The product's two apps on Flower's own simulation runtime, in a process of their own."""

import functools
import logging
import sys
import warnings

from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from small_federation import NUM_CLIENTS, Small

from confide.client.app import RequestHandler, make_client_app
from confide.client.institution import Institution
from confide.server.app import run_server_app
from confide.simulations.institutions import InstitutionFactory
from confide.storage.tensor_files import sha256
from confide.strategies.build import build_strategy

SETTINGS = ("server.num_rounds=2", "server.round_timeout_s=300")


@functools.cache
def institutions() -> list[Institution]:
    """Open all of them, once a process of the runtime."""
    small = Small(*SETTINGS)
    factory = InstitutionFactory(small.trainer, small.setup)
    return [factory.open(name, data) for name, data in small.data.items()]


def find(context: Context) -> RequestHandler:
    return institutions()[int(str(context.node_config["partition-id"]))]


def apps() -> tuple[ServerApp, ClientApp]:
    server, small = ServerApp(), Small(*SETTINGS)
    inline = small.federation(small.inline())

    def main(grid: Grid, context: Context) -> None:
        job = inline.job(build_strategy(small.config.strategy), small.plan, small.config.server)
        outcome = run_server_app(job, grid, initial=small.initial)
        print(sha256(outcome.state.params), flush=True)

    server.main()(main)
    return server, make_client_app(find)


if __name__ == "__main__":
    from flower_runtime import apps as importable  # so that the runtime's processes find it too

    logging.disable()
    warnings.simplefilter("ignore")
    server_app, client_app = importable()
    here = {"num_cpus": 2, "include_dashboard": False, "log_to_driver": False, "address": "local"}
    run_simulation(
        server_app,
        client_app,
        num_supernodes=NUM_CLIENTS,
        backend_config={
            "init_args": {**here, "_temp_dir": sys.argv[1]},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
