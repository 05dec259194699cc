"""Where noise of other institutions counts too: in a sum that nobody sees inside, of one step each.

Both sides ask: the coordinator of its config, an institution of a plan. Why the rest does not add
up is in :mod:`confide.privacy.peers`.
"""

from confide.config.client import ClientConfig
from confide.config.strategies.codecs import CodecConfig
from confide.config.strategies.objectives import ObjectiveConfig
from confide.config.tunings.tuning import TuningConfig

ADDS_UP = ("plain", "fedprox", "gradient_sum", "gradient_adam")
"""Algorithms whose update is the learning rate times one noisy gradient, where one step is taken:
FedProx's term is zero at the global tensors, where that step is, and what the last two do more is
the coordinator's work."""
COUNTEREXAMPLE = (
    "measured with two steps at 20 institutions, a record shows with total variation 0.313 where"
    " noise of all 20 would allow 0.101"
)
CLIPPED = (
    "each update is clipped as a whole, by more or less as its own noise has it; leave"
    " strategy.mechanism out"
)


def peers_problem(
    objective: ObjectiveConfig,
    client: ClientConfig,
    *,
    tuning: TuningConfig,
    upload: CodecConfig,
) -> str | None:
    """Return why noise of others hides no record of a private plan; None if it does.

    Args:
        objective: the algorithm's settings.
        client: settings of a local round.
        tuning: which tensors are trained.
        upload: how updates travel.
    """
    if objective.kind not in ADDS_UP:
        return (
            f"objective.kind={objective.kind} sends or keeps more of a round than one noisy"
            f" gradient; choose one of {', '.join(ADDS_UP)}, such as strategy=fedavg"
        )
    if client.local_steps != 1:
        return (
            f"client.local_steps={client.local_steps}: later gradients rest on a state that holds"
            f" the institution's own noise alone, and that nobody releases ({COUNTEREXAMPLE}); set"
            " client.local_steps=1"
        )
    if client.steps_within_s is not None:
        return f"client.steps_within_s={client.steps_within_s:g}: steps may be left out; set null"
    optimizer = client.optimizer
    if optimizer.kind != "sgd":
        return (
            f"client.optimizer.kind={optimizer.kind} divides each noisy gradient by itself, so that"
            " noise does not add up; set client.optimizer.kind=sgd"
        )
    if getattr(tuning, "ranks", None):
        return (
            "tuning.ranks: institutions of lower ranks add no noise to the rest of the adapters;"
            " leave it out"
        )
    if upload.kind != "none":
        return f"upload.kind={upload.kind} rounds away noise of its own; set strategy/upload=none"
    return None


__all__ = ["ADDS_UP", "CLIPPED", "COUNTEREXAMPLE", "peers_problem"]
