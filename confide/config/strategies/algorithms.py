"""The table of algorithms, and what a line of such a table says.

One line is one algorithm: its small config, the dotted path of what builds it, and its name. No
torch is imported.
"""

import importlib
from dataclasses import dataclass, fields
from typing import Any, Literal

from confide.config.strategies.drift import (
    FedExPConfig,
    FedNovaConfig,
    MoonConfig,
    QFedAvgConfig,
)
from confide.config.strategies.objectives import (
    BoostingConfig,
    ClientMomentumConfig,
    FedDynConfig,
    FedExLoraConfig,
    FedProxConfig,
    FloraConfig,
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
    IfcaConfig,
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

    def build(self, config: Any) -> Any:
        """Call the builder with settings, an instance of ``schema``, each by its name."""
        module, _, name = self.builder.rpartition(".")
        builder = getattr(importlib.import_module(module), name)
        settings = {item.name: getattr(config, item.name) for item in fields(config)}
        del settings["kind"]  # the line was found by it
        settings.pop("schedule", None)  # of any server optimizer, and so the strategy's
        return builder(**settings)


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
            one that reads the number of steps keeps something too (``first_kept``), or
            ``reads_steps``.
        reads_steps: whether what it sends follows from the number of local steps.
        step_length: whether its server part says how long the step is, for any model, so that the
            server optimizer has to be plain.
        only_mean: whether it sends figures beside the update that a mean alone makes sense of, so
            that no robust rule fits, which sees both as one vector.
        compares: whether it compares what goes into the model's last layer.
        exact: whether sums have to arrive as they were sent, so that no rule of one's own fits.
        tuning: the only kind of tuning that it is for; empty for any.
        each_update: whether it averages something of each update beside it, as no rule but the
            weighted mean does.
        any_version: whether it needs no more of a client than an update of the tensors that it was
            given, so that these may differ from client to client.
        lossy: whether updates, and the tensors that it starts from, may be rounded on their way:
            neither sums that have to be exact, nor an account that both sides keep, nor steps that
            follow from the noise alone.
        any_steps: whether clients may take fewer steps than planned, each its own number.
        trainings: how often its client part trains in a round: under privacy a round is charged,
            and its noise calibrated, for as many times its local steps.
        personal: whether institutions predict with tensors of their own: "beside" a global model,
            "within" the one model, whose other tensors alone are none; "" for neither.
        stays: what of the model never leaves an institution, in words; empty for nothing.
        own: what an institution has beside the global model, in words.
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
    lossy: bool = False
    any_steps: bool = False
    reads_steps: bool = False
    step_length: bool = False
    only_mean: bool = False
    compares: bool = False
    tuning: str = ""
    each_update: bool = False
    trainings: int = 1
    personal: Literal["", "beside", "within"] = ""
    stays: str = ""
    own: str = "one of its own, which never left it"


ALGORITHMS: dict[str, AlgorithmKind] = {
    "plain": AlgorithmKind(
        schema=ObjectiveConfig,
        builder="confide.strategies.algorithms.fedavg.local_sgd",
        name="FedAvg",
        elementwise=True,
        any_version=True,
        lossy=True,
        any_steps=True,
    ),
    "fedprox": AlgorithmKind(
        schema=FedProxConfig,
        builder="confide.strategies.algorithms.fedprox.fedprox",
        name="FedProx",
        phrase="a proximal term",
        sentence="A proximal term held each institution near the global model.",
        elementwise=True,
        any_version=True,
        lossy=True,
        any_steps=True,
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
        any_steps=True,
    ),
    "client_momentum": AlgorithmKind(
        schema=ClientMomentumConfig,
        builder="confide.strategies.algorithms.client_momentum.client_momentum",
        name="FedAvg",
        phrase="momentum at the institutions",
        sentence="Each institution sent a running mean of its updates.",
        elementwise=True,
        lossy=True,
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
        any_steps=True,
    ),
    "fednova": AlgorithmKind(
        schema=FedNovaConfig,
        builder="confide.strategies.algorithms.drift.fednova.fednova",
        name="FedNova",
        phrase="normalised updates",
        sentence="Each institution's update was divided by the local steps that were in it, and"
        " their mean multiplied by the mean number of steps.",
        sends="updates of trainable tensors and the number of local steps",
        choice="strategy=fednova",
        elementwise=True,
        any_steps=True,
        reads_steps=True,
        only_mean=True,
    ),
    "fedexp": AlgorithmKind(
        schema=FedExPConfig,
        builder="confide.strategies.algorithms.drift.fedexp.fedexp",
        name="FedExP",
        phrase="extrapolated steps",
        sentence="The coordinator's step was the longer the more the institutions' updates pointed"
        " in different directions.",
        sends="updates of trainable tensors and their squared norms",
        choice="strategy=fedexp",
        elementwise=True,
        step_length=True,
        only_mean=True,
    ),
    "qfedavg": AlgorithmKind(
        schema=QFedAvgConfig,
        builder="confide.strategies.algorithms.drift.qfedavg.qfedavg",
        name="q-FedAvg",
        phrase="weights by loss",
        sentence="An institution counted the more, the larger its loss by the global model was.",
        reads_records=True,
        sends="updates of trainable tensors, weighted by the loss of its training records,",
        choice="strategy=qfedavg",
        under_privacy="strategy=fedavg",
        step_length=True,
        only_mean=True,
    ),
    "moon": AlgorithmKind(
        schema=MoonConfig,
        builder="confide.strategies.algorithms.drift.moon.moon",
        name="MOON",
        phrase="a contrastive loss",
        sentence="A contrastive loss held each institution's representations near the global"
        " model's and away from those of its own last model.",
        reads_records=True,
        choice="strategy=moon",
        under_privacy="strategy=fedprox",
        compares=True,
    ),
    "fedex_lora": AlgorithmKind(
        schema=FedExLoraConfig,
        builder="confide.strategies.algorithms.exact_lora.fedex_lora",
        name="FedEx-LoRA",
        phrase="adapters whose products are averaged",
        sentence="Adapters were averaged, and what their mean leaves out of the mean of their"
        " products was added to the weights that they belong to.",
        tuning="lora_exact",
        each_update=True,
        own_step=True,
        any_model=True,
        own_recipe=True,
        choice="strategy=fedex_lora",
    ),
    "flora": AlgorithmKind(
        schema=FloraConfig,
        builder="confide.strategies.algorithms.exact_lora.flora",
        name="FLoRA",
        phrase="adapters that are multiplied out",
        sentence="After each round the mean of the adapters' products was added to the weights that"
        " they belong to, and adapters started anew.",
        tuning="lora_exact",
        each_update=True,
        own_step=True,
        any_model=True,
        own_recipe=True,
        choice="strategy=flora",
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
        lossy=True,
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
    "ifca": AlgorithmKind(
        schema=IfcaConfig,
        builder="confide.strategies.personal.ifca.ifca",
        name="IFCA",
        phrase="a model for each cluster of institutions",
        sentence="Of several models each institution trained, in each round, the one with the least"
        " loss on its training records, and it predicts with the one that it chose in the end. The"
        " run's model is the one whose institutions weigh most.",
        remains="its part of the models of clusters",
        reads_records=True,
        sends="updates of trainable tensors, and which of the models fits its training records"
        " best,",
        choice="strategy=ifca",
        under_privacy="strategy=ditto",
        step_length=True,
        only_mean=True,
        personal="beside",
        own="that of its cluster, which institutions with like records trained together",
    ),
}

__all__ = ["ALGORITHMS", "AlgorithmKind", "PartKind"]
