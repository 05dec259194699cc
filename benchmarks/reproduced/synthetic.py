"""FedProx's synthetic(1, 1) (Li et al., MLSys 2020, arXiv 1812.06127, section 5 and figure 1).

Thirty devices, ten a round, 20 local epochs, batches of 10, SGD with rate 0.01, mu 1
(github.com/litian96/FedProx, run_fedavg.sh and run_fedprox.sh). The paper draws curves and gives
no numbers: with mu 1 the loss falls lower and steadily, where FedAvg's swings.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kept import Figures

import confide
from reproduced.row import Published, Row

ACCURACY, LOSS = "accuracy", "loss x 100"
_ROUNDS = 20

_SETTINGS = (
    "task=synthetic",
    "task._target_=reproduced.tasks.Raw",
    "data/generator=synthetic",
    "data.num_clients=30",
    "backbone=logistic",
    "tuning=full",
    "privacy=none",
    "data.validation=0",
    "data.test=0.1",
    "strategy/selection=uniform",
    "strategy.selection.clients_per_round=10",
    "client.local_epochs=20",
    "client.batch_size=10",
    "client.optimizer.learning_rate=0.01",
    f"server.num_rounds={_ROUNDS}",
    "simulation.baselines=[]",
    "tracking=none",
)
_TOLD = (
    f"{_ROUNDS} rounds for 200, and what stands after the last one, for a curve; a population"
    " drawn anew by the same law, since the authors' program draws without a seed.",
    "Loss and accuracy are those of each device's held-out tenth; the paper's loss is that of its"
    " training records.",
    "Weights start within 1 / sqrt(60), for Glorot's sqrt(6 / 70).",
)


def measure(words: Sequence[str], seed: int, folder: Path) -> Figures:
    """Run a federation, and score its model on all devices' held-out records."""
    result = confide.simulate(
        [*words, f"data.generator.seed={seed}", f"simulation.seed={seed}"],
        run_dir=folder / "run",
        overwrite=True,
    )
    found = result.summary["federated"]
    return {ACCURACY: 100 * found["accuracy"], LOSS: 100 * found["log_loss"]}


def _row(*strategy: str) -> Row:
    return Row(
        source="FedProx, synthetic(1, 1)",
        words=(*_SETTINGS, *strategy),
        seeds=(0,),
        published={name: Published() for name in (ACCURACY, LOSS)},
        measure_fn=measure,
        differences=_TOLD,
    )


ROWS: Mapping[str, Row] = {
    "synthetic-fedavg": _row("strategy=fedavg"),
    "synthetic-fedprox": _row("strategy=fedprox", "strategy.objective.proximal_mu=1"),
}
"""Name -> row."""
