"""What a page and a model card show of a model beside simple predictors."""

from collections.abc import Mapping, Sequence
from typing import Any

from confide.config.tasks.table import known_metrics
from confide.metrics.metric import Metric
from confide.server.report.blocks import Block
from confide.server.report.read import RunFiles
from confide.server.report.render import Cell, PageTable, Row, number

_ALONE = (
    "Simple predictors, such as what is popular or the last value again, are worked out of all"
    " records together, which a simulation has and a federation has not: none stands here beside"
    " the model. Simulate on records like these before the model is relied on."
)
_EXACT = (
    "Simple predictors are worked out of all institutions' training records, exactly and without"
    " privacy: in a federation nobody has these counts, unless institutions' policies let them out."
)


def reference_section(run: RunFiles, evaluation: Mapping[str, Any]) -> Sequence[Block]:
    """Return a table of the model beside simple predictors, and which is better."""
    references = run.summary.get("references", {})
    headers = ["metric", "federated model", *references]
    rows = []
    for name, one in evaluation["metrics"].items():
        ends = one["interval"]
        aside = f"{ends[0]:.3f}–{ends[1]:.3f}" if ends else ""
        others = [Cell(number(scores.get(name))) for scores in references.values()]
        rows.append(Row([Cell(name), Cell(number(one["value"]), aside), *others]))
    return [
        Block(
            paragraphs=["On test records.", *([verdict(run)] if references else [])],
            tables=[PageTable(headers, rows)],
            notes=[_EXACT if references else _ALONE],
        )
    ]


def reference_card(run: RunFiles, evaluation: Mapping[str, Any]) -> Sequence[str]:
    """Return which is better, for the model card."""
    return [f"{verdict(run)} {_EXACT}" if run.summary.get("references") else _ALONE]


def verdict(run: RunFiles) -> str:
    """Say whether the model is better than every simple predictor, by the deciding metric."""
    metric: Metric = known_metrics()[run.metric]
    own = run.summary["federated"].get(run.metric)
    told = {
        name: scores[run.metric]
        for name, scores in run.summary["references"].items()
        if run.metric in scores
    }
    if own is None or not told:
        return f"{run.metric} of the model or of simple predictors is not known."
    choose = max if metric.direction == "max" else min
    best = choose(told, key=lambda name: told[name])
    figures = f"{run.metric} {number(told[best])} against {number(own)}"
    if metric.is_better(own, told[best]):
        return (
            f"The model is better than every simple predictor; the best of these, {best}, has"
            f" {figures}."
        )
    named = f"{best[0].upper()}{best[1:]}"
    return f"{named} wins: {figures} of the model. Use that in place of this model."


__all__ = ["reference_card", "reference_section", "verdict"]
