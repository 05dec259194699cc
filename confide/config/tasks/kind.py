"""What an entry of the table of tasks says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from confide.config.models.kind import Network
from confide.config.models.table import BACKBONES
from confide.config.outcomes.table import OF_A_RECORD, OUTCOMES
from confide.config.tasks.task import TaskConfig
from confide.metrics.metric import Metric


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """A kind of task: an entry of :data:`TASKS`.

    Dotted names are imported when first used (:func:`~confide.config.custom.implementation`).

    Attributes:
        schema: dataclass of its settings, ``kind`` among them.
        task: dotted name of its class (:class:`~confide.tasks.task.Task`), made of the schema and,
            by keyword, of ``assets``.
        inputs: columns of encoded records that a model takes; it goes with backbones that take the
            same ones.
        reader: dotted name of a :data:`~confide.tasks.schema.ReadFn`, which reads and checks input
            columns without torch.
        inventor: dotted name of a function (schema, count, generator) -> column -> values, which
            invents raw records for checks that need no real ones.
        maker: dotted name of a ``MakeFn`` (confide.tasks.made.making), which makes records of what
            a source holds, such as rows of interactions; None: a source holds records.
        choice: what a person writes to begin one, ``task=CHOICE``, without a file of the schema;
            None where a schema has columns that only its file can say.
        title: what it is, in a report.
        purpose: what a model of classes is for, as the beginning of a sentence that they end.
        records: what its records are, in words.
        pipeline_tag: Hugging Face's name for it with classes, for the model card; None: other.
        outcomes: kinds of outcome that its records may have.
        assets: what a task needs of a pretrained backbone's folder, such as a tokenizer.
        members: what a custom task on this schema must have, beside the members of every task.
        forms: forms that a model of it can be exported to; None for every form.
        networks: backbone kind -> network in place of that backbone's own, for outputs that are not
            one row of numbers a record, or for inputs that the backbone's own does not take.
        texts: dotted name of a function (schema, values of a column) -> texts, as a tokenizer
            takes them; None where the values are texts.
        explainer: dotted name of an :class:`~confide.explaining.case.Explainer`, made of a
            predictor, its network and a baseline's name; None for records that are not taken apart.
    """

    schema: type[TaskConfig]
    task: str
    inputs: tuple[str, ...]
    reader: str
    inventor: str
    title: str
    purpose: str
    choice: str | None = None
    maker: str | None = None
    records: str = "records"
    pipeline_tag: str | None = None
    outcomes: tuple[str, ...] = OF_A_RECORD
    assets: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    forms: tuple[str, ...] | None = None
    networks: Mapping[str, Network] = field(default_factory=dict)
    texts: str | None = None
    explainer: str | None = None

    @property
    def backbones(self) -> tuple[str, ...]:
        """Names of the kinds of backbone that it goes with."""
        # Not a list of names: a backbone that is added later fits wherever its inputs do.
        return tuple(
            name
            for name, kind in BACKBONES.items()
            if name in self.networks
            or (
                kind.inputs == self.inputs
                and (kind.tasks is None or self.schema.kind in kind.tasks)
            )
        )

    def assets_for(self, outcome: str) -> tuple[str, ...]:
        """Name what a task with an outcome of that kind needs of a pretrained backbone's folder."""
        return tuple(dict.fromkeys((*self.assets, *OUTCOMES[outcome].assets)))

    def outcome_problem(self, outcome: str) -> str | None:
        """Return what is wrong with an outcome of its records; None for nothing."""
        if outcome in self.outcomes:
            return None
        return (
            f"task.outcome.kind={outcome}: records of task.kind={self.schema.kind} have"
            f" {' or '.join(self.outcomes)}; choose task/outcome={self.outcomes[0]}."
        )

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Those of its own, by name; {} where an outcome's are all there are."""
        own: Any = self.schema.metric_table
        return {} if isinstance(own, property) else own


__all__ = ["TaskKind"]
