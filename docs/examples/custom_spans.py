"""A task of your own on texts: what a marked span is, "[[aspirin]] was given" -> drug.

The encoder reads the whole text, and the mean of the span's own token vectors is classified. Its
YAML, conf/task/spans.yaml:

    kind: text_classification
    _target_: custom_spans.MarkedSpans
    text_column: sentence
    label_column: kind
    labels: [disease, drug, person, place]

confide simulate task=spans data.path=spans.csv data.public=true backbone=minilm privacy.epsilon=8
"""

from collections.abc import Sequence
from typing import Any

import numpy
from datasets import Dataset

from confide.config.tasks.text_classification import TextClassificationConfig
from confide.tasks.task import Examples
from confide.tasks.text_classification import TextClassification


class MarkedSpans(TextClassification):
    """Texts with one span between ``[[`` and ``]]`` each."""

    def __init__(self, config: TextClassificationConfig, *, tokenizer: Any) -> None:
        super().__init__(config, tokenizer=tokenizer)
        self.column = config.text_column
        self.opens, self.closes = tokenizer.convert_tokens_to_ids(["[", "]"])

    def own_problems(self, records: Dataset) -> list[str]:
        """List what records lack beyond what the schema says."""
        lacking = sum(
            not 0 <= text.find("[[") < text.find("]]") - 2 for text in records[self.column]
        )
        return [f"Column {self.column}: {lacking} texts without a [[span]]."] * (lacking > 0)

    def invent_columns(
        self, count: int, generator: numpy.random.Generator
    ) -> dict[str, Sequence[object]]:
        """Invent records for checks that must not touch real ones."""
        columns = super().invent_columns(count, generator)
        return {name: [f"a [[span]] {text}" for text in texts] for name, texts in columns.items()}

    def encode(self, records: Dataset) -> Examples:
        """Add which tokens are the span's: 1 in a column that the model averages over."""
        examples = super().encode(records)
        ids = examples.columns["input_ids"]
        opens, closes = ids == self.opens, ids == self.closes
        # Two brackets in a row: a single one may stand in a text.
        begun = (opens & opens.roll(1, dims=1)).cumsum(dim=1) > 0
        ended = (closes & closes.roll(-1, dims=1)).cumsum(dim=1) > 0
        return examples.with_tokens("pooled_tokens", (begun & ~ended & ~opens).long())
