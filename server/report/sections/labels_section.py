"""What a page and a model card show of several labels a record, and of labels in order."""

from collections.abc import Mapping, Sequence
from typing import Any

from confide.server.report.blocks import Block
from confide.server.report.read import RunFiles
from confide.server.report.render import Cell, PageTable, Row, drawn, number, plain
from confide.server.report.sections import class_plots
from confide.server.report.sections.class_sentences import percent_within
from confide.server.report.sections.tables import (
    counted,
    institutions_block,
    metrics_block,
    with_interval,
)

_FIGURES = ("share", "precision", "recall", "f1", "average_precision", "auc")
_MOST_SHOWN = 60
_ON_CARD = 12


def multi_label_section(run: RunFiles, evaluation: Mapping[str, Any]) -> Sequence[Block]:
    """Return the blocks on several labels, from top to bottom."""
    blocks = [metrics_block(evaluation)]
    labels = evaluation.get("labels", [])
    if labels:
        blocks.append(
            Block(
                title="Each label",
                tables=[labels_table(labels[:_MOST_SHOWN])],
                notes=[_of_labels(labels)],
            )
        )
    institutions = institutions_block(evaluation)
    return [*blocks, *([institutions] if institutions else [])]


def labels_table(labels: Sequence[Mapping[str, Any]]) -> PageTable:
    """Return the table of labels."""
    rows = [
        Row(
            [
                Cell(one["label"]),
                Cell("–" if one["records"] is None else f"{one['records']:,.0f}"),
                *(with_interval(one[name], 2) for name in _FIGURES),
            ]
        )
        for one in labels
    ]
    headers = ["label", "records", "share", "precision", "recall", "F1", "average precision", "AUC"]
    return PageTable(headers, rows)


def _of_labels(labels: Sequence[Mapping[str, Any]]) -> str:
    words = (
        "Small figures: 95 % intervals. Precision, recall and F1 are of labels that the model finds"
        " likelier than not; average precision and AUC of all thresholds, from bins of scores. –:"
        " too few records, or too few that the label is predicted for, to be told."
    )
    more = len(labels) - _MOST_SHOWN
    return words + (f" summary.json has {more} more labels." if more > 0 else "")


def multi_label_card(run: RunFiles, evaluation: Mapping[str, Any]) -> Sequence[str]:
    """Return the model card's table of labels, in short."""
    labels = evaluation.get("labels", [])
    if not labels:
        return []
    headers = ("label", "share", "precision", "recall", "F1", "average precision")
    lines = [f"| {' | '.join(headers)} |", "|---" * len(headers) + "|"]
    for one in labels[:_ON_CARD]:
        cells = [number(one[name]["value"]) for name in _FIGURES[:5]]
        lines.append(f"| {plain(one['label'])} | {' | '.join(cells)} |")
    return [plain(counted(evaluation)), "\n".join(lines)]


def ordinal_section(run: RunFiles, evaluation: Mapping[str, Any]) -> Sequence[Block]:
    """Return the blocks on labels in order, from top to bottom."""
    blocks = [metrics_block(evaluation)]
    confusion = evaluation.get("confusion")
    if confusion:
        tables = []
        if "by_label" in evaluation:
            rows = [
                Row([Cell(one["label"]), *(with_interval(one[it], 2) for it in _OF_LABEL)])
                for one in evaluation["by_label"]
            ]
            tables.append(PageTable(["label", *_OF_LABEL], rows))
        blocks.append(
            Block(
                title="Confusion at the median label",
                pictures=drawn(
                    class_plots.confusion(
                        confusion["labels"], confusion["counts"], confusion["predicted"]
                    )
                ),
                tables=tables,
            )
        )
    if "steps" in evaluation:
        rows = [
            Row([Cell(str(one["steps"])), Cell(percent_within(one["share"]))])
            for one in evaluation["steps"]
        ]
        table = PageTable(["steps off", "share of the records (95 % interval)"], rows)
        blocks.append(Block(title="How many steps off predictions are", tables=[table]))
    institutions = institutions_block(evaluation)
    return [*blocks, *([institutions] if institutions else [])]


_OF_LABEL = ("recall", "precision")


def ordinal_card(run: RunFiles, evaluation: Mapping[str, Any]) -> Sequence[str]:
    """Return the model card's paragraph: how many steps predictions are off."""
    if "steps" not in evaluation:
        return []
    shares = "; ".join(
        f"{one['steps']}: {percent_within(one['share'])}" for one in evaluation["steps"]
    )
    return [
        plain(f"Steps off, and the share of the records: {shares}."),
        plain(counted(evaluation)),
    ]


__all__ = [
    "labels_table",
    "multi_label_card",
    "multi_label_section",
    "ordinal_card",
    "ordinal_section",
]
