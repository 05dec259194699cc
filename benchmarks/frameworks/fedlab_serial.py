"""FedLab: its standalone pipeline with the serial trainer, as its tutorial of FedAvg has them."""

import frameworks.no_torchvision  # noqa: F401 - before the framework

# isort: split
import random

from fedlab.contrib.algorithm.basic_client import SGDSerialClientTrainer
from fedlab.contrib.algorithm.basic_server import SyncServerHandler
from fedlab.core.standalone import StandalonePipeline
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from vectorised import Shape

from frameworks.records import LEARNING_RATE, clients_of, model_of
from frameworks.turns import Turns


class Records:
    """Gives the trainer a loader of a client's records, as FedLab's own data sets do."""

    def __init__(self, clients: list[tuple[Tensor, Tensor]]) -> None:
        self._clients = [TensorDataset(*client) for client in clients]

    def get_dataloader(self, number: int, batch_size: int) -> DataLoader:
        """Return a client's batches."""
        return DataLoader(self._clients[number], batch_size=batch_size, shuffle=True)


class Pipeline(StandalonePipeline):
    """Waits for its turn where a pipeline evaluates."""

    def __init__(
        self, handler: SyncServerHandler, trainer: SGDSerialClientTrainer, turns: Turns
    ) -> None:
        super().__init__(handler, trainer)
        self._turns = turns

    def evaluate(self) -> None:
        """Wait for the next turn."""
        self._turns.done(lambda: list(self.handler.model.parameters()))


def run(shape: Shape, turns: Turns, *, rounds: int) -> None:
    """Run rounds."""
    random.seed(0)
    model, clients = model_of(shape), clients_of(shape)
    trainer = SGDSerialClientTrainer(model, len(clients), cuda=False)
    trainer.setup_dataset(Records(clients))
    trainer.setup_optim(shape.epochs, shape.batch_size, LEARNING_RATE)
    share = (shape.cohort or len(clients)) / len(clients)
    pipeline = Pipeline(SyncServerHandler(model, rounds, share), trainer, turns)
    turns.begin()
    pipeline.main()
