"""What a page and a model card show of a classification's test."""

from collections.abc import Mapping, Sequence
from typing import Any

from confide.server.report.blocks import Block
from confide.server.report.marks import NAMED
from confide.server.report.read import RunFiles
from confide.server.report.render import Cell, PageTable, Row, drawn, number, plain
from confide.server.report.sections import class_plots, class_sentences
from confide.server.report.sections.tables import with_interval

_ROW = ("flagged", "sensitivity", "specificity", "ppv", "npv")
_ROW_HEADERS = (
    "threshold",
    "at or above it",
    "sensitivity (recall)",
    "specificity",
    "PPV (precision)",
    "NPV",
    "cost a record",
    "net benefit",
)
_ON_CARD = 5


def class_section(run: RunFiles, evaluation: Mapping[str, Any]) -> Sequence[Block]:
    """Return the blocks on a classification, from top to bottom."""
    blocks = [
        Block(
            paragraphs=["Federated model, on test records."],
            tables=[_metrics(evaluation)],
            notes=_of_intervals(evaluation),
        )
    ]
    if "classes" in evaluation:
        blocks.append(_curves(evaluation))
        blocks += [_thresholds(evaluation)] if "thresholds" in evaluation else []
        blocks += [_confusion(evaluation["confusion"])] if evaluation["confusion"] else []
    by_institution = _institutions(evaluation)
    if by_institution is not None:
        blocks.append(by_institution)
    return blocks


def _metrics(evaluation: Mapping[str, Any]) -> PageTable:
    """Return every metric with its interval, those that follow from counts alone too."""
    rows = [Row([Cell(name), with_interval(one, 3)]) for name, one in evaluation["metrics"].items()]
    classes = evaluation.get("classes", {})
    for label, one in list(classes.items())[: class_plots.DRAWN]:
        of = "" if len(classes) == 1 else f", {label}"
        for name in ("average_precision", "brier", "calibration_error"):
            if name not in evaluation["metrics"]:
                rows.append(Row([Cell(f"{name}{of}"), with_interval(one[name], 3)]))
    return PageTable(["metric", "value and 95 % interval"], rows)


def _of_intervals(evaluation: Mapping[str, Any]) -> list[str]:
    lacking = [name for name, one in evaluation["metrics"].items() if not one["interval"]]
    said = [class_sentences.counted(evaluation)] if "classes" in evaluation else []
    if lacking:
        said.append(
            f"No interval for {', '.join(lacking)}: institutions tell no counts that it would"
            " follow from, or none that add up."
        )
    return said


def _curves(evaluation: Mapping[str, Any]) -> Block:
    classes = evaluation["classes"]
    few = dict(list(classes.items())[: class_plots.DRAWN])
    noisy = {name: {**one, "noise": evaluation["noise"]} for name, one in few.items()}
    return Block(
        title="Calibration and ranking",
        paragraphs=[class_sentences.calibrated(name, one) for name, one in noisy.items()],
        pictures=drawn(
            class_plots.calibration_curve(classes),
            class_plots.precision_recall(classes),
            class_plots.roc(classes),
        ),
    )


def _thresholds(evaluation: Mapping[str, Any]) -> Block:
    thresholds, positive = evaluation["thresholds"], evaluation["positive"]
    chosen = chosen_row(thresholds)
    rows = [
        Row(
            [
                Cell(f"{row['threshold']:.3f}"),
                *(with_interval(row[name], 2) for name in _ROW),
                with_interval(row["cost"], 2),
                with_interval(row["net_benefit"], 2),
            ],
            best=row["chosen"],
        )
        for row in thresholds["rows"]
    ]
    return Block(
        title=f"Thresholds: which records are taken for “{positive}”",
        paragraphs=[
            class_sentences.cheapest(thresholds, chosen),
            class_sentences.below(positive, chosen),
            class_sentences.at_or_above(positive, chosen, thresholds),
        ],
        tables=[PageTable(list(_ROW_HEADERS), rows)],
        notes=[
            "Small figures: 95 % intervals. Thresholds are edges of the bins in which records were"
            " counted. Net benefit: those found, less those taken wrongly at the odds of the"
            " threshold, a record (Vickers and Elkin 2006)."
        ],
    )


def chosen_row(thresholds: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the row of the threshold that costs least."""
    row: Mapping[str, Any] = next(row for row in thresholds["rows"] if row["chosen"])
    return row


def _confusion(confusion: Mapping[str, Any]) -> Block:
    tables = []
    if "by_class" in confusion:
        rows = [
            Row(
                [
                    Cell(one["label"]),
                    *(with_interval(one[it], 2) for it in ("recall", "precision")),
                ]
            )
            for one in confusion["by_class"]
        ]
        tables.append(PageTable(["class", "recall", "precision"], rows))
    counts = confusion.get("counts")
    return Block(
        title="Confusion at the likeliest class",
        pictures=drawn(class_plots.confusion(confusion["labels"], counts) if counts else None),
        tables=tables,
    )


def _institutions(evaluation: Mapping[str, Any]) -> Block | None:
    """Return every metric at each institution, and what the chosen threshold does there."""
    clients = {name: one for name, one in evaluation["clients"].items() if one["metrics"]}
    if not clients:
        return None
    metrics = list(dict.fromkeys(name for one in clients.values() for name in one["metrics"]))
    at = any("at_threshold" in one for one in clients.values())
    rows = []
    for name, one in clients.items():
        row = one.get("at_threshold", {})
        cells = [with_interval(one["metrics"].get(it), 2) for it in metrics]
        if at:
            cells += [with_interval(row.get(it), 2) for it in ("sensitivity", "specificity", "ppv")]
        rows.append(Row([Cell(name), *cells]))
    headers = ["institution", *metrics]
    if at:
        chosen = evaluation["thresholds"]["chosen"]
        headers += [f"{it} at {chosen:.3f}" for it in ("sensitivity", "specificity", "PPV")]
    table = PageTable(headers, rows)
    return Block(
        title="At each institution, on its own test records",
        tables=[table] if len(rows) <= NAMED else [],
        notes=["Small figures: 95 % intervals."]
        if len(rows) <= NAMED
        else [f"summary.json has the figures of all {len(rows):,} institutions."],
    )


def class_card(run: RunFiles, evaluation: Mapping[str, Any]) -> Sequence[str]:
    """Return the model card's paragraphs: calibration, and the table of thresholds in short."""
    if "classes" not in evaluation:
        return []
    few = list(evaluation["classes"].items())[: class_plots.DRAWN]
    said = [
        class_sentences.calibrated(name, {**one, "noise": evaluation["noise"]}) for name, one in few
    ]
    said.append(class_sentences.counted(evaluation))
    if "thresholds" not in evaluation:
        return [plain(paragraph) for paragraph in said]
    thresholds, positive = evaluation["thresholds"], evaluation["positive"]
    chosen = chosen_row(thresholds)
    said.append(class_sentences.cheapest(thresholds, chosen))
    others = [row for row in thresholds["rows"] if not row["chosen"]]
    step = max(1, -(-len(others) // (_ON_CARD - 1)))
    shown = sorted([chosen, *others[step // 2 :: step]], key=lambda row: row["threshold"])
    headers = (
        f"taken for {plain(positive)} at",
        "share taken",
        "sensitivity",
        "specificity",
        "PPV",
        "cost a record",
    )
    lines = [f"| {' | '.join(headers)} |", "|---" * len(headers) + "|"]
    for row in shown:
        cells = [number(row[it]["value"]) for it in (*_ROW[:4], "cost")]
        lines.append(f"| {row['threshold']:.3f} | {' | '.join(cells)} |")
    return [*map(plain, said), "\n".join(lines)]


__all__ = ["chosen_row", "class_card", "class_section"]
