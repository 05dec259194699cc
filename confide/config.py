"""The schema: every setting with its type, default, range and meaning, in one place.

Hydra composes YAML into these dataclasses; the parts that travel to an institution inside a
:class:`~confide.plan.TrainingPlan` are the same classes, so that both sides check the same ranges. They are mutable
because Hydra requires it; nothing changes them after :func:`confide.compose.validate`.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from confide.data_config import DataConfig
from confide.own_parts import is_dotted, named_problems
from confide.settings import STRICT, setting
from confide.simulation_config import BASELINES, SimulationConfig
from confide.tracking_config import TrackingConfig

METRICS: dict[str, str] = {
    "accuracy": "max",
    "macro_f1": "max",
    "auc": "max",
    "log_loss": "min",
}
"""Metrics a classification task reports, and the direction that is better."""
METRIC_RANGES: dict[str, tuple[float, float]] = {
    "accuracy": (0.0, 1.0),
    "macro_f1": (0.0, 1.0),
    "auc": (0.0, 1.0),
    "log_loss": (0.0, float("inf")),
}
"""Least and largest value that each of these can have."""

TASK_KINDS = ("text_classification", "tabular")


@dataclass
class TaskConfig:
    """What is learnt: the schema of a record, its label, and the metric that decides."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = setting("???", "Kind of task.", choices=TASK_KINDS)
    labels: list[str] = setting(list, "Class names, in the order of the model's outputs.")
    label_column: str = setting("label", "Column that holds the label.")
    label_values: dict[str, str] = setting(dict, "Raw value of the label column -> class name; empty: values are names.")
    metrics: list[str] = setting(lambda: list(METRICS), "Metrics to report.")
    primary_metric: str = setting("accuracy", "Metric that picks the best model and stops early.", choices=tuple(METRICS))
    _target_: str | None = setting(
        None,
        "Dotted path of a task of your own, which then stands in place of kind's on the same schema; an institution imports it "
        "only if its own policy.tasks lists it.",
    )
    kwargs: dict[str, bool | int | float | str] = setting(dict, "Arguments of _target_, beside the schema.")

    @property
    def own_tasks(self) -> tuple[str, ...]:
        """What has to be imported to build this task, beside confide."""
        return () if self._target_ is None else (self._target_,)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from named_problems(self._target_, self.kwargs)
        if not all(isinstance(value, bool | int | float | str) for value in self.kwargs.values()):
            yield f"kwargs={self.kwargs}: expected numbers, truth values and text, which a plan can carry."
        if len(set(self.labels)) < 2 or len(set(self.labels)) != len(self.labels):
            yield f"labels={self.labels}: expected at least two distinct class names."
        unknown = sorted(set(self.label_values.values()) - set(self.labels))
        if unknown:
            yield f"label_values names {unknown}, which task.labels={self.labels} lacks; add them there or map to one of these."
        for name in self.metrics:
            if name not in METRICS:
                yield f"metrics={name}: expected only {', '.join(METRICS)}."
        if self.primary_metric in METRICS and self.primary_metric not in self.metrics:
            yield f"primary_metric={self.primary_metric} is not in metrics={self.metrics}; add it or choose one of these."


@dataclass
class TextClassificationConfig(TaskConfig):
    """One label for one text."""

    kind: str = setting("text_classification", "Kind of task.", choices=("text_classification",))
    text_column: str = setting("text", "Column that holds the text.")
    max_tokens: int = setting(48, "Texts are cut after this many tokens.", ge=4, le=8192)


@dataclass
class ColumnConfig:
    """One column of a table, with a public range: no statistic of the records is needed to encode it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = setting("numeric", "numeric or categorical.", choices=("numeric", "categorical"))
    minimum: float | None = setting(None, "Numeric: lowest value of the public range; lower ones are clipped.")
    maximum: float | None = setting(None, "Numeric: highest value of the public range; higher ones are clipped.")
    categories: list[str] = setting(list, "Categorical: the values, one input each.")
    missing_values: list[str] = setting(list, "Values that mean 'missing', beside an empty cell.")
    indicator: bool = setting(False, "Add an input that is 1 where the value is missing.")

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        low, high = self.minimum, self.maximum
        if self.kind == "numeric" and (low is None or high is None or not 0 < high - low < math.inf):
            yield f"minimum={self.minimum}, maximum={self.maximum}: expected two numbers, minimum < maximum."
        distinct = {value.lower() if value.lower() in ("true", "false") else value for value in self.categories}
        if self.kind == "categorical" and (not self.categories or len(distinct) != len(self.categories)):
            yield f"categories={self.categories}: expected distinct values, at least one."


@dataclass
class TabularConfig(TaskConfig):
    """One label for one row of a table."""

    kind: str = setting("tabular", "Kind of task.", choices=("tabular",))
    columns: dict[str, ColumnConfig] = setting(dict, "Input columns, in order, each with its public range or categories.")

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from TaskConfig.problems(self)
        if not self.columns:
            yield "columns={}: expected at least one input column."
        if self.label_column in self.columns:
            yield f"columns.{self.label_column} is the label; remove it from the inputs."


@dataclass
class BackboneConfig:
    """The model every institution starts from."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = setting("???", "Kind of backbone.", choices=("transformer", "logistic", "mlp"))


@dataclass
class TransformerConfig(BackboneConfig):
    """A pretrained encoder in Hugging Face format, with safetensors weights."""

    kind: str = setting("transformer", "Kind of backbone.", choices=("transformer",))
    name: str = setting("???", "A local folder, pkg://PACKAGE/FOLDER inside an installed package, or a hub name.")
    sha256: str | None = setting(None, "Expected hash of its files; null: taken from the coordinator's copy.")
    num_hidden_layers: int | None = setting(None, "Keep only the first layers; null: all.", ge=1)
    pooling: str = setting("mean", "How token vectors become one text vector.", choices=("mean", "cls"))
    allow_download: bool = setting(False, "Whether a hub name may be downloaded.")


@dataclass
class LogisticConfig(BackboneConfig):
    """Multinomial logistic regression on the encoded columns."""

    kind: str = setting("logistic", "Kind of backbone.", choices=("logistic",))


_MOST_LAYERS, _WIDEST_LAYER = 64, 10_000_000


@dataclass
class MlpConfig(BackboneConfig):
    """A multi-layer perceptron on the encoded columns, ReLU between layers."""

    kind: str = setting("mlp", "Kind of backbone.", choices=("mlp",))
    hidden: list[int] = setting(lambda: [32], "Width of each hidden layer.")

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if not self.hidden or not 1 <= min(self.hidden) <= max(self.hidden) <= _WIDEST_LAYER:
            yield f"hidden={self.hidden}: expected widths of 1 to {_WIDEST_LAYER}; for none choose backbone=logistic."
        if len(self.hidden) > _MOST_LAYERS:
            yield f"hidden: expected at most {_MOST_LAYERS} layers, got {len(self.hidden)}."


@dataclass
class TuningConfig:
    """Which tensors are trained, and so travel."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = setting(
        "???",
        "full: all; lora: adapters and head; head: the head on frozen features.",
        choices=("full", "lora", "head"),
    )
    rank: int = setting(8, "LoRA rank r.", ge=1, le=1024)
    alpha: float = setting(16.0, "LoRA scale: the adapter counts alpha / rank.", gt=0)
    target_modules: list[str] = setting(lambda: ["query", "value"], "Modules that get an adapter, by the end of their name.")


@dataclass
class PrivacyConfig:
    """The guarantee an institution asks for, for the whole run.

    Neighbouring data sets differ by one unit zeroed out; the number of units is public.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    unit: str = setting(
        "none",
        "What is protected: a record, a group (all records with one data.group_column: a patient's, an account's), or none.",
        choices=("none", "record", "group"),
    )
    epsilon: float = setting(8.0, "Privacy loss bound of one institution for the whole run.", gt=0, le=100)
    delta: float = setting(1e-5, "Probability that the bound fails.", ge=1e-12, lt=1)
    clipping_norm: float = setting(1.0, "L2 bound C on one unit's gradient.", ge=1e-6, le=1e6)
    accountant: str = setting("pld", "How epsilon is composed.", choices=("pld", "prv", "rdp"))
    spare_rounds: int = setting(
        0, "Rounds beyond num_rounds that the noise is calibrated for (crashes, retries).", ge=0, le=10_000
    )
    max_records_per_group: int = setting(16, "group: further records of a group are left out of training.", ge=1, le=10_000)


@dataclass
class OptimizerConfig:
    """The client's optimizer; its state starts anew each round."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = setting("sgd", "Client optimizer.", choices=("sgd", "adam", "adamw"))
    learning_rate: float = setting(0.1, "Client learning rate.", gt=0, le=1e4)
    momentum: float = setting(0.0, "SGD momentum.", ge=0, lt=1)
    weight_decay: float = setting(0.0, "L2 penalty (sgd, adam) or decoupled decay (adamw).", ge=0)


@dataclass
class ClientConfig:
    """What an institution does in one round."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    local_epochs: int = setting(1, "Passes over the training records in one round.", ge=1, le=10_000)
    local_steps: int | None = setting(None, "Optimizer steps in one round; null: local_epochs passes.", ge=1, le=1_000_000)
    batch_size: int = setting(32, "Records in one step; under DP-SGD the expected number.", ge=1, le=10_000_000)
    sampling_rate: float | None = setting(
        None, "Share q of the training records in one step; null: batch_size / n.", ge=1e-6, le=1
    )


@dataclass
class InstitutionConfig(ClientConfig):
    """The client group: what an institution does in one round, which travels in the plan, and what stays at home."""

    ledger: str | None = setting(
        None,
        "Folder of the institutions' privacy ledgers, which outlives the run; null: in memory, forgotten with the process.",
    )
    ledger_anchors: str | None = setting(
        None, "Folder of the ledgers' anchors, best on another disk: they tell an older copy of a ledger; null: beside it."
    )


@dataclass
class BudgetConfig:
    """What one declared population may spend in its lifetime, over all runs."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    id: str | None = setting(
        None, "Name of the population: everybody in it carries every event, whoever trained; null: the institution's name."
    )
    unit: str = setting("record", "Strongest unit that is promised; fixed once declared.", choices=("record", "group"))
    epsilon: float | None = setting(None, "Lifetime bound; a ledger that outlives the process needs one.", gt=0, le=1000)
    delta: float = setting(1e-5, "Lifetime probability that the bound fails.", ge=1e-12, lt=1)


@dataclass
class PolicyConfig:
    """What an institution allows. Its own code holds every plan and every reply against it; no plan can loosen it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    budget: BudgetConfig = field(default_factory=BudgetConfig)
    required_unit: str = setting("record", "Weakest unit a plan may ask for.", choices=("none", "record", "group"))
    max_epsilon: float = setting(8.0, "Largest epsilon that one run may ask for.", gt=0, le=1000)
    max_delta: float = setting(1e-5, "Largest delta of one run.", gt=0, lt=1)
    min_records: int = setting(100, "Fewest units to train on.", ge=1)
    public_n: int | None = setting(
        None, "Declared number of training units, at least the true one; null: the true one, which is then public.", ge=1
    )
    tasks: list[str] = setting(
        lambda: list(TASK_KINDS),
        "Kinds of task, and dotted paths of tasks of one's own, which are imported here if a plan names them; any: in a "
        "simulation, whatever its own config names.",
    )
    backbones: list[str] = setting(
        lambda: ["logistic", "mlp"],
        "Kinds without weights, and content hashes (SHA-256) of pretrained ones; any: whatever the institution has.",
    )
    max_rounds: int = setting(1000, "Most rounds of one run, spare ones included.", ge=1, le=1_000_000)
    max_epochs: float = setting(100.0, "Most passes over the records in one round.", gt=0, le=10_000)
    max_update_mb: float = setting(256.0, "Largest update, in MiB.", gt=0)
    max_update_norm: float = setting(1e6, "Largest L2 norm of an update.", gt=0)
    metrics: list[str] = setting(lambda: list(METRICS), "Metrics on validation and test records that may leave, unprotected.")
    min_support: int = setting(20, "Metrics on fewer records stay.", ge=1)
    max_evaluations: int = setting(
        4, "Deployed: different models that one run may have scored beside its rounds; each exact score tells of labels.", ge=0
    )
    approval: str = setting(
        "automatic", "manual: a run begins once its plan was approved here.", choices=("automatic", "manual")
    )
    hours: str | None = setting(None, "When a round may begin, local time, as 20:00-06:00; null: always.")
    allow_download: bool = setting(False, "Whether a backbone may be downloaded.")
    allow_reproducible_noise: bool | None = setting(
        False,
        "Whether noise may derive from a simulation's seed: whoever knows it can remove the noise. null: for public records.",
    )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        for name in self.metrics:
            if name not in METRICS:
                yield f"metrics={name}: expected only {', '.join(METRICS)}."
        for kind in self.tasks:
            if kind not in (*TASK_KINDS, "any") and not is_dotted(kind):
                yield f"tasks={kind}: expected only {', '.join(TASK_KINDS)}, any, or the dotted path of a task."
        if self.hours is not None and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", self.hours):
            yield f"hours={self.hours}: expected HH:MM-HH:MM."
        if self.budget.unit == "record" and self.required_unit == "group":
            yield "required_unit=group, budget.unit=record: the budget's unit is the strongest; set budget.unit=group."


@dataclass
class ObjectiveConfig:
    """The local objective."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = setting("plain", "Local objective.", choices=("plain", "fedprox", "feddyn"))
    proximal_mu: float = setting(0.0, "FedProx: weight mu of ||w - w_global||^2 / 2.", ge=0)
    alpha: float = setting(
        0.1, "FedDyn: weight of ||w - w_global||^2 / 2; about 1 / (learning rate * steps) where a round has few.", gt=0, le=1e4
    )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.kind != "fedprox" and self.proximal_mu:
            yield f"proximal_mu={self.proximal_mu} has no effect with kind={self.kind}; set kind=fedprox or proximal_mu=0."


@dataclass
class SelectionConfig:
    """Who takes part in a round."""

    kind: str = setting("all", "all, or uniform without replacement.", choices=("all", "uniform"))
    clients_per_round: int | None = setting(None, "uniform: how many.", ge=1)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if (self.kind == "uniform") != (self.clients_per_round is not None):
            yield (
                f"kind={self.kind}, clients_per_round={self.clients_per_round}: uniform needs a number and all takes none; "
                "set both (kind=uniform clients_per_round=N) or neither."
            )


@dataclass
class AggregatorConfig:
    """How updates become one."""

    kind: str = setting("weighted_mean", "Aggregation rule.", choices=("weighted_mean",))
    weighting: str = setting("num_examples", "What a client's update weighs.", choices=("num_examples", "uniform"))
    _target_: str | None = setting(None, "Dotted path of a rule of your own, which then stands in place of kind.")
    kwargs: dict[str, Any] = setting(dict, "Arguments of _target_.")

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from named_problems(self._target_, self.kwargs)


@dataclass
class ServerOptimizerConfig:
    """How the aggregated update changes the global tensors."""

    kind: str = setting(
        "sgd",
        "sgd (1.0: FedAvg; momentum: FedAvgM), adam, yogi, adagrad or feddyn.",
        choices=("sgd", "adam", "yogi", "adagrad", "feddyn"),
    )
    learning_rate: float = setting(1.0, "Server learning rate.", gt=0, le=1e4)
    momentum: float = setting(0.0, "sgd: server momentum.", ge=0, lt=1)
    beta1: float = setting(0.9, "adam, yogi, adagrad: decay of the first moment.", ge=0, lt=1)
    beta2: float = setting(0.99, "adam, yogi: decay of the second moment.", ge=0, lt=1)
    tau: float = setting(1e-3, "adam, yogi, adagrad: added to the root of the second moment.", gt=0)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.kind != "sgd" and self.momentum:
            yield f"momentum={self.momentum} has no effect with kind={self.kind}; set beta1 instead."
        if self.kind == "feddyn" and self.learning_rate != 1.0:
            yield f"learning_rate={self.learning_rate} has no effect with kind=feddyn; leave it at 1."


@dataclass
class StrategyConfig:
    """A strategy: composed here, or one of Flower's own."""


@dataclass
class ComposedStrategyConfig(StrategyConfig):
    """A strategy made of independent parts."""

    selection: SelectionConfig = field(default_factory=SelectionConfig)
    aggregator: AggregatorConfig = field(default_factory=AggregatorConfig)
    server_optimizer: ServerOptimizerConfig = field(default_factory=ServerOptimizerConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        dynamic = self.objective.kind == "feddyn"
        if dynamic != (self.server_optimizer.kind == "feddyn"):
            yield (
                f"objective.kind={self.objective.kind}, server_optimizer.kind={self.server_optimizer.kind}: "
                "FedDyn has a part on either side; choose strategy=feddyn, or neither."
            )
        if dynamic and self.aggregator.weighting != "uniform":
            yield f"aggregator.weighting={self.aggregator.weighting}: FedDyn's mean is unweighted; set uniform."
        if self.aggregator._target_ is not None and self.aggregator.weighting != "num_examples" and not dynamic:
            yield f"aggregator.weighting={self.aggregator.weighting} has no effect with aggregator._target_; leave it out."


@dataclass
class FlowerStrategyConfig(StrategyConfig):
    """Any strategy of ``flwr.serverapp.strategy``, by its dotted path."""

    _target_: str = setting("flwr.serverapp.strategy.FedAvg", "Dotted path of the strategy's class.")
    kwargs: dict[str, Any] = setting(dict, "Arguments of its constructor.")


@dataclass
class CustomStrategyConfig(StrategyConfig):
    """A strategy of one's own, by dotted path: what makes a :class:`~confide.strategies.strategy.FederatedAlgorithm`."""

    _target_: str = setting("???", "Dotted path of a function or class of your own.")
    kwargs: dict[str, Any] = setting(dict, "Arguments of _target_.")
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from named_problems(self._target_, self.kwargs)


@dataclass
class ServerConfig:
    """The coordinator's part of a run."""

    num_rounds: int = setting(10, "Rounds of training.", ge=1, le=1_000_000)
    min_clients: int = setting(1, "A round with fewer accepted updates ends the run.", ge=1)
    round_timeout_s: float = setting(3600.0, "Seconds until a round goes on without those who have not answered.", gt=0)
    enrol_timeout_s: float = setting(
        600.0, "Seconds to wait for institutions to connect, and again for their word that they take part.", gt=0
    )
    max_payload_mb: float = setting(
        250.0,
        "confide server: a model whose update has more MiB is refused before the run; SuperLink fails on larger ones.",
        gt=0,
    )
    kit: str | None = setting(None, "confide server: folder of the coordinator's kit, made by confide provision.")
    keep: str = setting(
        "last",
        "Which model the run saves as its own; best is chosen on validation metrics, which DP does not protect.",
        choices=("last", "best"),
    )
    checkpoints: int = setting(3, "Checkpoints kept; one is written after each round.", ge=1, le=1000)
    patience: int | None = setting(None, "Stop after this many rounds without a better validation metric; null: never.", ge=1)
    max_update_value: float = setting(1024.0, "An update with a larger absolute value is refused.", gt=0, le=2**20)
    progress: str = setting(
        "auto",
        "What the terminal shows: live (a table), plain (a line a round), quiet (the last line), json (an event a line); auto: "
        "live on a terminal, else plain.",
        choices=("auto", "live", "plain", "quiet", "json"),
    )


@dataclass
class TrainerConfig:
    """Performance only: none of these changes what is promised."""

    device: str = setting("auto", "Where to compute.", choices=("auto", "cpu", "cuda", "mps"))
    precision: str = setting(
        "float32", "Arithmetic of forward and backward; parameters stay float32.", choices=("float32", "bf16")
    )
    physical_batch_size: int = setting(256, "Most records in one forward pass; larger batches are accumulated.", ge=1)
    num_threads: int | None = setting(
        None, "CPU threads of each process that trains; null: torch's choice inline, one in a worker.", ge=1
    )
    feature_cache: str | None = setting(
        "${oc.env:CONFIDE_CACHE,${oc.env:HOME,/tmp}/.cache/confide}",
        "Folder for frozen features, by content hash; null: none.",
    )


@dataclass
class Config:
    """A whole run."""

    job: str | None = setting(
        None, "Name of the run; seeds and ledgers are keyed by it. null: simulation, or with client.ledger one of its own."
    )
    task: TaskConfig = field(default_factory=TaskConfig)
    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    client: InstitutionConfig = field(default_factory=InstitutionConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    @property
    def own_parts(self) -> tuple[str, ...]:
        """Dotted paths of everything that this run imports by name."""
        nodes = (self.strategy, getattr(self.strategy, "aggregator", None), self.task, self.data)
        named = tuple(path for node in nodes if (path := getattr(node, "_target_", None)) is not None)
        return (*named, *self.tracking.own_trackers)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself across groups."""
        tabular_backbone = self.backbone.kind in ("logistic", "mlp")
        if (self.task.kind == "tabular") != tabular_backbone:
            fits = "logistic or mlp" if self.task.kind == "tabular" else "minilm or another transformer"
            yield f"backbone.kind={self.backbone.kind} does not fit task.kind={self.task.kind}; choose backbone={fits}."
        if tabular_backbone and self.tuning.kind != "full":
            backbone = f"backbone.kind={self.backbone.kind}"
            yield f"tuning.kind={self.tuning.kind} needs a pretrained backbone; with {backbone} choose tuning=full."
        yield from self._count_problems()
        yield from self._ledger_problems()

    @property
    def baselines(self) -> Sequence[str]:
        """What the federation is compared with."""
        if self.simulation.baselines is not None:
            return self.simulation.baselines
        return BASELINES if self.client.ledger is None else ("local",)

    def _ledger_problems(self) -> Iterator[str]:
        private, ledger = self.privacy.unit != "none", self.client.ledger
        if self.privacy.unit == "group" and self.data.group_column is None:
            yield "data.group_column=null: privacy.unit=group needs the column that says whose a record is."
        if private and not self.data.is_public and ledger is None:
            yield (
                "client.ledger=null: private training on records that are not public spends what no other run gets back. Set "
                "client.ledger=FOLDER, one that outlives the run, or data.public=true if anybody may read them."
            )
        if private and ledger is not None and self.policy.budget.epsilon is None:
            yield (
                "policy.budget.epsilon=null: a ledger needs the lifetime budget of each institution's population; set it, "
                f"for instance policy.budget.epsilon={2 * self.privacy.epsilon:g}."
            )
        if ledger is not None and not private:
            yield (
                f"client.ledger={ledger}: with privacy.unit=none there is nothing to account for; set privacy=record, or "
                "client.ledger=null."
            )
        if ledger is not None and "pooled" in self.baselines:
            yield (
                f"simulation.baselines={self.simulation.baselines}, client.ledger={ledger}: training on all records in one "
                "place would be charged in nobody's ledger; set simulation.baselines=[local], or [] for none."
            )

    def _count_problems(self) -> Iterator[str]:
        clients, least, server = self.data.num_clients, self.server.min_clients, self.server
        if least > clients:
            yield f"server.min_clients={least} exceeds data.num_clients={clients}; lower it or add institutions."
        if isinstance(self.strategy, ComposedStrategyConfig):
            chosen = self.strategy.selection.clients_per_round
            key = f"strategy.selection.clients_per_round={chosen}"
            if chosen is not None and chosen > clients:
                yield f"{key} exceeds data.num_clients={clients}; lower it or add institutions."
            if chosen is not None and chosen < least:
                yield f"{key} is below server.min_clients={least}; lower the latter."
        if self.data.validation == 0 and server.keep == "best":
            yield "server.keep=best needs validation records; set data.validation > 0 or server.keep=last."
        if self.data.validation == 0 and server.patience is not None:
            key = f"server.patience={server.patience}"
            yield f"{key} needs validation records; set data.validation > 0 or server.patience=null."
