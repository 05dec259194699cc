"""FedAvg, and then each institution trains the federated model further for itself.

Fine-tuning is what personal methods are held against: Yu, Bagdasaryan and Shmatikov, "Salvaging
Federated Learning by Local Adaptation", 2020 (arXiv 2002.04758), section 3; Cheng, Chadha and
Duchi, "Federated Asymptotics", 2021 (arXiv 2108.07313), for how hard it is to beat.

In all rounds but the last ones this is FedAvg. In those an institution goes on from its own tensors
(the first time from the global ones), keeps what becomes of them and sends zeros, and the global
tensors stay. Under DP-SGD these rounds are reserved and noised like others: what is kept is used,
and its scores leave.
"""

from dataclasses import replace

from confide.protocol.tensors import Tensors
from confide.strategies.algorithm import (
    Algorithm,
    ClientResult,
    ClientRound,
    ServerResult,
    ServerRound,
    StepFn,
    TrainFn,
    local_steps,
    zeros_of,
)


def fine_tuning(*, local_rounds: int) -> Algorithm:
    """Build it.

    Args:
        local_rounds: number of the last rounds, whose training stays, >= 1.
    """

    def client(given: ClientRound, train: TrainFn) -> ClientResult:
        if given.server_round <= given.num_rounds - local_rounds:
            return local_steps(given, train)
        start = given.params | given.kept
        moved = train(start)
        kept = {name: value + moved[name] for name, value in start.items()}
        return ClientResult(update=zeros_of(moved), kept=kept)

    def server(given: ServerRound, step: StepFn) -> ServerResult:
        stepped = step(given.update)
        planned = given.plan.num_rounds if given.plan else given.server_round
        if given.server_round <= planned - local_rounds:
            return stepped
        # Of zeros alone a momentum would still take a step
        return replace(stepped, params=given.params)

    return Algorithm(
        client=client,
        server=server,
        first_kept=_nothing_yet,
        starts_of=lambda params, kept: (params | kept,),
        predict_with=lambda params, kept: params | kept,
    )


def _nothing_yet(params: Tensors) -> Tensors:
    return {}


__all__ = ["fine_tuning"]
