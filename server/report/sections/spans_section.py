"""What a page and a model card show of the test of a model that finds spans."""

from collections.abc import Mapping, Sequence
from typing import Any

from confide.server.report.blocks import Block
from confide.server.report.read import RunFiles
from confide.server.report.render import Cell, PageTable, Row, number

_HIT = (
    "A predicted span is right where its type, its first and its last word are those of a span that"
    " is there; spans with a word beyond the limit of tokens, or of which the tokenizer makes"
    " nothing, count as missed."
)
_INTERVAL = "Beside recall: its 95 % interval, as if no two spans had to do with each other."
_POOLED = (
    "All test records: hits, predicted spans and spans that are there, summed over"
    " institutions, of which F1 is a ratio; a mean of institutions' F1 is another number."
)
_NOISY = "Institutions released these sums with noise."


def spans_section(run: RunFiles, evaluation: Mapping[str, Any]) -> Sequence[Block]:
    """Return the blocks on spans, from top to bottom."""
    rows = {"all": evaluation["pooled"]} if "pooled" in evaluation else {}
    rows |= evaluation.get("types", {})
    noise = [_NOISY] if evaluation["noisy"] else []
    if not rows:
        return [Block(tables=[_metrics(evaluation)], notes=[_HIT])]
    return [
        Block(
            paragraphs=["Federated model, on the test records of all institutions."],
            tables=[_by_type(rows)],
            notes=[" ".join([_HIT, _POOLED, *(noise or [_INTERVAL])])],
        )
    ]


def spans_card(run: RunFiles, evaluation: Mapping[str, Any]) -> Sequence[str]:
    """Return paragraphs of the model card on spans."""
    told = [_HIT]
    if "pooled" in evaluation:
        pooled = evaluation["pooled"]
        told.append(
            f"On all test records: F1 {number(pooled['f1'])}, precision"
            f" {number(pooled['precision'])}, recall {number(pooled['recall'])}."
            + (f" {_NOISY}" if evaluation["noisy"] else "")
        )
    if "types" in evaluation:
        listed = (
            f"{name} {number(one['f1'])} ({one['gold']:,.0f} spans)"
            for name, one in evaluation["types"].items()
            if one["gold"]
        )
        told.append(f"F1 of each type: {', '.join(listed)}.")
    return told


def _by_type(rows: Mapping[str, Mapping[str, Any]]) -> PageTable:
    headers = ["type", "F1", "precision", "recall", "right", "predicted", "there"]
    made = []
    for name, one in rows.items():
        ends = one.get("recall_interval")
        recall = Cell(number(one["recall"]), f"{ends[0]:.3f}–{ends[1]:.3f}" if ends else "")
        shown = [Cell(name), Cell(number(one["f1"])), Cell(number(one["precision"])), recall]
        counts = (f"{one[key]:,.0f}" for key in ("hits", "predicted", "gold"))
        made.append(Row([*shown, *map(Cell, counts)]))
    return PageTable(headers, made)


def _metrics(evaluation: Mapping[str, Any]) -> PageTable:
    rows = [
        Row([Cell(name), Cell(number(one["value"]))]) for name, one in evaluation["metrics"].items()
    ]
    return PageTable(["metric", "value"], rows)


__all__ = ["spans_card", "spans_section"]
