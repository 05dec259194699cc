"""``report.html``: the self-contained page of one run."""

from collections.abc import Mapping
from typing import Any

import pandas
import yaml

from confide.config.outcomes.table import OUTCOMES
from confide.config.tasks.table import TASKS
from confide.metrics.metric import noise_name
from confide.server.personal.section import personal_part
from confide.server.report import plots, sentences
from confide.server.report.cost_plots import bytes_moved, seconds
from confide.server.report.guarantee import guarantee, meaning
from confide.server.report.marks import NAMED
from confide.server.report.read import RunFiles
from confide.server.report.render import (
    Cell,
    PageTable,
    Row,
    drawn,
    duration,
    measured,
    number,
    render,
    size,
)
from confide.server.report.robust import robust_part
from confide.server.report.sections.audit import audit_section
from confide.server.report.sections.curves import curves_of_columns
from confide.server.report.sections.evaluation import evaluation_blocks
from confide.server.report.sections.inputs import gains
from confide.server.report.sections.lineage import lineage_part
from confide.server.report.virtual_time import in_virtual_time
from confide.server.run.lineage_words import parents_in
from confide.server.run.many import LOCAL, LOCAL_OWN, QUANTILES
from confide.server.run.sums import UNKNOWN, sums_sentences

_SOME = (
    "Where the model is weakest, and the institution with the most records; all {count:,} are in"
    " {file}"
)
_LOCAL_ON_POOLED = "local model, pooled test records"
_FEDERATED_ON_OWN = "federated model, own test records"
_FROM_COUNTS = (
    "Small figures: 95 % intervals that follow from the number of test records; training again with"
    " another seed may differ by more."
)
_NO_INTERVALS = (
    "No intervals are shown: of the metrics only accuracy is a proportion, whose uncertainty"
    " follows from the number of records."
)
_WILSON = (
    "Small figures: 95 % intervals (Wilson) that follow from the number of test records; training"
    " again with another seed may differ by more."
)

_NOISY = (
    "Small figures: 95 % intervals. Institutions released their scores, and how many records they"
    " were measured on, with noise: for a proportion such as accuracy, and where counts by score"
    " are told, the intervals cover noise and number of records, for other metrics noise alone."
)


def report_page(run: RunFiles) -> str:
    """Render the report of a run."""
    summary = run.summary
    # Of a run that failed no institution has a line, and nothing says what it spent
    private = run.private and bool(run.clients)
    return render(
        "report.html.j2",
        title=title(run),
        job=summary["job"],
        model=summary.get("model_sha256", ""),
        status=summary["status"],
        resumed=summary.get("resumed_after_rounds", []),
        purpose=sentences.purpose(run),
        records=sentences.records(run),
        institutions=sentences.institutions(run),
        guarantee=guarantee(run),
        aggregation=" ".join(sums_sentences(summary)),
        outcome=sentences.outcome(run),
        tiles=_tiles(run),
        table=_institutions(run),
        quantiles=_quantiles(run),
        many=run.num_institutions > NAMED,
        shown=_SOME.format(**run.many) if run.many else f"All {len(run.clients)} institutions",
        pooled=bool(run.pooled),
        local=bool(run.local),
        quality=drawn(plots.on_all_records(run), plots.on_own_records(run)),
        intervals=_of_intervals(run),
        evaluation=evaluation_blocks(run),
        curves=drawn(curves_of_columns(run.folder), curves_of_columns(run.folder, 1)),
        convergence=[*plots.convergence(run), *drawn(in_virtual_time(run))],
        inputs=drawn(gains(run)),
        private=private,
        privacy=drawn(plots.privacy(run), plots.privacy_by_round(run)),
        meaning=meaning(run) if private else "",
        scores=summary.get("privacy", {}).get("scores", ""),
        edges=summary.get("privacy", {}).get("edges", ""),
        gram=summary.get("privacy", {}).get("gram", ""),
        not_protected=", ".join(summary.get("privacy", {}).get("not_protected", [])),
        audit=audit_section(run.folder),
        data=drawn(plots.sizes(run), plots.labels(run)),
        notes=summary.get("data", {}).get("notes", []),
        cost=drawn(bytes_moved(run), seconds(run)),
        lineage=lineage_part(run),
        robust=robust_part(run),
        personal=personal_part(run),
        failures=_failures(run),
        command=sentences.reproduce(run),
        again=sentences.repetition(run),
        config=yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True),
        versions=_versions(run),
    )


def _of_intervals(run: RunFiles) -> str:
    """Return what the small figures beside the metric are."""
    if run.summed and not run.local:
        return UNKNOWN
    if run.noisy:
        return _NOISY
    if run.metric == "accuracy":
        return _WILSON
    return _FROM_COUNTS if any(map(run.interval, run.clients)) else _NO_INTERVALS


def title(run: RunFiles) -> str:
    """Return the title of a run's report."""
    name = run.config["task"]["kind"]
    what = TASKS[name].title if name in TASKS else name
    outcome = OUTCOMES[sentences.outcome_config(run.config["task"]).kind].title
    if outcome:
        what = f"{outcome}, {TASKS[name].records if name in TASKS else name}"
    count = run.num_institutions
    return what if count < 2 else f"{what}, trained by {count:,} institutions together"


def _tiles(run: RunFiles) -> list[tuple[str, str]]:
    """Return the figures that a page begins with, each with its meaning."""
    summary, metric = run.summary, run.metric
    federated = summary.get("federated", {})
    spent = run.largest_epsilon
    # A failed run has no model and a shorter summary: every figure may be missing
    claimed = summary.get("lineage", {}).get("claimed")
    before = sum(parent["num_rounds"] for parent in parents_in(summary))
    moved, virtual = summary.get("bytes", {}), summary.get("virtual")
    tiles = [
        (number(federated[metric]), f"{metric}, federated model") if metric in federated else None,
        (number(run.pooled[metric]), f"{metric}, pooled model") if metric in run.pooled else None,
        (f"{spent:.3g}", "largest epsilon spent") if spent is not None else None,
        (f"{run.num_institutions:,}", "institutions") if run.clients else None,
        (f"{claimed['epsilon']:.3g}", "epsilon at most, with earlier runs") if claimed else None,
        (str(summary.get("rounds", 0)), f"rounds, after {before} earlier" if before else "rounds"),
        (size(moved["up"] + moved["down"]), "data transferred") if moved else None,
        (duration(summary["seconds"]), "elapsed time") if "seconds" in summary else None,
        (duration(virtual["seconds"]), "virtual time") if virtual else None,
    ]
    return [tile for tile in tiles if tile is not None]


def _columns(run: RunFiles) -> list[tuple[str, Mapping[str, float]]]:
    """Return the metric's columns of institutions: header, and name -> value."""
    # Missing where an institution's policy keeps it, or it has no test records
    columns = [
        (_LOCAL_ON_POOLED, run.values(f"{LOCAL}{run.metric}")),
        ("local model, own test records", run.values(f"{LOCAL_OWN}{run.metric}")),
        (_FEDERATED_ON_OWN, run.values(run.metric)),
    ]
    return [(header, values) for header, values in columns if values]


def _institutions(run: RunFiles) -> PageTable:
    """Return a table with a row for each institution that the summary names."""
    columns, pooled_n = _columns(run), run.summary.get("federated", {}).get("test_examples")
    # In a masked sum the number of test records is one of all together, as scores are
    headers = ["institution", "training records", *([] if run.summed else ["test records"])]
    headers += [f"{run.metric}, {header}" for header, _ in columns]
    headers += ["epsilon", "rounds"] if run.private else ["rounds"]
    rows = []
    for name, line in run.clients.items():
        support = line.get("test_examples")
        cells = [Cell(name), Cell(f"{line['num_examples']:,}")]
        cells += [] if run.summed else [Cell(f"{support:,}")]
        for header, values in columns:
            # An interval follows from the records that were scored, and these are not its own
            n = pooled_n if header == _LOCAL_ON_POOLED else support
            noise = None
            if header == _FEDERATED_ON_OWN:
                noise = line.get(noise_name(run.metric))
            cell = measured(run.metric, values.get(name), n, noise)
            ends = run.interval(name) if header == _FEDERATED_ON_OWN else None
            cells.append(Cell(cell.text, f"{ends[0]:.2f}–{ends[1]:.2f}") if ends else cell)
        cells += [
            *([Cell(f"{line['epsilon']:.2f}")] if "epsilon" in line else []),
            Cell(str(line["rounds"])),
        ]
        rows.append(Row(cells))
    return PageTable(headers, rows)


def _quantiles(run: RunFiles) -> PageTable:
    """Return a table of quantiles over many institutions."""
    if run.many:
        return _all_quantiles(run)
    counts = run.values("num_examples")
    columns = [("training records", counts), *_columns(run)]
    spent = run.values("epsilon")
    columns += [("epsilon", spent)] if spent else []
    rows = []
    for header, values in columns:
        quantiles = pandas.Series(list(values.values()), dtype=float).quantile(
            [0, 0.25, 0.5, 0.75, 1]
        )
        written = [
            f"{value:,.0f}" if header == "training records" else number(value)
            for value in quantiles
        ]
        rows.append(Row([Cell(header), Cell(f"{len(values):,}"), *map(Cell, written)]))
    headers = ["figure", "institutions", "lowest", "25 %", "median", "75 %", "highest"]
    return PageTable(headers, rows)


def _all_quantiles(run: RunFiles) -> PageTable:
    """Return a table of quantiles of every figure that the summary tells of."""
    metrics = [name for name in run.config["task"]["metrics"] if name != run.metric]
    figures = {
        "num_examples": "training records",
        "test_examples": "test records",
        f"{LOCAL}{run.metric}": f"{run.metric}, {_LOCAL_ON_POOLED}",
        f"{LOCAL_OWN}{run.metric}": f"{run.metric}, local model, own test records",
        **{name: f"{name}, {_FEDERATED_ON_OWN}" for name in (run.metric, *metrics)},
        "epsilon": "epsilon",
        "rounds": "rounds",
    }
    rows = []
    for name, header in figures.items():
        one = run.many["figures"].get(name)
        if one is not None:
            counted = name in ("num_examples", "test_examples", "rounds")
            written = [f"{one[it]:,.0f}" if counted else number(one[it]) for it in QUANTILES]
            rows.append(Row([Cell(header), Cell(f"{one['institutions']:,}"), *map(Cell, written)]))
    return PageTable(["figure", "institutions", *QUANTILES], rows)


def _failures(run: RunFiles) -> PageTable | None:
    rows = [(it.code, f"{it.times:,}", it.meaning, it.who) for it in sentences.failures(run)]
    if not rows:
        return None
    return PageTable.of_texts(["code", "times", "meaning", "where"], rows, text=(2, 3))


def _versions(run: RunFiles) -> PageTable:
    parts: dict[str, Any] = {**run.summary.get("versions", {}), **run.summary.get("engine", {})}
    rows = [(str(name), str(value)) for name, value in parts.items()]
    return PageTable.of_texts(["name", "value"], rows, text=(1,))


__all__ = ["report_page", "title"]
