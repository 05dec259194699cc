"""Ditto: a personal model at each institution, beside the federated one and held near it.

Li, Hu, Beirami and Smith, "Ditto: Fair and Robust Federated Learning Through Personalization", ICML
2021 (arXiv 2012.04221), algorithm 1, with FedAvg as the federated solver. Client k keeps ``v_k``,
which starts at the first global tensors it is sent. In a round it trains the global tensors ``w``
as FedAvg does and sends that update; then it takes as many steps of
``v_k -= learning_rate * (gradient(v_k) + lambda (v_k - w))``, with the ``w`` it was sent, on other
batches. It predicts with ``v_k``. With lambda 0 ``v_k`` is what it would train alone.

Under DP-SGD both trainings read records: a round is charged for twice its local steps, and the
noise of both is calibrated for that.
"""

from confide.strategies.algorithm import Algorithm, ClientResult, ClientRound, Step, TrainFn


def ditto(*, proximal_lambda: float) -> Algorithm:
    """Build Ditto.

    Args:
        proximal_lambda: lambda >= 0.
    """

    def client(given: ClientRound, train: TrainFn) -> ClientResult:
        update = train(given.params)
        anchors = given.place_fn(given.params)

        def towards_global(step: Step) -> None:
            for param, anchor in zip(step.params, anchors, strict=True):
                assert param.grad is not None
                param.grad.add_(param.detach() - anchor, alpha=proximal_lambda)

        moved = train(given.kept, towards_global)
        kept = {name: value + moved[name] for name, value in given.kept.items()}
        return ClientResult(update=update, kept=kept)

    return Algorithm(
        client=client,
        first_kept=dict,
        starts_of=lambda params, kept: (params, kept),
        predict_with=lambda params, kept: kept,
    )


__all__ = ["ditto"]
