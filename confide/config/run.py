"""The whole config of a run: every group of settings, and what contradicts itself across groups.

Hydra composes YAML into these dataclasses; the parts that travel to an institution inside a
:class:`~confide.protocol.plan.TrainingPlan` are the same classes, so that both sides check the same
ranges. They are mutable because Hydra requires it; nothing changes them after
:func:`confide.config.composing.compose.to_config`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from confide.config.aggregation import UNMASKED, AggregationConfig
from confide.config.audit import AuditConfig
from confide.config.client import InstitutionConfig, TrainerConfig
from confide.config.combinations import (
    kind_problems,
    pair_problems,
    step_problems,
    tree_problems,
)
from confide.config.data import DataConfig
from confide.config.fields import setting
from confide.config.models.backbone import BackboneConfig
from confide.config.models.table import BACKBONES
from confide.config.outcomes.outcome import DEFAULT_OUTCOME
from confide.config.privacy import PolicyConfig, PrivacyConfig
from confide.config.report import ReportConfig
from confide.config.server import ServerConfig
from confide.config.simulation import BASELINES, SimulationConfig
from confide.config.statistics import StatisticsConfig
from confide.config.strategies.aggregators import robust_problems
from confide.config.strategies.codecs import codec_problems
from confide.config.strategies.mechanisms import (
    release_problems,
    share_of,
    share_problems,
    still_problems,
)
from confide.config.strategies.peers import CLIPPED, peers_problem
from confide.config.strategies.secure import secure_problems
from confide.config.strategies.selections import (
    CountedSelectionConfig,
    SelectionConfig,
    UniformSelectionConfig,
)
from confide.config.strategies.strategy import (
    ComposedStrategyConfig,
    StrategyConfig,
    codecs_of,
    objective_of,
    timing_of,
)
from confide.config.strategies.timings import BufferedTimingConfig, timing_problems
from confide.config.strategies.training import (
    feature_problems,
    objective_problems,
    personal_problems,
    record_problems,
    tuning_problems,
)
from confide.config.tasks.table import TASKS
from confide.config.tasks.task import TaskConfig
from confide.config.tracking import TrackingConfig
from confide.config.tunings.tuning import TuningConfig


@dataclass
class Config:
    """The config of a whole run."""

    job: str | None = setting(
        None,
        "Name of the run, by which seeds and ledgers are keyed. null: simulation, or with"
        " client.ledger a new name for each run.",
    )
    task: TaskConfig = field(default_factory=TaskConfig)
    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    aggregation: AggregationConfig = field(default_factory=AggregationConfig)
    client: InstitutionConfig = field(default_factory=InstitutionConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    statistics: StatisticsConfig = field(default_factory=StatisticsConfig)
    report: ReportConfig = field(default_factory=ReportConfig)

    @property
    def custom_parts(self) -> tuple[str, ...]:
        """Dotted paths of everything that this run imports by name."""
        nodes = (self.strategy, getattr(self.strategy, "aggregator", None), self.task, self.data)
        named = tuple(
            path for node in nodes if (path := getattr(node, "_target_", None)) is not None
        )
        return (*named, *self.tracking.custom_trackers)

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each contradiction between groups."""
        # Each group looks at itself: what is left is what they say of each other.
        yield from self._model_problems()
        private = self.privacy.unit != "none"
        objective = objective_of(self.strategy)
        for problem in objective_problems(objective, self.client, private=private):
            yield f"strategy.{problem}"
        for problem in codec_problems(objective, self.tuning, *codecs_of(self.strategy)):
            yield f"strategy.{problem}"
        yield from personal_problems(objective, self.backbone, self.tuning, self.server)
        yield from secure_problems(self.aggregation, self.strategy)
        if self.aggregation.is_secure and self.task.subgroups:
            yield f"task.subgroups={list(self.task.subgroups)}: {UNMASKED}."
        yield from self.simulation.sum_problems(self.aggregation)
        yield from self._peers_problems()
        yield from self._schedule_problems()
        yield from self._count_problems()
        if self.privacy.unit == "group" and self.data.group_column is None:
            yield (
                "data.group_column=null: privacy.unit=group needs the column that names a record's"
                " owner."
            )
        yield from self._baseline_problems()
        yield from self._ledger_problems()
        server = self.server
        yield from timing_problems(
            timing_of(self.strategy),
            least=server.min_clients,
            keep=server.keep,
            patience=server.patience,
        )
        if timing_of(self.strategy).kind != "rounds":
            yield from self.simulation.asynchronous_problems(timing_of(self.strategy).kind)
        yield from self.report.label_problems(self.task.labels)
        outcome = self.task.outcome.kind
        yield from self.simulation.attack.label_problems(
            self.task.labels, outcome, has_classes=outcome == DEFAULT_OUTCOME
        )
        yield from self.data.label_problems(len(self.task.labels))

    def _model_problems(self) -> Iterator[str]:
        """Yield where task, backbone, tuning and algorithm do not fit each other."""
        task, backbone, tuning, strategy = self.task, self.backbone, self.tuning, self.strategy
        objective, rounds = objective_of(strategy), self.server.num_rounds
        if task.kind in TASKS and backbone.kind in BACKBONES:  # else reported as out of range
            yield from kind_problems(task, backbone, tuning)
            yield from record_problems(task, tuning, objective)
            yield from feature_problems(task, backbone, tuning, objective)
            yield from tuning_problems(tuning, objective)
            yield from tuning.round_problems(rounds)
            yield from still_problems(strategy, tuning)
        yield from pair_problems(task, backbone, strategy)
        yield from tree_problems(task, backbone, strategy, rounds)
        yield from step_problems(task, backbone, tuning, strategy, self.server.patience)

    def _peers_problems(self) -> Iterator[str]:
        """Yield where others' noise is counted on, and hides no record."""
        if self.privacy.trust != "peers":
            return
        if not self.aggregation.is_secure:
            yield (
                "privacy.trust=peers: the coordinator sees each update with one institution's noise"
                " in it; set aggregation=secure, or privacy.trust=alone."
            )
        problem: str | None = CLIPPED
        if share_of(self.strategy) is None:
            problem = peers_problem(
                objective_of(self.strategy),
                self.client,
                tuning=self.tuning,
                upload=codecs_of(self.strategy)[0],
            )
        if problem is not None:
            yield f"privacy.trust=peers: {problem}, or privacy.trust=alone."

    def _schedule_problems(self) -> Iterator[str]:
        """Yield learning rates that would warm up for as long as the run lasts."""
        rates = {"client.optimizer": self.client.optimizer.schedule}
        if isinstance(self.strategy, ComposedStrategyConfig):
            rates["strategy.server_optimizer"] = self.strategy.server_optimizer.schedule
        for name, schedule in rates.items():
            problem = schedule.problem(self.server.num_rounds)
            if problem is not None:
                yield f"{name}.schedule.{problem}"

    @property
    def baselines(self) -> Sequence[str]:
        """Names of the baselines that the federation is compared with."""
        if self.simulation.baselines is not None:
            return self.simulation.baselines
        if self.simulation.attack.poisons:  # they would be trained on changed records
            return ()
        if self.policy.secure.required:  # nobody has masks alone
            return ()
        # Training on pooled records could be charged to no single institution's ledger
        return BASELINES if self.client.ledger is None else ("local",)

    def _baseline_problems(self) -> Iterator[str]:
        if self.simulation.baselines and self.policy.secure.required:
            yield (
                f"simulation.baselines={self.simulation.baselines}: their plans have no masks, and"
                " policy.secure.required=true has each declined; set simulation.baselines=[]."
            )

    def _ledger_problems(self) -> Iterator[str]:
        private, ledger = self.privacy.unit != "none", self.client.ledger
        # In memory, each run would start with a full budget for the same people
        if private and not self.data.is_public and ledger is None:
            yield (
                "client.ledger=null: private training on records that are not public spends a"
                " budget that has to be remembered. Set client.ledger=FOLDER, one that outlives the"
                " run, or data.public=true if anybody may read the records."
            )
        if private and ledger is not None and self.policy.budget.epsilon is None:
            yield (
                "policy.budget.epsilon=null: a ledger needs the lifetime budget of each"
                " institution's population; set it, for instance"
                f" policy.budget.epsilon={2 * self.privacy.epsilon:g}."
            )
        if ledger is not None and not private:
            yield (
                f"client.ledger={ledger}: with privacy.unit=none there is nothing to account for;"
                " set privacy=record, or client.ledger=null."
            )
        if ledger is not None and "pooled" in self.baselines:
            yield (
                f"simulation.baselines={self.simulation.baselines}, client.ledger={ledger}:"
                " training on all records in one place would be charged in nobody's ledger; set"
                " simulation.baselines=[local], or [] for none."
            )

    def client_problems(self, clients: int) -> Iterator[str]:
        """Yield what contradicts a number of institutions.

        Args:
            clients: how many there are, which may be known once records are read.
        """
        least = self.server.min_clients
        # What sets the number, so that it can be changed
        there = (
            f"data.num_clients={clients}" if self.data.expected_clients else f"the {clients} there"
        )
        if least > clients:
            yield f"server.min_clients={least} exceeds {there}; lower it or add institutions."
        yield from self.simulation.attack.client_problems(clients, there)
        yield from self.simulation.sum_size_problems(self.aggregation, clients, there)
        # One of Flower's own strategies selects by itself.
        selection = getattr(self.strategy, "selection", None)
        if isinstance(selection, SelectionConfig):
            yield from selection.client_problems(clients, there)
            clients, there = selection.fewest(clients, there, least)
        timing = timing_of(self.strategy)
        if isinstance(timing, BufferedTimingConfig):
            yield from timing.client_problems(clients, there, rounds=self.server.num_rounds)
        strategy = self.strategy
        if isinstance(strategy, ComposedStrategyConfig):
            yield from robust_problems(strategy.aggregator, strategy.mixing, clients, there)

    def _count_problems(self) -> Iterator[str]:
        least, server = self.server.min_clients, self.server
        if self.data.expected_clients is not None:
            yield from self.client_problems(self.data.expected_clients)
        selection = getattr(self.strategy, "selection", None)
        if isinstance(selection, CountedSelectionConfig) and selection.clients_per_round < least:
            yield f"{selection.key} is below server.min_clients={least}; lower the latter."
        over = selection.over_selection if isinstance(selection, UniformSelectionConfig) else 1
        # Institutions of a deployment are as fast as they are
        is_timeless = self.simulation.delays.kind == "none" and self.server.kit is None
        if over > 1 and is_timeless:
            yield (
                f"strategy.selection.over_selection={over:g}: without delays all answer at once, so"
                " nobody is first; set simulation/delays=KIND, or over_selection=1."
            )
        within_s = self.client.steps_within_s
        if within_s is not None and is_timeless:
            yield (
                f"client.steps_within_s={within_s:g}: without delays steps take no time; set"
                " simulation/delays=KIND, or leave it out."
            )
        yield from release_problems(self.strategy, keep=server.keep, patience=server.patience)
        yield from share_problems(self.strategy, server.max_update_value)
        if self.data.validation == 0 and server.keep == "best":
            yield (
                "server.keep=best needs validation records; set data.validation > 0 or"
                " server.keep=last."
            )
        if self.data.validation == 0 and server.patience is not None:
            key = f"server.patience={server.patience}"
            yield (
                f"{key} needs validation records; set data.validation > 0 or server.patience=null."
            )
