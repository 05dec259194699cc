"""What everybody is given: a model, and clients' records as two tensors each."""

from torch import Tensor, nn
from vectorised import Shape

from confide.tasks.tabular import FEATURES

LEARNING_RATE = 0.1
# Of the private shapes, for those who are told how much noise: it costs the same whatever it is
NOISE, CLIP = 1.0, 1.0


def model_of(shape: Shape) -> nn.Module:
    """Build the model with the initial tensors that everybody starts from."""
    return shape.workload().model


def clients_of(shape: Shape) -> list[tuple[Tensor, Tensor]]:
    """Return each client's records: features, labels."""
    return [(one.train.columns[FEATURES], one.train.labels) for one in shape.data().values()]
