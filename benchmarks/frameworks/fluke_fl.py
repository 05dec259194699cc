"""fluke: its federated averaging over clients with its own loader; Opacus' DP-SGD in DPFedAVG."""

import frameworks.no_torchvision  # noqa: F401 - before the framework

# isort: split
import torch
from fluke import DDict, FlukeENV
from fluke.algorithms.dpfedavg import DPFedAVG, DPFedAVGClient, DPFedAVGServer
from fluke.algorithms.fedavg import FedAVG
from fluke.client import Client
from fluke.config import OptimizerConfigurator
from fluke.data import FastDataLoader
from fluke.evaluation import ClassificationEval
from fluke.server import Server
from fluke.utils import FederationObserver
from vectorised import Shape

from frameworks.records import CLIP, LEARNING_RATE, NOISE, clients_of, model_of
from frameworks.turns import Turns


class Waiting(FederationObserver):
    """Waits for its turn after each round."""

    def __init__(self, turns: Turns, server: Server) -> None:
        self._turns, self._server = turns, server

    def end_round(self, round: int) -> None:
        """Wait for the next turn."""
        self._turns.done(lambda: list(self._server.model.parameters()))


def run(shape: Shape, turns: Turns, *, rounds: int) -> None:
    """Run rounds; clients are made here and not by its splitter, which deals records out anew."""
    environment = FlukeENV()
    environment.set_seed(0)
    classes = shape.widths[-1]
    environment.set_evaluator(ClassificationEval(eval_every=rounds + 1, n_classes=classes))
    environment.set_eval_cfg(server=False, locals=False, pre_fit=False, post_fit=False)
    make_client, make_server, algorithm = Client, Server, FedAVG
    private: dict[str, float] = {}
    if shape.private:
        make_client, make_server, algorithm = DPFedAVGClient, DPFedAVGServer, DPFedAVG
        private = {"noise_mul": NOISE, "max_grad_norm": CLIP}
    optimizer = OptimizerConfigurator(
        optimizer_cfg=DDict(name=torch.optim.SGD, lr=LEARNING_RATE),
        scheduler_cfg=DDict(name=torch.optim.lr_scheduler.StepLR, gamma=1, step_size=1),
    )
    clients = [
        make_client(
            index=number,
            train_set=FastDataLoader(
                *client, num_labels=classes, batch_size=shape.batch_size, shuffle=True
            ),
            test_set=None,
            optimizer_cfg=optimizer,
            loss_fn=torch.nn.CrossEntropyLoss(),
            local_epochs=shape.epochs,
            **private,
        )
        for number, client in enumerate(clients_of(shape))
    ]
    server = make_server(model_of(shape), None, clients, weighted=True)
    federation = algorithm(len(clients), None, {}, clients=clients, server=server)
    federation.set_callbacks(Waiting(turns, server))
    turns.begin()
    federation.run(rounds, (shape.cohort or len(clients)) / len(clients))
