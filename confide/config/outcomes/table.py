"""Outcomes: what is predicted of a record, whatever the record is.

``OUTCOMES`` is the one place that lists kinds. A task's records and its outcome are chosen apart:
any outcome of a record as a whole goes with tables and with texts. The settings of classes stand
on the task itself, from before there was anything else; each other outcome has its own in
``task.outcome``. See docs/design/0032-outcomes.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from confide.config.outcomes.answer import AnswerConfig
from confide.config.outcomes.forecast import ForecastConfig
from confide.config.outcomes.mask import MaskConfig
from confide.config.outcomes.multi_label import MultiLabelConfig
from confide.config.outcomes.next_item import NextItemConfig
from confide.config.outcomes.ordinal import OrdinalConfig
from confide.config.outcomes.outcome import OutcomeConfig
from confide.config.outcomes.regression import RegressionConfig
from confide.config.outcomes.spans import SpansConfig
from confide.config.outcomes.survival import SurvivalConfig
from confide.config.outcomes.text import TextConfig
from confide.config.outcomes.transcript import TranscriptConfig
from confide.metrics.metric import Metric

_NO_PERSON = (
    "its errors are of words, items or pixels, many a record, so that a group's rate is not one of"
    " its people"
)


@dataclass(frozen=True, kw_only=True)
class OutcomeKind:
    """A kind of outcome: an entry of :data:`OUTCOMES`.

    Attributes:
        schema: dataclass of its settings, ``kind`` among them.
        outcome: dotted name of its class (:class:`~confide.tasks.outcomes.outcome.Outcome`), made
            of the schema and of the task's :class:`Labelling`; imported when first used.
        title: what it is, in a report; "" where the kind of task has a title for it.
        pipeline_tags: kind of task -> Hugging Face's name for both together; {} where that of the
            kind of task does.
        problem_type: what transformers calls it; None: it has no name for it.
        assets: what it needs of a pretrained backbone's folder, whatever the records are.
        explained: dotted name of a :data:`~confide.explaining.target.TargetFn`, which says what
            number of its outputs is explained.
        without_subgroups: why its metrics are not told by groups of records, as a clause; unsaid of
            those that are (:data:`~confide.metrics.subgroups.kind.GROUP_KINDS`).
    """

    schema: type[OutcomeConfig]
    outcome: str
    title: str = ""
    pipeline_tags: Mapping[str, str] = field(default_factory=dict)
    problem_type: str | None = None
    assets: tuple[str, ...] = ()
    explained: str
    without_subgroups: str = _NO_PERSON

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Its metrics, by name."""
        return self.schema.metrics


OUTCOMES: dict[str, OutcomeKind] = {
    "classes": OutcomeKind(
        schema=OutcomeConfig,
        outcome="confide.tasks.outcomes.classes.Classes",
        problem_type="single_label_classification",
        explained="confide.explaining.targets.classes.of_classes",
    ),
    "regression": OutcomeKind(
        schema=RegressionConfig,
        outcome="confide.tasks.outcomes.regression.Regression",
        title="Regression",
        pipeline_tags={"tabular": "tabular-regression"},
        problem_type="regression",
        explained="confide.explaining.targets.numbers.of_number",
    ),
    "multi_label": OutcomeKind(
        schema=MultiLabelConfig,
        outcome="confide.tasks.outcomes.multi_label.MultiLabel",
        title="Several labels",
        without_subgroups=(
            "each label has a rate in each group, and a gap between them; learn the one that"
            " matters with outcome=classes"
        ),
        problem_type="multi_label_classification",
        explained="confide.explaining.targets.classes.of_labels",
    ),
    "ordinal": OutcomeKind(
        schema=OrdinalConfig,
        outcome="confide.tasks.outcomes.ordinal.Ordinal",
        title="Labels in order",
        explained="confide.explaining.targets.classes.of_grades",
    ),
    "survival": OutcomeKind(
        schema=SurvivalConfig,
        outcome="confide.tasks.outcomes.survival.Survival",
        title="Survival",
        explained="confide.explaining.targets.numbers.of_survival",
        without_subgroups=(
            "groups are observed for unlike times, so that their errors do not compare without a"
            " model of who is lost"
        ),
    ),
    "forecast": OutcomeKind(
        schema=ForecastConfig,
        outcome="confide.tasks.outcomes.forecast.Forecast",
        title="Forecast",
        explained="confide.explaining.targets.numbers.of_forecast",
        without_subgroups="a window of a series is of nobody's group",
    ),
    "next_item": OutcomeKind(
        schema=NextItemConfig,
        outcome="confide.tasks.outcomes.next_item.NextItem",
        explained="confide.explaining.targets.places.of_next_item",
    ),
    "spans": OutcomeKind(
        schema=SpansConfig,
        outcome="confide.tasks.outcomes.spans.Spans",
        explained="confide.explaining.targets.places.of_spans",
    ),
    "mask": OutcomeKind(
        schema=MaskConfig,
        outcome="confide.tasks.outcomes.mask.Mask",
        title="Segmentation",
        explained="confide.explaining.targets.places.of_mask",
    ),
    "answer": OutcomeKind(
        schema=AnswerConfig,
        outcome="confide.tasks.outcomes.answer.Answer",
        pipeline_tags={"causal_lm": "text-generation"},
        explained="confide.explaining.targets.written.of_tokens",
    ),
    "text": OutcomeKind(
        schema=TextConfig,
        outcome="confide.tasks.outcomes.text.Text",
        pipeline_tags={
            "sequence_to_sequence": "text2text-generation",
            "speech_recognition": "automatic-speech-recognition",
        },
        assets=("tokenizer", "settings"),
        explained="confide.explaining.targets.written.of_tokens",
    ),
    "transcript": OutcomeKind(
        schema=TranscriptConfig,
        outcome="confide.tasks.outcomes.transcript.Transcript",
        pipeline_tags={"speech_recognition": "automatic-speech-recognition"},
        explained="confide.explaining.targets.written.of_words",
    ),
}
"""Kinds of outcome, by name."""

OF_A_RECORD = ("classes", "regression", "multi_label", "ordinal", "survival")
"""Outcomes of a record as a whole: a model gives one row of numbers for it, whatever it is."""
OF_ONE_CLASS = ("classes", "ordinal")
"""Outcomes that are one of several classes, with a probability for each."""

__all__ = ["OF_A_RECORD", "OF_ONE_CLASS", "OUTCOMES", "OutcomeKind"]
