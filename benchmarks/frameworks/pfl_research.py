"""pfl-research: its simulated backend and federated averaging, as its PyTorch tutorial has them."""

import numpy
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByUser
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn
from torch.nn import functional
from vectorised import Shape

from frameworks.records import LEARNING_RATE, clients_of, model_of
from frameworks.turns import Turns


class Losses(nn.Module):
    """A model with the two functions that pfl asks of one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.model(features)
        return logits

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        self.train()
        return functional.cross_entropy(self(features), labels)

    @torch.no_grad()
    def metrics(self, features: Tensor, labels: Tensor) -> dict[str, Weighted]:
        """Return a batch's loss, which is asked for before and after a user of the first round."""
        self.eval()
        loss = functional.cross_entropy(self(features), labels, reduction="sum")
        return {"loss": Weighted(loss.item(), len(labels))}


class Waiting(TrainingProcessCallback):
    """Waits for its turn after each round."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def on_train_begin(self, *, model: PyTorchModel) -> Metrics:
        """Wait for the first turn."""
        self._turns.begin()
        return Metrics()

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """Wait for the next turn."""
        self._turns.done(lambda: list(model.pytorch_model.parameters()))
        return False, Metrics()


def run(shape: Shape, turns: Turns, *, rounds: int) -> None:
    """Run rounds; users are not drawn twice in a round, which pfl's sampler at random may do."""
    numpy.random.seed(0)
    module = Losses(model_of(shape))
    clients = clients_of(shape)
    model = PyTorchModel(
        model=module,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(module.parameters(), lr=1.0),
    )
    data = FederatedDataset(
        lambda user: Dataset(raw_data=clients[user], user_id=str(user)),
        get_user_sampler("minimize_reuse", list(range(len(clients)))),
    )
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=rounds + 1,
            train_cohort_size=shape.cohort or len(clients),
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(
            training_data=data, val_data=data, postprocessors=[WeightByUser()]
        ),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=shape.epochs,
            local_learning_rate=LEARNING_RATE,
            local_batch_size=shape.batch_size,
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=None),
        callbacks=[Waiting(turns)],
    )
