"""What a page and a model card show of a model's test by groups of records: rates, and gaps."""

from collections.abc import Mapping, Sequence
from typing import Any

from confide.pages.figures import FEDERATED, MUTED, Picture, new_axes, picture
from confide.server.report.blocks import Block
from confide.server.report.marks import short
from confide.server.report.render import Cell, PageTable, Row, drawn, number, plain
from confide.server.report.sections.class_sentences import within
from confide.server.report.sections.tables import with_interval

_SHOWN = {
    "accuracy": "accuracy",
    "selection_rate": "selection rate",
    "recall": "recall",
    "false_positive_rate": "false positive rate",
    "prevalence": "prevalence",
    "auc": "AUC",
    "calibration": "calibration",
    "mean_error": "mean error",
    "mae": "MAE",
    "macro_f1": "macro F1",
}
"""Measure -> header of its column, in their order; summary.json has the others."""
_MEANINGS = {
    "selection_rate": "selection rate, the share of records that are predicted {it}",
    "recall": "recall (true positive rate), of those that are {it}, the share predicted so",
    "false_positive_rate": "false positive rate, of those that are not, the share predicted {it}",
    "prevalence": "prevalence, the share that are {it}",
    "calibration": "calibration, the prevalence less the mean predicted probability",
    "mean_error": "mean error, predicted less actual",
}
"""Measure -> what it is, for a legend."""
_DRAWN = ("accuracy", "selection_rate", "recall", "false_positive_rate")
_MOST_ROWS, _MOST_SAID = 32, 4
_GAPS_ON_CARD = (
    "accuracy",
    "selection_rate",
    "recall",
    "false_positive_rate",
    "mae",
    "mean_error",
)


def subgroup_blocks(evaluation: Mapping[str, Any]) -> Sequence[Block]:
    """Return the blocks on groups of records; none of a run that declared none."""
    told = evaluation.get("subgroups")
    if told is None:
        return []
    blocks = [_block(name, column, told) for name, column in told["columns"].items()]
    if told["institutions"]:
        blocks.append(
            Block(
                title="Gaps between institutions",
                paragraphs=[_beyond_chance(told["institutions"])],
                tables=[_gap_table(told["institutions"])],
            )
        )
    if blocks and told["columns"]:
        blocks[-1] = _with_notes(blocks[-1], told)
        return blocks
    return [
        Block(
            title="By groups of records",
            paragraphs=[_nothing(told)],
        ),
        *blocks,
    ]


def _nothing(told: Mapping[str, Any]) -> str:
    return (
        "Groups were declared (task.subgroups), and of none is anything told: policies let no sums"
        f" by group out, or no group has {told['floor']} test records (report.least_in_group)."
    )


def _block(name: str, column: Mapping[str, Any], told: Mapping[str, Any]) -> Block:
    groups = column["groups"]
    return Block(
        title=f"By {name}",
        paragraphs=[
            said
            for said in (
                _beyond_chance(column["gaps"]),
                _ratio(column, told),
                _untold(column, told),
                _legend(groups, told),
            )
            if said
        ],
        pictures=drawn(_picture(name, groups, told)),
        tables=[_table(groups), *([_gap_table(column["gaps"])] if column["gaps"] else [])],
    )


def _with_notes(block: Block, told: Mapping[str, Any]) -> Block:
    notes = [
        "Small figures: 95 % intervals, and the number of institutions that tell a group; those"
        " where it has fewer records than their policy asks for are not in it. A gap is the largest"
        " difference of two groups; its interval allows for all pairs that were compared."
        " Groups are few of the test records: what chance may explain may be there all the"
        " same.",
        *([_noise(told)] if told["noise"] else []),
    ]
    return Block(
        title=block.title,
        paragraphs=block.paragraphs,
        pictures=block.pictures,
        tables=block.tables,
        notes=[*block.notes, *notes],
    )


def _noise(told: Mapping[str, Any]) -> str:
    return (
        "Institutions released sums by group with noise, in the release of the metrics of all, of a"
        f" standard deviation of up to {told['noise']:.3g} records in each; intervals cover it."
    )


def _table(groups: Sequence[Mapping[str, Any]]) -> PageTable:
    keys = _columns(groups)
    rows = [
        Row(
            [
                Cell(one["group"]),
                Cell(f"{one['records']['value']:,.0f}", f"at {one['institutions']}"),
                *(with_interval(one["measures"].get(key), 2) for key in keys),
            ]
        )
        for one in groups[:_MOST_ROWS]
    ]
    return PageTable(["group", "test records", *map(_header, keys)], rows)


def _legend(groups: Sequence[Mapping[str, Any]], told: Mapping[str, Any]) -> str:
    """Say what the columns of a table are; "" where each says it itself."""
    shown = dict.fromkeys(key.partition(" (")[0] for key in _columns(groups))
    of = f"“{told['positive']}”" if told["positive"] else "of the class"
    meant = [_MEANINGS[name].format(it=of) for name in shown if name in _MEANINGS]
    return f"In the table: {'; '.join(meant)}." if meant else ""


def _columns(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the measures that a table shows, of several classes how many of each are found."""
    there = list(dict.fromkeys(key for one in groups for key in one["measures"]))
    if any(key.endswith(")") for key in there):
        return [key for key in there if key in _SHOWN or key.startswith("recall")]
    return [
        key for key in _SHOWN if key in there and not (key == "macro_f1" and "prevalence" in there)
    ]


def _header(key: str) -> str:
    name, _, of = key.partition(" (")
    return f"{_SHOWN.get(name, name)}, {of[:-1]}" if of else _SHOWN.get(name, name)


def _gap_table(gaps: Sequence[Mapping[str, Any]]) -> PageTable:
    rows = [
        Row(
            [
                Cell(_named(one)),
                Cell(one["highest"]),
                Cell(one["lowest"]),
                with_interval(one, 2),
                Cell("yes" if one["beyond_chance"] else "no"),
            ]
        )
        for one in gaps[:_MOST_ROWS]
    ]
    headers = ["compared by", "highest", "lowest", "gap", "beyond chance"]
    return PageTable(headers, rows, text=(1, 2, 4))


def _named(gap: Mapping[str, Any]) -> str:
    name = str(gap["measure"]).replace("_", " ")
    return f"{name} ({gap['called']})" if gap["called"] else name


def _beyond_chance(gaps: Sequence[Mapping[str, Any]]) -> str:
    """Return a sentence on which gaps are sure, and which may be chance."""
    if not gaps:
        return "One group alone is told, so that there is nothing to compare."
    # Equalised odds is the wider of two gaps that are told themselves
    gaps = [one for one in gaps if one["called"] != "equalised odds"]
    sure = [one for one in gaps if one["beyond_chance"]]
    if not sure:
        widest = max(gaps, key=lambda one: one["value"])
        return (
            "No gap is beyond what chance may explain; the widest is"
            f" {_told(widest)}. With more test records a gap may show."
        )
    named = sorted(sure, key=lambda one: -float(one["value"]))[:_MOST_SAID]
    more = f"; and {len(sure) - len(named)} more" if len(sure) > len(named) else ""
    return f"Beyond chance: {'; '.join(map(_told, named))}{more}."


def _told(gap: Mapping[str, Any]) -> str:
    return (
        f"{_named(gap)}, {number(gap['value'])}{within(gap)} higher for “{gap['highest']}” than for"
        f" “{gap['lowest']}”"
    )


def _ratio(column: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """Return sentences on the ratio of selection rates and the rule of four fifths."""
    ratio = column.get("selection_ratio")
    if not ratio:
        return ""
    shares = {one["group"]: one["measures"]["prevalence"]["value"] for one in column["groups"]}
    below = "below" if ratio["below_four_fifths"] else "not below"
    return (
        f"The selection rate of “{ratio['lowest']}” is {number(ratio['value'])}{within(ratio)}"
        f" times that of “{ratio['highest']}”: {below} 0.8, the rule of four fifths (29 CFR 1607.4"
        f" D), a rule of thumb and no test. The prevalence of “{told['positive']}” is"
        f" {number(shares[ratio['lowest']])} in the one and {number(shares[ratio['highest']])} in"
        " the other: where these differ, no useful model has equal selection rates and equal errors"
        " both."
    )


def _untold(column: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    if not column["withheld"]:
        return ""
    return (
        f"Not told: {', '.join(column['withheld'])} (nobody in it, fewer than {told['floor']} test"
        " records, or kept by policies)."
    )


def _picture(
    name: str, groups: Sequence[Mapping[str, Any]], told: Mapping[str, Any]
) -> Picture | None:
    """Draw rates of each group with their intervals, one measure below another."""
    there = dict.fromkeys(key for one in groups for key in one["measures"])
    rows = [
        (key, one["group"], one["measures"][key])
        for key in there
        if key in _DRAWN or key.startswith("recall (")
        for one in groups
        if one["measures"].get(key, {}).get("value") is not None
    ]
    if not rows or len(rows) > _MOST_ROWS:
        return None
    figure, axes = new_axes(0.9 + 0.27 * len(rows))
    for place, (_, _, one) in enumerate(reversed(rows)):
        if one["interval"]:
            axes.plot(
                one["interval"],
                [place, place],
                color=FEDERATED,
                linewidth=5,
                alpha=0.3,
                solid_capstyle="butt",
            )
        axes.plot([one["value"]], [place], "o", color=FEDERATED, markersize=6)
    for place in range(1, len(rows)):
        if rows[place][0] != rows[place - 1][0]:
            axes.axhline(len(rows) - place - 0.5, color=MUTED, linewidth=0.8, linestyle=":")
    labels = [f"{short(group)}: {_drawn_as(key)}" for key, group, _ in rows]
    axes.set_yticks(range(len(rows)), labels[::-1])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("share")
    it = f" Rates are of “{told['positive']}”." if told["positive"] else ""
    return picture(
        f"groups{name.encode().hex()}",
        figure,
        title=f"Rates by {name}",
        caption=f"Dots: the model's rates on test records of each group; bars: 95 % intervals.{it}",
    )


def _drawn_as(key: str) -> str:
    name, _, of = key.partition(" (")
    return f"{_SHOWN[name]}, {short(of[:-1])}" if of else _SHOWN[name]


def subgroup_card(evaluation: Mapping[str, Any]) -> Sequence[str]:
    """Return the model card's paragraphs on groups: rates, and the gaps between them."""
    told = evaluation.get("subgroups")
    if told is None:
        return []
    if not told["columns"]:
        return [plain(_nothing(told))]
    paragraphs = []
    for name, column in told["columns"].items():
        groups, keys = column["groups"], _columns(column["groups"])
        headers = [f"by {plain(name)}", "test records", *(plain(_header(key)) for key in keys)]
        lines = [f"| {' | '.join(headers)} |", "|---" * len(headers) + "|"]
        for one in groups:
            figures = [one["measures"].get(key) for key in keys]
            cells = [f"{number(it['value'])}{within(it)}" if it else "–" for it in figures]
            size = f"{one['records']['value']:,.0f}"
            lines.append(f"| {' | '.join([plain(one['group']), size, *cells])} |")
        paragraphs.append("\n".join(lines))
        gaps = [one for one in column["gaps"] if one["measure"].split(" (")[0] in _GAPS_ON_CARD]
        said = [
            _beyond_chance(gaps),
            _ratio(column, told),
            _untold(column, told),
            _legend(groups, told),
        ]
        paragraphs.append(plain(" ".join(filter(None, said))))
    if told["noise"]:
        paragraphs.append(plain(_noise(told)))
    return paragraphs


__all__ = ["subgroup_blocks", "subgroup_card"]
