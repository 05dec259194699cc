"""The figures of one run's report.

Each function takes a run and returns a picture, or None if there is nothing to draw. With few
institutions each has its own row; with many, rows become distributions, so that a page does not
grow with their number.
"""

from collections.abc import Mapping
from typing import Any

import numpy
import pandas
from matplotlib.axes import Axes

from confide.config.spelling import counted
from confide.metrics.metric import noise_name
from confide.pages.figures import (
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
from confide.server.report.marks import (
    NAMED,
    Score,
    band,
    by_round,
    forest,
    heat_map,
    interval_bar,
    name_rows,
    rounds_axis,
    short,
    titled,
)
from confide.server.report.read import RunFiles
from confide.server.report.round_by_round import round_by_round
from confide.server.run.many import LABELS, LOCAL, LOCAL_OWN

_HEAT_ROWS = 40
_TAILS = 0.05


def on_all_records(run: RunFiles) -> Picture | None:
    """Draw the local models, the federated and the pooled one, on pooled test records."""
    federated, metric = run.summary.get("federated", {}), run.metric
    n = federated.get("test_examples")
    # "measured" says that no records were pooled: then there is no common scale
    if not run.local or metric not in federated or "measured" in federated:
        return None
    values = run.values(f"{LOCAL}{metric}")
    reference = [("federated model", federated[metric], FEDERATED)]
    if run.pooled.get(metric) is not None:
        reference.append(("pooled model", run.pooled[metric], POOLED))
    if len(values) > NAMED:
        figure, axes = new_axes(2.6)
        axes.hist(list(values.values()), bins=30, color=ALONE, alpha=0.6, label="local models")
        for label, value, colour in reference:
            axes.axvline(value, color=colour, label=label)
        axes.set(xlabel=metric, ylabel="institutions")
        legend(axes, "best")
    else:
        figure, axes = new_axes(0.9 + 0.27 * (len(values) + 2))
        scores = [Score(short(name), value, ALONE, n) for name, value in values.items()]
        scores += [Score(label, value, colour, n) for label, value, colour in reference]
        forest(axes, scores, metric)
    caption = "Each institution's local model, the federated and the pooled model."
    caption += f" Measured on {counted(n, 'record')}." if n else ""
    caption += " Bars: 95 % intervals (Wilson)." if metric == "accuracy" else ""
    title = f"{titled(metric)} on the test records of all institutions"
    return picture("all", figure, title=title, caption=caption)


def on_own_records(run: RunFiles) -> Picture | None:
    """Draw the federated and the local model of each institution on its own test records."""
    metric = run.metric
    federated = run.values(metric)
    if not federated:
        return None
    own = run.values(f"{LOCAL_OWN}{metric}")
    known = {name: own[name] for name in federated if name in own}
    if len(federated) > NAMED:
        figure, axes = new_axes(2.9)
        _draw_many(axes, federated, known, metric)
    else:
        figure, axes = new_axes(0.9 + 0.27 * len(federated))
        _draw_few(axes, run, federated, known)
    caption = "The federated model on the institution's own test records."
    if known:
        caption = (
            "The federated model (filled) and the local model (hollow) on the institution's own"
            " test records."
        )
    if len(federated) <= NAMED and run.noisy:
        caption += " Bars: 95 % intervals, noise included."
    elif metric == "accuracy" and len(federated) <= NAMED:
        caption += " Bars: 95 % intervals (Wilson)."
    return picture(
        "own",
        figure,
        title=f"{titled(run.metric)} on each institution's own test records",
        caption=caption,
    )


def _draw_few(
    axes: Axes, run: RunFiles, federated: Mapping[str, float], own: Mapping[str, float]
) -> None:
    names = list(federated)[::-1]
    for place, name in enumerate(names):
        support = run.clients[name].get("test_examples")
        noise = run.clients[name].get(noise_name(run.metric))
        score = Score(name, federated[name], FEDERATED, support, noise)
        interval_bar(axes, place, score, run.metric, alpha=0.25)
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
    name_rows(axes, map(short, names))
    axes.set_xlabel(run.metric)


def _draw_many(
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
    # Above the diagonal the federated model is better than the local one
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle="--")
    axes.set(xlabel=f"{metric}, local model", ylabel=f"{metric}, federated model")


def convergence(run: RunFiles) -> list[Picture]:
    """Draw the primary metric and the loss on validation records, round by round."""
    return [
        drawn
        # Once, where the loss is the primary metric
        for name in dict.fromkeys([run.metric, "log_loss"])
        if (
            drawn := round_by_round(
                run.metrics,
                name,
                kept=int(run.summary.get("kept_round", -1)),
                # Of many the lowest and the highest are chance
                tails=_TAILS if run.many else 0.0,
                summed=run.summed,
            )
        )
    ]


def privacy(run: RunFiles) -> Picture | None:
    """Draw the epsilon that each institution has spent, and what it may spend."""
    spent = run.values("epsilon")
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
        axes.axvline(asked, color=INK, linestyle="--", label="bound of this run")
        axes.set(xlabel="epsilon spent in this run", ylabel="institutions")
        legend(axes, "upper left")
    else:
        figure, axes = new_axes(0.9 + 0.27 * len(spent))
        _budgets(axes, spent, lifetime, asked)
    caption = "Solid bar: spent in this run; dashed line: bound of this run."
    if lifetime:
        caption += (
            " Light bar: committed over the population's lifetime; tick: its lifetime budget."
        )
    return picture(
        "privacy", figure, title="Privacy loss (epsilon) spent, and its bound", caption=caption
    )


def privacy_by_round(run: RunFiles) -> Picture | None:
    """Draw the growth of epsilon at the institutions that spent most and least."""
    rows = run.rounds_of("epsilon", "privacy")
    if rows["round"].nunique() < 2:
        return None
    # An epsilon has no support; the mean is not drawn, so any weights will do
    rounds = by_round(rows.assign(num_examples=1))
    figure, axes = new_axes(2.4)
    band(axes, rounds)
    axes.plot(rounds.index, rounds["high"], color=FEDERATED)
    axes.axhline(float(run.config["privacy"]["epsilon"]), color=INK, linestyle="--", linewidth=1.2)
    rounds_axis(axes, rounds.index)
    axes.set(xlabel="rounds done", ylabel="epsilon")
    axes.set_ylim(bottom=0)
    caption = (
        "Line: the institution that has spent most; band: down to the one that has spent least;"
        " dashed line: bound of this run."
    )
    return picture(
        "epsilon", figure, title="Privacy loss (epsilon), round by round", caption=caption
    )


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
    name_rows(axes, map(short, names))
    axes.set_xlim(left=0)
    axes.set_xlabel("epsilon")


def sizes(run: RunFiles) -> Picture | None:
    """Draw the number of training records of each institution."""
    counts = run.values("num_examples")
    if not counts:
        return None
    if len(counts) > NAMED:
        figure, axes = new_axes(2.6)
        bins = min(30, int(max(counts.values()) - min(counts.values())) + 1)
        axes.hist(list(counts.values()), bins=bins, color=FEDERATED, alpha=0.7)
        axes.set(xlabel="training records", ylabel="institutions")
    else:
        figure, axes = new_axes(0.9 + 0.27 * len(counts))
        axes.barh(
            range(len(counts)),
            list(counts.values())[::-1],
            height=0.6,
            color=FEDERATED,
            alpha=0.8,
        )
        axes.set_yticks(range(len(counts)), [short(name) for name in list(counts)[::-1]])
        axes.set_xlabel("training records")
        axes.grid(visible=False, axis="y")
    return picture(
        "sizes",
        figure,
        title="Training records of each institution",
        caption="Numbers as the institutions declared them; updates are weighted by them.",
    )


def labels(run: RunFiles) -> Picture | None:
    """Draw the share of each label at each institution, as a heat map."""
    if (frame := _label_counts(run)).empty:
        return None
    shares = frame.div(frame.sum(axis=1).clip(lower=1), axis=0)
    caption = (
        "Share of each label in an institution's records, test and validation included; known only"
        " in a simulation."
    )
    if len(shares) > NAMED:
        # Institutions with the same commonest label next to each other, so that averages of
        # neighbours do not blur what differs
        order = shares.assign(
            _top=shares.to_numpy().argmax(axis=1), _share=shares.max(axis=1)
        ).sort_values(["_top", "_share"])
        together = max(1, round(len(shares) / _HEAT_ROWS))
        bins = numpy.array_split(shares.loc[order.index].to_numpy(), -(-len(shares) // together))
        rows = pandas.DataFrame([block.mean(axis=0) for block in bins], columns=shares.columns)
        whose = "one institution" if together == 1 else f"the mean of about {together} institutions"
        caption += f" Sorted by the commonest label; each row is {whose}."
    else:
        rows = shares.rename(index=short)
    return picture(
        "labels",
        heat_map(rows, named=len(shares) <= NAMED),
        title="Labels at each institution",
        caption=caption,
    )


def _label_counts(run: RunFiles) -> pandas.DataFrame:
    """Return records by institution and label; empty where only institutions know."""
    if run.many:
        columns = [name for name in run.rows.columns if name.startswith(LABELS)]
        return run.rows[columns].fillna(0).rename(columns=lambda name: name.removeprefix(LABELS))
    counts = {name: line["labels"] for name, line in run.clients.items() if line.get("labels")}
    return pandas.DataFrame.from_dict(counts, orient="index").fillna(0)


__all__ = [
    "convergence",
    "labels",
    "on_all_records",
    "on_own_records",
    "privacy",
    "privacy_by_round",
    "sizes",
]
