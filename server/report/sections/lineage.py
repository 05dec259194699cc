"""Where a model comes from: the runs before its own, and how it compares with the last one's."""

from collections.abc import Sequence
from dataclasses import dataclass

from confide.metrics.metric import noise_name
from confide.server.report.read import RunFiles
from confide.server.report.render import Cell, PageTable, Row, measured
from confide.server.run.going_on import BEFORE, NEW
from confide.server.run.lineage_words import (
    RECORDS,
    cost_of,
    lineage_sentences,
    parents_in,
    release_sentences,
)

_CLAIMED = (
    "Hashes and budgets of earlier runs are what the coordinator read in their files; institutions"
    " cannot check a run that they took no part in. Small figures: 95 % intervals."
)


@dataclass(frozen=True, kw_only=True)
class LineagePart:
    """The part of a report on the model's origin.

    Attributes:
        sentences: from which model it went on, what that costs together, what was released.
        parents: a row for each earlier run, the oldest first.
        scores: a row for each sort of test records; None where nothing was compared.
        note: what the figures rest on.
    """

    sentences: Sequence[str]
    parents: PageTable
    scores: PageTable | None
    note: str


def lineage_part(run: RunFiles) -> LineagePart | None:
    """Return what a report says of earlier runs; None where the run started from no other's."""
    parents = parents_in(run.summary)
    if not parents:
        return None
    rows = [
        (one["job"], one["model_sha256"][:16], one["plan_sha256"][:16], cost_of(one))
        for one in parents
    ]
    return LineagePart(
        sentences=[*lineage_sentences(run.summary), *release_sentences(run.summary)],
        parents=PageTable.of_texts(["job", "model", "plan", "claims"], rows, text=(1, 2, 3)),
        scores=_scores(run),
        note=_CLAIMED,
    )


def _scores(run: RunFiles) -> PageTable | None:
    found = run.summary.get("release")
    if not found:
        return None
    metric, scores, rows = found["metric"], found["scores"], []
    for name, words in RECORDS.items():
        models = [scores[which].get(name, {}) for which in (BEFORE, NEW)]
        if not any(metric in one for one in models):
            continue
        cells = [
            measured(metric, one.get(metric), one.get("num_examples"), one.get(noise_name(metric)))
            for one in models
        ]
        support = max(round(one.get("num_examples", 0)) for one in models)
        rows.append(Row([Cell(words), Cell(f"{support:,}"), *cells]))
    headers = ["", "records", f"{metric}, model before", f"{metric}, new model"]
    return PageTable(headers, rows) if rows else None


__all__ = ["LineagePart", "lineage_part"]
