"""The table of algorithms, and what a line of such a table says.

One line is one algorithm: its small config, the dotted path of what builds it, and its name. No
torch is imported.
"""

from dataclasses import dataclass
from typing import Literal

from confide.config.strategies.objectives import (
    BoostingConfig,
    ClientMomentumConfig,
    FedDynConfig,
    FedProxConfig,
    GradientAdamConfig,
    GradientSumConfig,
    NewtonConfig,
    ObjectiveConfig,
    PrivateNewtonConfig,
    ScaffoldConfig,
)
from confide.config.strategies.personal import (
    ApflConfig,
    DittoConfig,
    FedBnConfig,
    FedPerConfig,
    FedRepConfig,
    FineTuningConfig,
)


@dataclass(frozen=True, kw_only=True)
class PartKind:
    """One kind of part.

    Attributes:
        schema: dataclass of its settings.
        builder: dotted path of the function that builds it from them.
        name: the literature's name of a strategy with this part; empty where the part does not
            change the name.
    """

    schema: type
    builder: str
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class AlgorithmKind(PartKind):
    """One algorithm.

    Attributes:
        phrase: what it adds to a strategy that already has a name, after "with".
        sentence: what it does, for a report.
        weighting: the only weighting of updates that it is defined for; None for any.
        remains: what of an institution that withdrew stays in the server part's state, if anything.
        reads_records: whether its client part reads records beside local steps: not under privacy.
        own_step: whether its server part chooses the length of steps, so that the server optimizer
            has to be plain.
        any_model: whether such steps are for any model, and not for a linear one alone.
        own_recipe: whether an institution alone trains by it too, in place of plain local steps.
        alone: kind that one institution alone trains by, where it is neither of these.
        needs_gram: whether it rests on a Gram matrix that institutions release before the run, and
            so on privacy.
        row_norm: whether its steps follow from ``backbone.row_norm``.
        choice: what a person writes to choose it.
        under_privacy: what to choose under privacy, where it is refused.
        sends: what leaves an institution in a round, for a report.
        elementwise: whether its client part works number by number and trains once, so that it may
            be called for many institutions at once, whose tensors have one more, first dimension;
            one that reads the number of steps keeps something too (``first_kept``).
        exact: whether sums have to arrive as they were sent, so that no rule of one's own fits.
        any_version: whether it needs no more of a client than an update of the tensors that it was
            given, so that these may differ from client to client.
        trainings: how often its client part trains in a round: under privacy a round is charged,
            and its noise calibrated, for as many times its local steps.
        personal: whether institutions predict with tensors of their own: "beside" a global model,
            "within" the one model, whose other tensors alone are none; "" for neither.
        stays: what of the model never leaves an institution, in words; empty for nothing.
    """

    phrase: str = ""
    sentence: str = ""
    weighting: str | None = None
    remains: str = ""
    reads_records: bool = False
    own_step: bool = False
    any_model: bool = False
    own_recipe: bool = False
    alone: str = ""
    needs_gram: bool = False
    row_norm: bool = False
    choice: str = ""
    under_privacy: str = "another algorithm"
    sends: str = "updates of trainable tensors"
    exact: bool = False
    elementwise: bool = False
    any_version: bool = False
    trainings: int = 1
    personal: Literal["", "beside", "within"] = ""
    stays: str = ""


ALGORITHMS: dict[str, AlgorithmKind] = {
    "plain": AlgorithmKind(
        schema=ObjectiveConfig,
        builder="confide.strategies.algorithms.fedavg.local_sgd",
        name="FedAvg",
        elementwise=True,
        any_version=True,
    ),
    "fedprox": AlgorithmKind(
        schema=FedProxConfig,
        builder="confide.strategies.algorithms.fedprox.fedprox",
        name="FedProx",
        phrase="a proximal term",
        sentence="A proximal term held each institution near the global model.",
        elementwise=True,
        any_version=True,
    ),
    "feddyn": AlgorithmKind(
        schema=FedDynConfig,
        builder="confide.strategies.algorithms.feddyn.feddyn",
        name="FedDyn",
        phrase="dynamic regularisation",
        sentence="Each institution kept a gradient between rounds that aligned its optimum with the"
        " federation's.",
        weighting="uniform",
        remains="its part of the server's correction",
        elementwise=True,
    ),
    "client_momentum": AlgorithmKind(
        schema=ClientMomentumConfig,
        builder="confide.strategies.algorithms.client_momentum.client_momentum",
        name="FedAvg",
        phrase="momentum at the institutions",
        sentence="Each institution sent a running mean of its updates.",
        elementwise=True,
    ),
    "scaffold": AlgorithmKind(
        schema=ScaffoldConfig,
        builder="confide.strategies.algorithms.scaffold.scaffold",
        name="SCAFFOLD",
        phrase="control variates",
        sentence="Control variates corrected each institution's steps towards the federation's mean"
        " gradient.",
        weighting="uniform",
        remains="its last part of the server's control variate",
        elementwise=True,
    ),
    "gradient_sum": AlgorithmKind(
        schema=GradientSumConfig,
        builder="confide.strategies.algorithms.gradient_sum.gradient_sum",
        name="FedSGD",
        phrase="steps of a length that follows from public figures",
        sentence="Each round every institution sent one sum of gradients over all its training"
        " records. The length of the steps follows from the numbers of records, the noise and the"
        " number of institutions, and the model is the mean over the last part of the rounds.",
        weighting="num_examples",
        remains="its part of the momentum and of the mean model",
        own_step=True,
        own_recipe=True,
        row_norm=True,
        choice="client=private_table",
        elementwise=True,
    ),
    "gradient_adam": AlgorithmKind(
        schema=GradientAdamConfig,
        builder="confide.strategies.algorithms.gradient_adam.gradient_adam",
        name="FedSGD",
        phrase="Adam's steps at the coordinator",
        sentence="Each round every institution sent one mean gradient over a sample of its training"
        " records. The coordinator took Adam's steps with their mean, and the model is the mean"
        " over the last part of the rounds.",
        weighting="num_examples",
        remains="its part of the moments and of the mean model",
        own_step=True,
        any_model=True,
        own_recipe=True,
        choice="client=gradients",
        elementwise=True,
    ),
    "newton": AlgorithmKind(
        schema=NewtonConfig,
        builder="confide.strategies.algorithms.newton.newton",
        name="exact federated Newton",
        phrase="Newton steps",
        sentence="Each round every institution sent sums over all its training records: the loss,"
        " its gradient and its second derivatives. From their sum follow the steps that lead to the"
        " regression on all records together, and the run ended where it was reached.",
        weighting="num_examples",
        remains="its part of the line search that was under way",
        reads_records=True,
        own_step=True,
        own_recipe=True,
        sends="sums of losses, gradients and second derivatives over its training records",
        choice="strategy=newton",
        under_privacy="client=private_newton",
    ),
    "private_newton": AlgorithmKind(
        schema=PrivateNewtonConfig,
        builder="confide.strategies.algorithms.private_newton.private_newton",
        name="private federated Newton",
        phrase="steps scaled by a noisy Gram matrix",
        sentence="Before the first round every institution released the Gram matrix of its encoded"
        " records with noise, and each round one noisy sum of gradients over all of them. Their"
        " sum, scaled by the inverse of the matrix, gave the step, and the model is the mean over"
        " the last part of the rounds.",
        weighting="num_examples",
        remains="its part of the Gram matrix and of the mean model",
        own_step=True,
        alone="gradient_sum",
        needs_gram=True,
        sends="a Gram matrix of its encoded records and sums of gradients, both with noise,",
        row_norm=True,
        choice="client=private_newton",
        elementwise=True,
    ),
    "boosting": AlgorithmKind(
        schema=BoostingConfig,
        builder="confide.strategies.algorithms.boosting.boosting",
        name="federated boosting",
        phrase="trees",
        sentence="Each round grew one level of a tree: every institution sent exact sums of"
        " gradients, curvatures and counts of its training records in the cells of each column, and"
        " the trees are those that all records in one place would give, bit for bit.",
        weighting="num_examples",
        remains="splits and leaves that were chosen with its sums",
        reads_records=True,
        own_recipe=True,
        sends="exact sums of gradients, curvatures and counts of training records in cells of their"
        " columns",
        exact=True,
        choice="client=trees",
        under_privacy="backbone=logistic client=private_table",
    ),
    "fedper": AlgorithmKind(
        schema=FedPerConfig,
        builder="confide.strategies.personal.layers.fedper",
        name="FedPer",
        phrase="heads that stay at the institutions",
        sentence="Each institution has a head of its own, which never left it; the layers below it"
        " were trained by all together.",
        personal="within",
        stays="head",
    ),
    "fedbn": AlgorithmKind(
        schema=FedBnConfig,
        builder="confide.strategies.personal.layers.fedbn",
        name="FedBN",
        phrase="norms that stay at the institutions",
        sentence="Each institution has norms of its own, which never left it; all other layers were"
        " trained by all together.",
        personal="within",
        stays="norms",
    ),
    "fedrep": AlgorithmKind(
        schema=FedRepConfig,
        builder="confide.strategies.personal.fedrep.fedrep",
        name="FedRep",
        phrase="heads that stay and are trained first",
        sentence="Each round every institution trained a head of its own, which never left it, and"
        " then the layers below it, which were trained by all together.",
        personal="within",
        stays="head",
    ),
    "fine_tuning": AlgorithmKind(
        schema=FineTuningConfig,
        builder="confide.strategies.personal.fine_tuning.fine_tuning",
        name="FedAvg",
        phrase="local fine-tuning",
        sentence="In the last rounds each institution trained the federated model further for"
        " itself, and sent nothing of it.",
        personal="beside",
    ),
    "ditto": AlgorithmKind(
        schema=DittoConfig,
        builder="confide.strategies.personal.ditto.ditto",
        name="Ditto",
        phrase="personal models held near the global one",
        sentence="Beside the federated model each institution trained one of its own, held near the"
        " federated one, which never left it.",
        trainings=2,
        personal="beside",
    ),
    "apfl": AlgorithmKind(
        schema=ApflConfig,
        builder="confide.strategies.personal.apfl.apfl",
        name="APFL",
        phrase="mixtures of own models and the global one",
        sentence="Beside the federated model each institution trained one of its own, which never"
        " left it, and predicts with a mixture of both.",
        trainings=2,
        personal="beside",
    ),
}

__all__ = ["ALGORITHMS", "AlgorithmKind", "PartKind"]
