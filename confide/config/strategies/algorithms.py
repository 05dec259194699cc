"""The table of algorithms.

One line is one algorithm: its small config, the dotted path of what builds it, and its name. No
torch is imported.
"""

from confide.config.strategies.drift import (
    FedExPConfig,
    FedNovaConfig,
    L2SpConfig,
    MoonConfig,
    QFedAvgConfig,
)
from confide.config.strategies.kinds import AlgorithmKind
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
    "l2_sp": AlgorithmKind(
        schema=L2SpConfig,
        builder="confide.strategies.algorithms.l2_sp.l2_sp",
        name="FedAvg",
        phrase="an L2-SP penalty",
        sentence="A penalty held each institution near the model that the run started from.",
        elementwise=True,
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

__all__ = ["ALGORITHMS"]
