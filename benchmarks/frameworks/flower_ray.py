"""Flower's simulation runtime on Ray: FedAvg of its message API.

The client trains as the bare loop does: what it writes there is the user's own in Flower. With
privacy it makes its training private anew in each round, as Flower's example with Opacus does.
"""

import copy
import functools

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch import Tensor, nn
from vectorised import Shape

from frameworks.loops import private_parts, private_sgd, sgd
from frameworks.records import clients_of, model_of
from frameworks.turns import Turns

_WORKERS = 2


@functools.cache
def records_of(shape: Shape) -> list[tuple[Tensor, Tensor]]:
    """Return all clients' records, made once in each of Ray's processes."""
    torch.set_num_threads(1)
    return clients_of(shape)


@functools.cache
def template_of(shape: Shape) -> nn.Module:
    """Return the model, whose class and size are all that a client needs of it."""
    return model_of(shape)


def answer(shape: Shape, message: Message, context: Context) -> Message:
    """Train the model that a message brings."""
    clients = records_of(shape)
    client = clients[int(context.node_config["partition-id"])]
    model = copy.deepcopy(template_of(shape))
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    if shape.private:
        private_sgd(*private_parts(shape, model, client))
    else:
        sgd(shape, model, client)
    content = RecordDict(
        {
            "arrays": ArrayRecord(model.state_dict()),
            "metrics": MetricRecord({"num-examples": len(client[1])}),
        }
    )
    return Message(content=content, reply_to=message)


def run(shape: Shape, turns: Turns, *, rounds: int) -> None:
    """Run rounds, on as many of Ray's actors as confide's engines get workers."""
    client, server = ClientApp(), ServerApp()

    @client.train()
    def train(message: Message, context: Context) -> Message:
        return answer(shape, message, context)

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        names = list(model_of(shape).state_dict())

        def waited(server_round: int, arrays: ArrayRecord) -> None:
            if server_round == 0:
                turns.begin()
            else:
                state = arrays.to_torch_state_dict()
                turns.done(lambda: [state[name] for name in names])

        FedAvg(
            fraction_train=(shape.cohort or shape.clients) / shape.clients,
            fraction_evaluate=0.0,
            min_available_nodes=shape.clients,
        ).start(
            grid,
            ArrayRecord(model_of(shape).state_dict()),
            num_rounds=rounds,
            evaluate_fn=waited,
        )

    run_simulation(
        server,
        client,
        num_supernodes=shape.clients,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0},
            # A cluster of its own, whatever else runs here
            "init_args": {"address": "local", "num_cpus": _WORKERS, "include_dashboard": False},
        },
    )
