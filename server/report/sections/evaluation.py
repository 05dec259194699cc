"""The section on a model's test: what a summary's ``evaluation`` says, in figures and sentences.

A kind of evaluation (:data:`confide.metrics.evaluation.DESCRIPTIONS`) has its line in
:data:`SECTIONS` and builds blocks; page and model card know blocks alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confide.server.report.blocks import Block
from confide.server.report.read import RunFiles
from confide.server.report.sections.class_section import class_card, class_section
from confide.server.report.sections.labels_section import (
    multi_label_card,
    multi_label_section,
    ordinal_card,
    ordinal_section,
)
from confide.server.report.sections.reference_section import reference_card, reference_section
from confide.server.report.sections.regression_section import regression_card, regression_section
from confide.server.report.sections.spans_section import spans_card, spans_section
from confide.server.report.sections.subgroups_section import subgroup_blocks, subgroup_card
from confide.server.report.sections.survival_section import survival_card, survival_section
from confide.server.report.sections.transcript_section import transcript_card, transcript_section

SectionFn = Callable[[RunFiles, Mapping[str, Any]], Sequence[Block]]
"""A run and its evaluation -> blocks from top to bottom."""
CardFn = Callable[[RunFiles, Mapping[str, Any]], Sequence[str]]
"""A run and its evaluation -> paragraphs for the model card."""

SECTIONS: dict[str, tuple[SectionFn, CardFn]] = {
    "classes": (class_section, class_card),
    "multi_label": (multi_label_section, multi_label_card),
    "ordinal": (ordinal_section, ordinal_card),
    "regression": (regression_section, regression_card),
    "survival": (survival_section, survival_card),
    "forecast": (reference_section, reference_card),
    "next_item": (reference_section, reference_card),
    "spans": (spans_section, spans_card),
    "transcript": (transcript_section, transcript_card),
}
"""Kind of evaluation -> what shows it on the page, and on the card."""


def evaluation_blocks(run: RunFiles) -> Sequence[Block]:
    """Return what the page shows of a model's test; nothing where a run tells no more."""
    evaluation = run.summary.get("evaluation", {})
    shown = SECTIONS.get(str(evaluation.get("kind")))
    blocks = [] if shown is None else shown[0](run, evaluation)
    return [*blocks, *subgroup_blocks(evaluation)]


def evaluation_card(run: RunFiles) -> Sequence[str]:
    """Return paragraphs of the model card on a model's test."""
    evaluation = run.summary.get("evaluation", {})
    shown = SECTIONS.get(str(evaluation.get("kind")))
    paragraphs = [] if shown is None else shown[1](run, evaluation)
    return [*paragraphs, *subgroup_card(evaluation)]


__all__ = ["SECTIONS", "CardFn", "SectionFn", "evaluation_blocks", "evaluation_card"]
