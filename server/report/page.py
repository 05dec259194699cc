"""``report.html``: one self-contained page a run."""

from typing import Any

import pandas
import yaml

from confide.server.report import plots, sentences
from confide.server.report.read import RunFiles
from confide.server.report.render import (
    Cell,
    Row,
    Table,
    drawn,
    duration,
    measured,
    number,
    render,
    size,
)

_NO_INTERVALS = (
    "No intervals: of the metrics only accuracy is a proportion, whose support tells how sure"
    " it is."
)
_WILSON = (
    "Small figures: 95 % intervals (Wilson) for the number of test records; they say nothing of"
    " training anew."
)


def report_page(run: RunFiles) -> str:
    """Render a run's report."""
    summary = run.summary
    many = len(run.clients) > plots.NAMED
    private = run.private and bool(run.clients)
    return render(
        "report.html.j2",
        title=title(run),
        job=summary["job"],
        model=summary.get("model_sha256", ""),
        status=summary["status"],
        resumed=summary.get("resumed_after_rounds", []),
        learnt=sentences.learnt(run),
        records=sentences.records(run),
        institutions=sentences.institutions(run),
        guarantee=sentences.guarantee(run),
        outcome=sentences.outcome(run),
        tiles=_tiles(run),
        table=_institutions(run),
        quantiles=_quantiles(run),
        many=many,
        pooled=bool(run.pooled),
        alone=bool(run.local),
        quality=drawn(plots.on_all_records(run), plots.on_own_records(run)),
        intervals=_WILSON if run.metric == "accuracy" else _NO_INTERVALS,
        convergence=plots.convergence(run),
        private=private,
        privacy=drawn(plots.privacy(run), plots.privacy_by_round(run)),
        meaning=sentences.meaning(run) if private else "",
        not_protected=", ".join(summary.get("privacy", {}).get("not_protected", [])),
        data=drawn(plots.sizes(run), plots.labels(run)),
        notes=summary.get("data", {}).get("notes", []),
        cost=drawn(plots.bytes_moved(run), plots.seconds(run)),
        failures=_failures(run),
        command=sentences.reproduce(run),
        again=_again(run),
        config=yaml.safe_dump(dict(run.config), sort_keys=False),
        versions=_versions(run),
    )


def title(run: RunFiles) -> str:
    """Name a report."""
    kind = run.config["task"]["kind"]
    what = {
        "text_classification": "Text classification",
        "tabular": "Classification of a table",
    }.get(kind, kind)
    return f"{what} by {sentences.strategy_name(run.config['strategy'])}"


def _tiles(run: RunFiles) -> list[tuple[str, str]]:
    """Pick the figures that a page begins with."""
    summary, metric = run.summary, run.metric
    federated = summary.get("federated", {})
    spent = [line["epsilon"] for line in run.clients.values() if "epsilon" in line]
    moved = summary.get("bytes", {})
    tiles = [
        (number(federated[metric]), f"{metric}, federated") if metric in federated else None,
        (number(run.pooled[metric]), f"{metric}, pooled") if metric in run.pooled else None,
        (f"{max(spent):.3g}", "epsilon spent, at most") if spent else None,
        (f"{len(run.clients):,}", "institutions") if run.clients else None,
        (str(summary.get("rounds", 0)), "rounds"),
        (size(moved["up"] + moved["down"]), "moved") if moved else None,
        (duration(summary["seconds"]), "wall time") if "seconds" in summary else None,
    ]
    return [tile for tile in tiles if tile is not None]


def _columns(run: RunFiles) -> list[tuple[str, dict[str, float]]]:
    """Return what is told of institutions in numbers: header, and name -> value."""
    metric = run.metric
    own = {name: line.get("own_test", {}) for name, line in run.local.items()}
    columns = [
        ("alone, all", {name: line[metric] for name, line in run.local.items() if metric in line}),
        ("alone, own", {name: line[metric] for name, line in own.items() if metric in line}),
        (
            "federated, own",
            {name: line[metric] for name, line in run.clients.items() if metric in line},
        ),
    ]
    return [(header, values) for header, values in columns if values]


def _institutions(run: RunFiles) -> Table:
    """Tell of every institution."""
    columns, pooled_n = _columns(run), run.summary.get("federated", {}).get("test_examples")
    headers = [
        "institution",
        "training",
        "test",
        *(f"{header} ({run.metric})" for header, _ in columns),
    ]
    headers += [*(["epsilon"] if run.private else []), "rounds"]
    rows = []
    for name, line in run.clients.items():
        support = line.get("test_examples")
        cells = [Cell(name), Cell(f"{line['num_examples']:,}"), Cell(f"{support:,}")]
        for header, values in columns:
            cells.append(
                measured(
                    run.metric, values.get(name), pooled_n if header == "alone, all" else support
                )
            )
        cells += [
            *([Cell(f"{line['epsilon']:.2f}")] if "epsilon" in line else []),
            Cell(str(line["rounds"])),
        ]
        rows.append(Row(cells))
    return Table(headers, rows)


def _quantiles(run: RunFiles) -> Table:
    """Tell of many institutions together."""
    columns = [
        (
            "training records",
            {name: float(line["num_examples"]) for name, line in run.clients.items()},
        ),
        *_columns(run),
    ]
    spent = {name: line["epsilon"] for name, line in run.clients.items() if "epsilon" in line}
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
    return Table(
        ["of institutions", "known of", "lowest", "quarter", "median", "three quarters", "highest"],
        rows,
    )


def _failures(run: RunFiles) -> Table | None:
    found = sentences.failures(run)
    rows = [
        Row([Cell(it.code), Cell(f"{it.times:,}"), Cell(it.meaning), Cell(it.who)]) for it in found
    ]
    return Table(["code", "times", "meaning", "where"], rows, text=(2, 3)) if rows else None


def _again(run: RunFiles) -> str:
    digest = run.summary.get("model_sha256", "")[:12]
    if run.command.get("program") == "server":
        return "Institutions are asked anew, and pay for it anew."
    if not digest:
        return ""
    seeded = run.config["simulation"]["seed"] is not None
    same = (
        f"gives model {digest} again, on the same kind of machine with the same versions and number"
        " of threads"
    )
    if not seeded:
        return (
            "Without simulation.seed everything random is drawn anew: expect another model, about"
            " as good."
        )
    if run.summary.get("privacy", {}).get("noise") == "secure":
        return "Noise is drawn from the operating system: expect another model, about as good."
    return f"It {same}."


def _versions(run: RunFiles) -> Table:
    told: dict[str, Any] = {**run.summary.get("versions", {}), **run.summary.get("engine", {})}
    return Table(
        ["what", "which"],
        [Row([Cell(str(name)), Cell(str(value))]) for name, value in told.items()],
        text=(1,),
    )


__all__ = ["report_page", "title"]
