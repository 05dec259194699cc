"""Settings of synthetic(alpha, beta), the made-up federation of FedProx."""

from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.generators.generator import CHOSEN, GeneratorConfig


@dataclass
class SyntheticConfig(GeneratorConfig):
    """Synthetic(alpha, beta) of Li et al., Federated Optimization in Heterogeneous Networks (2020).

    Each institution has a softmax of its own, of records around a point of its own (section 5.1).
    """

    kind: str = setting("synthetic", CHOSEN, choices=("synthetic",))
    alpha: float = setting(
        1.0,
        "Standard deviation of the means of institutions' models, as in the authors' program. One"
        " mean for all classes, as the paper has it, moves every score alike: no label depends on"
        " alpha.",
        ge=0,
        le=1000,
    )
    beta: float = setting(
        1.0,
        "How much their records differ: the standard deviation of the means of the points that"
        " records lie around.",
        ge=0,
        le=1000,
    )
    iid: bool = setting(
        False, "Whether all have one model and records around 0; alpha and beta then say nothing."
    )
    num_features: int = setting(60, "Number of columns x0, x1, ... of a record.", ge=1, le=10_000)
    num_classes: int = setting(10, "Number of classes, called 0, 1, ...", ge=2, le=1000)
    log_deviation: float = setting(
        2.0,
        "Standard deviation of the logarithm of the number of records above least.",
        ge=0,
        le=10,
    )
    least: int = setting(50, "Smallest number of records of an institution.", ge=1, le=10_000_000)


__all__ = ["SyntheticConfig"]
