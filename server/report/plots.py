"""The figures of one run's report.

Each takes a run and returns a picture, or None where there is nothing to draw.

With few institutions each has its own row; with many, rows become distributions: a page stays as
long as a person reads.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from confide.server.report.figures import (
    ALONE,
    FEDERATED,
    INK,
    MUTED,
    POOLED,
    Picture,
    legend,
    new_axes,
    picture,
)
from confide.server.report.intervals import interval
from confide.server.report.read import RunFiles

NAMED = 40
"""Up to so many institutions have a row each."""
_LONGEST_NAME = 22
_HEAT_ROWS = 40


def short(name: str) -> str:
    """Cut a long name for a plot's margin."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def titled(metric: str) -> str:
    """Write a metric's name at the beginning of a title."""
    return metric[0].upper() + metric[1:].replace("_", " ")


def on_all_records(run: RunFiles) -> Picture | None:
    """Draw each institution's own model, the federated and the pooled one, on everybody's test records."""
    federated, metric = run.summary.get("federated", {}), run.metric
    n = federated.get("test_examples")
    if not run.local or metric not in federated or "measured" in federated:
        return None
    values = {name: line[metric] for name, line in run.local.items() if metric in line}
    title = f"{titled(metric)} on everybody's test records"
    reference = [
        ("federated", federated[metric], FEDERATED),
        ("pooled", run.pooled.get(metric), POOLED),
    ]
    if len(values) > NAMED:
        figure, axes = new_axes(2.6)
        axes.hist(list(values.values()), bins=30, color=ALONE, alpha=0.6, label="alone")
        for label, value, colour in reference:
            if value is not None:
                axes.axvline(value, color=colour, label=label)
        axes.set(xlabel=metric, ylabel="institutions")
        legend(axes, "best")
    else:
        figure, axes = new_axes(0.9 + 0.27 * (len(values) + 2))
        rows = [(short(name), value, ALONE) for name, value in values.items()]
        rows += [(label, value, colour) for label, value, colour in reference if value is not None]
        _forest(axes, rows, metric, n)
    caption = f"Models that institutions trained alone, and together. {_support(metric, n)}"
    return picture("all", figure, title=title, caption=caption)


def _support(metric: str, n: int | None) -> str:
    said = f"Measured on {n} records." if n else ""
    return f"{said} Bars: 95 % intervals (Wilson)." if metric == "accuracy" else said


def _forest(axes: Axes, rows: Sequence[tuple[str, float, str]], metric: str, n: int | None) -> None:
    """Draw one row a model: its value, and how sure it is."""
    for place, (_, value, colour) in enumerate(reversed(rows)):
        ends = interval(metric, value, n)
        if ends:
            axes.plot(
                ends, [place, place], color=colour, linewidth=5, alpha=0.3, solid_capstyle="butt"
            )
        axes.plot([value], [place], "o", color=colour, markersize=6)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(metric)
    axes.grid(visible=False, axis="y")


def on_own_records(run: RunFiles) -> Picture | None:
    """Draw how the federated model does on each institution's own test records, and its own model beside it."""
    metric = run.metric
    federated = {name: line[metric] for name, line in run.clients.items() if metric in line}
    if not federated:
        return None
    own = {name: run.local.get(name, {}).get("own_test", {}).get(metric) for name in federated}
    known = {name: value for name, value in own.items() if value is not None}
    if len(federated) > NAMED:
        figure, axes = new_axes(2.9)
        _scatter(axes, federated, known, metric)
    else:
        figure, axes = new_axes(0.9 + 0.27 * len(federated))
        _dumbbells(axes, run, federated, known)
    caption = (
        f"The model learnt together{' and, hollow, its own' if known else ''}, on the institution's"
        " own test records."
    )
    if metric == "accuracy" and len(federated) <= NAMED:
        caption += " Bars: 95 % intervals (Wilson)."
    return picture(
        "own",
        figure,
        title=f"{titled(run.metric)} on each institution's own test records",
        caption=caption,
    )


def _dumbbells(
    axes: Axes, run: RunFiles, federated: Mapping[str, float], own: Mapping[str, float]
) -> None:
    names = list(federated)[::-1]
    for place, name in enumerate(names):
        ends = interval(run.metric, federated[name], run.clients[name].get("test_examples"))
        if ends:
            axes.plot(
                ends,
                [place, place],
                color=FEDERATED,
                linewidth=5,
                alpha=0.25,
                solid_capstyle="butt",
            )
        if name in own:
            axes.plot(
                [own[name]],
                [place],
                "o",
                color=ALONE,
                markersize=6,
                markerfacecolor="none",
                markeredgewidth=1.8,
            )
        axes.plot([federated[name]], [place], "o", color=FEDERATED, markersize=6)
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(run.metric)
    axes.grid(visible=False, axis="y")


def _scatter(
    axes: Axes, federated: Mapping[str, float], own: Mapping[str, float], metric: str
) -> None:
    if not own:
        axes.hist(list(federated.values()), bins=30, color=FEDERATED, alpha=0.7)
        axes.set(xlabel=metric, ylabel="institutions")
        return
    axes.plot(
        list(own.values()),
        [federated[name] for name in own],
        ".",
        color=FEDERATED,
        alpha=0.5,
        rasterized=False,
    )
    low, high = axes.get_xlim()
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle="--")
    axes.set(xlabel=f"{metric}, its own model", ylabel=f"{metric}, federated")


def convergence(run: RunFiles) -> list[Picture]:
    """Draw validation metrics a round.

    The mean over institutions, weighted by support, and their range.
    """
    names = list(dict.fromkeys([run.metric, "log_loss"]))
    return [drawn for name in names if (drawn := _convergence(run, name)) is not None]


def by_round(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Return ``mean`` (weighted by support), ``low`` and ``high`` over institutions, indexed by round."""
    weighted = rows.assign(weighted=rows["value"] * rows["num_examples"])
    grouped = weighted.groupby("round")
    mean = grouped["weighted"].sum() / grouped["num_examples"].sum()
    return pandas.DataFrame(
        {"mean": mean, "low": grouped["value"].min(), "high": grouped["value"].max()}
    )


def _convergence(run: RunFiles, name: str) -> Picture | None:
    rows = run.rounds_of(name, "validation")
    if rows.empty:
        return None
    rounds = by_round(rows)
    figure, axes = new_axes(2.7)
    axes.fill_between(
        rounds.index, rounds["low"], rounds["high"], color=FEDERATED, alpha=0.13, linewidth=0
    )
    axes.plot(rounds.index, rounds["mean"], color=FEDERATED, marker="o" if len(rounds) == 1 else "")
    kept = int(run.summary.get("kept_round", -1))
    if kept in rounds.index:
        axes.plot([kept], [float(rounds["mean"][kept])], "o", color=FEDERATED, markersize=7)
    axes.set(xlabel="rounds done", ylabel=name)
    _rounds_axis(axes, rounds.index)
    caption = (
        "Mean over institutions' validation records, by support; the band spans lowest and highest"
        " institution."
    )
    if kept in rounds.index:
        caption += f" Dot: the model that was kept (round {kept})."
    return picture(
        f"convergence-{name}",
        figure,
        title=f"Validation {name.replace('_', ' ')}, round by round",
        caption=caption,
    )


def privacy(run: RunFiles) -> Picture | None:
    """Draw what each institution spent against what it may spend."""
    spent = {name: line["epsilon"] for name, line in run.clients.items() if "epsilon" in line}
    if not spent:
        return None
    asked = float(run.config["privacy"]["epsilon"])
    lifetime = {name: line["budget"] for name, line in run.clients.items() if "budget" in line}
    if len(spent) > NAMED:
        figure, axes = new_axes(2.6)
        axes.hist(
            list(spent.values()),
            bins=[float(edge) for edge in numpy.linspace(0, max(asked, *spent.values()), 31)],
            color=FEDERATED,
            alpha=0.7,
        )
        axes.axvline(asked, color=INK, linestyle="--", label="asked for")
        axes.set(xlabel="epsilon spent in this run", ylabel="institutions")
        legend(axes, "upper left")
    else:
        figure, axes = new_axes(0.9 + 0.27 * len(spent))
        _budgets(axes, spent, lifetime, asked)
    caption = "Solid: spent in this run. Dashed line: what this run may spend."
    if lifetime:
        caption += " Light: committed over the population's lifetime; tick: its lifetime budget."
    return picture("privacy", figure, title="Privacy spent against budget", caption=caption)


def privacy_by_round(run: RunFiles) -> Picture | None:
    """Draw how epsilon grew: the institution that spent most, and the one that spent least."""
    rows = run.rounds_of("epsilon", "privacy")
    if rows["round"].nunique() < 2:
        return None
    rounds = by_round(rows.assign(num_examples=1))
    figure, axes = new_axes(2.4)
    axes.fill_between(
        rounds.index, rounds["low"], rounds["high"], color=FEDERATED, alpha=0.13, linewidth=0
    )
    axes.plot(rounds.index, rounds["high"], color=FEDERATED)
    axes.axhline(float(run.config["privacy"]["epsilon"]), color=INK, linestyle="--", linewidth=1.2)
    _rounds_axis(axes, rounds.index)
    axes.set(xlabel="rounds done", ylabel="epsilon")
    axes.set_ylim(bottom=0)
    caption = (
        "Line: the institution that has spent most; band: down to the one that has spent least;"
        " dashed: the bound."
    )
    return picture("epsilon", figure, title="Epsilon, round by round", caption=caption)


def _rounds_axis(axes: Axes, rounds: Sequence[int]) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(rounds) > 1:
        axes.set_xlim(min(rounds), max(rounds) + 0.02 * (max(rounds) - min(rounds)))


def _budgets(
    axes: Axes, spent: Mapping[str, float], lifetime: Mapping[str, Any], asked: float
) -> None:
    names = list(spent)[::-1]
    for place, name in enumerate(names):
        if name in lifetime:
            axes.barh(place, lifetime[name]["committed"], height=0.62, color=FEDERATED, alpha=0.25)
            axes.plot(
                [lifetime[name]["epsilon"]],
                [place],
                "|",
                color=INK,
                markersize=13,
                markeredgewidth=2,
            )
        axes.barh(place, spent[name], height=0.36, color=FEDERATED)
    axes.axvline(asked, color=INK, linestyle="--", linewidth=1.2)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set_xlim(left=0)
    axes.set_xlabel("epsilon")
    axes.grid(visible=False, axis="y")


def sizes(run: RunFiles) -> Picture | None:
    """Draw how many training records each institution has."""
    counts = {name: line["num_examples"] for name, line in run.clients.items()}
    if not counts:
        return None
    if len(counts) > NAMED:
        figure, axes = new_axes(2.6)
        bins = min(30, max(counts.values()) - min(counts.values()) + 1)
        axes.hist(list(counts.values()), bins=bins, color=FEDERATED, alpha=0.7)
        axes.set(xlabel="training records", ylabel="institutions")
    else:
        figure, axes = new_axes(0.9 + 0.27 * len(counts))
        axes.barh(
            range(len(counts)),
            list(reversed(counts.values())),
            height=0.6,
            color=FEDERATED,
            alpha=0.8,
        )
        axes.set_yticks(range(len(counts)), [short(name) for name in reversed(counts)])
        axes.set_xlabel("training records")
        axes.grid(visible=False, axis="y")
    return picture(
        "sizes",
        figure,
        title="Training records of each institution",
        caption="As each declared them; they weigh its updates.",
    )


def labels(run: RunFiles) -> Picture | None:
    """Draw the share of each label at each institution, as a heat map."""
    counts = {name: line["labels"] for name, line in run.clients.items() if line.get("labels")}
    if not counts:
        return None
    frame = pandas.DataFrame.from_dict(counts, orient="index").fillna(0)
    shares = frame.div(frame.sum(axis=1).clip(lower=1), axis=0)
    caption = (
        "Share of each label in an institution's records, test and validation included; only a"
        " simulation knows."
    )
    if len(shares) > NAMED:
        order = shares.assign(
            _top=shares.to_numpy().argmax(axis=1), _share=shares.max(axis=1)
        ).sort_values(["_top", "_share"])
        together = max(1, round(len(shares) / _HEAT_ROWS))
        bins = numpy.array_split(shares.loc[order.index].to_numpy(), -(-len(shares) // together))
        rows = pandas.DataFrame([block.mean(axis=0) for block in bins], columns=shares.columns)
        whose = "one institution" if together == 1 else f"the mean of about {together} institutions"
        caption += f" Sorted by commonest label; a row is {whose}."
    else:
        rows = shares.rename(index=short)
    return picture(
        "labels",
        _heat_map(rows, named=len(shares) <= NAMED),
        title="Labels at each institution",
        caption=caption,
    )


def _heat_map(rows: pandas.DataFrame, *, named: bool) -> Any:
    figure, axes = new_axes(0.8 + (0.27 if named else 0.075) * len(rows))
    values = rows.to_numpy()
    for (place, column), value in numpy.ndenumerate(values[::-1]):
        axes.fill_between(
            [column - 0.5, column + 0.5],
            place - 0.5,
            place + 0.5,
            color=FEDERATED,
            alpha=0.75 * float(value),
            linewidth=0,
        )
        if named and values.shape[1] <= 8:
            axes.text(
                column, place, f"{value:.0%}", ha="center", va="center", fontsize=9.5, color=INK
            )
    axes.set_xticks(range(values.shape[1]), [short(str(name)) for name in rows.columns])
    axes.set_yticks(range(len(rows)) if named else [], list(reversed(rows.index)) if named else [])
    axes.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(-0.5, len(rows) - 0.5))
    axes.grid(visible=False)
    return figure


def bytes_moved(run: RunFiles) -> Picture | None:
    """Draw the bytes of each round, up and down."""
    up, down = (
        run.rounds_of(f"bytes_{way}", "train").set_index("round")["value"] for way in ("up", "down")
    )
    if up.empty:
        return None
    unit, factor = next(
        (u, f)
        for u, f in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("B", 1))
        if max(up.max(), down.max()) >= f or f == 1
    )
    figure, axes = new_axes(2.4)
    axes.plot(down.index, down / factor, color=MUTED, linestyle="--", label="down: model")
    axes.plot(up.index, up / factor, color=FEDERATED, label="up: updates")
    axes.set(xlabel="round", ylabel=unit)
    axes.set_ylim(bottom=0)
    _rounds_axis(axes, up.index)
    legend(axes, "lower right")
    return picture(
        "bytes",
        figure,
        title="Bytes moved, round by round",
        caption="Tensors alone, all institutions together.",
    )


def seconds(run: RunFiles) -> Picture | None:
    """Draw the seconds of each phase."""
    phases = {name: value for name, value in run.summary.get("phases", {}).items() if value}
    if not phases:
        return None
    figure, axes = new_axes(0.8 + 0.3 * len(phases))
    names = list(reversed(phases))
    bars = axes.barh(
        range(len(names)), [phases[name] for name in names], height=0.55, color=FEDERATED, alpha=0.8
    )
    axes.bar_label(bars, fmt="%.1f s", padding=4, color=INK)
    axes.set_yticks(range(len(names)), names)
    axes.margins(x=0.16)
    axes.set_xlabel("seconds")
    axes.grid(visible=False, axis="y")
    return picture(
        "seconds",
        figure,
        title="Time in each phase",
        caption="Wall time, earlier processes of a resumed run included.",
    )


__all__ = [
    "NAMED",
    "by_round",
    "bytes_moved",
    "convergence",
    "labels",
    "on_all_records",
    "on_own_records",
    "privacy",
    "privacy_by_round",
    "seconds",
    "short",
    "sizes",
    "titled",
]
