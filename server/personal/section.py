"""The report's section on models that institutions have of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confide.config.spelling import counted
from confide.config.strategies.strategy import AlgorithmKind
from confide.metrics.metric import NOISE_QUANTILE, noise_name
from confide.pages.figures import ALONE, FEDERATED, INK, Picture, legend, new_axes, picture
from confide.server.personal.compared import GLOBAL, LOCAL, PERSONAL, kind_of
from confide.server.report.marks import NAMED, name_rows, short, titled
from confide.server.report.read import RunFiles
from confide.server.report.render import PageTable, number
from confide.server.run.many import LOCAL_OWN, PERSONAL_OWN

_LOOKS = {
    LOCAL: ("local model", ALONE, "o"),
    GLOBAL: ("global model", FEDERATED, "s"),
    PERSONAL: ("personal model", INK, "D"),
}
"""Sort of model -> its name, colour and mark."""


@dataclass(frozen=True, kw_only=True)
class PersonalPart:
    """What the report says of personal models.

    Attributes:
        sentences: what stays where, and what came of it.
        pictures: scores on institutions' own test records.
        table: the same, a row an institution that the summary names.
        note: how to use such a model.
    """

    sentences: list[str]
    pictures: list[Picture]
    table: PageTable
    note: str


def personal_part(run: RunFiles) -> PersonalPart | None:
    """Describe personal models; None where institutions predict with the global one."""
    found, kind = run.summary.get("personal"), kind_of(run.config["strategy"])
    if not found or kind is None:
        return None
    scores = scores_of(run)
    drawing = _drawn(run, scores)
    return PersonalPart(
        sentences=[*_what_stays(kind), *_means(run.metric, found)],
        pictures=[drawing] if drawing else [],
        table=_table(run, scores),
        note="A personal model lies at its institution alone, which uses it by `confide predict RUN"
        " INPUT --personal WHERE` and `confide export RUN --to FORM --personal WHERE`.",
    )


def scores_of(run: RunFiles) -> Mapping[str, Mapping[str, float]]:
    """Return sort of model -> institution -> the primary metric on its own test records."""
    beside = run.summary["personal"]["model"] == "beside"
    found = {
        LOCAL: run.values(f"{LOCAL_OWN}{run.metric}"),
        GLOBAL: run.values(run.metric) if beside else {},
        PERSONAL: run.values(f"{PERSONAL_OWN}{run.metric}"),
    }
    return {sort: values for sort, values in found.items() if values}


def _what_stays(kind: AlgorithmKind) -> list[str]:
    if kind.stays:
        own = "a head" if kind.stays == "head" else kind.stays
        return [
            f"Each institution predicts with the shared layers and {own} of its own, which never"
            " left it; without it the tensors of the run are no model."
        ]
    return [f"Beside the global model each institution has {kind.own}."]


def _means(metric: str, found: Mapping[str, Any]) -> list[str]:
    mean = found.get("mean")
    if "together" in found:
        noise = f" ± {NOISE_QUANTILE * found['noise']:.3f}" if "noise" in found else ""
        return [
            "On the test records of all institutions together, each scored by its own model, the"
            f" {metric} is {number(found['together'])}{noise}."
        ]
    if not mean:
        return ["No institution lets metrics on its test records leave."]
    told = [
        f"On their own test records personal models have a mean {metric} of"
        f" {number(mean[PERSONAL])} over {counted(found['institutions'], 'institution')}."
    ]
    for sort in (GLOBAL, LOCAL):
        if sort in mean:
            against = found["against"][sort]
            told.append(
                f"{_LOOKS[sort][0].capitalize()}s have {number(mean[sort])}: the personal one is"
                f" better at {against['better']:,} and worse at {against['worse']:,}."
                if sort == LOCAL
                else f"The global model has {number(mean[sort])}: the personal one is better at"
                f" {against['better']:,} and worse at {against['worse']:,}."
            )
    return told


def _drawn(run: RunFiles, scores: Mapping[str, Mapping[str, float]]) -> Picture | None:
    """Draw what each institution's models score on its own test records."""
    own = scores.get(PERSONAL)
    if not own:
        return None
    if len(own) > NAMED:
        figure, axes = new_axes(2.9)
        for sort, values in scores.items():
            name, colour, _ = _LOOKS[sort]
            axes.hist(list(values.values()), bins=30, color=colour, alpha=0.5, label=f"{name}s")
        axes.set(xlabel=run.metric, ylabel="institutions")
    else:
        figure, axes = new_axes(1.1 + 0.27 * len(own))
        names = list(own)[::-1]
        for sort, values in scores.items():
            label, colour, mark = _LOOKS[sort]
            known = [(values[name], row) for row, name in enumerate(names) if name in values]
            axes.plot(*zip(*known, strict=True), mark, color=colour, label=label, markersize=6)
        name_rows(axes, map(short, names))
        axes.set_xlabel(run.metric)
    legend(axes, "best")
    return picture(
        "personal",
        figure,
        title=f"{titled(run.metric)} of personal models",
        caption="On each institution's own test records.",
    )


def _table(run: RunFiles, scores: Mapping[str, Mapping[str, float]]) -> PageTable:
    rows: list[tuple[str, ...]] = []
    if run.summed:  # a table of nothing but names
        return PageTable([], [])
    for name, line in run.clients.items():
        noise = line.get("personal", {}).get(noise_name(run.metric))
        cells = [number(values[name]) if name in values else "-" for values in scores.values()]
        if noise is not None and cells:
            cells[-1] += f" ± {NOISE_QUANTILE * noise:.2f}"
        rows.append((name, f"{line.get('test_examples', 0):,}", *cells))
    headers = ["institution", "test records", *(f"{run.metric}, {_LOOKS[s][0]}" for s in scores)]
    return PageTable.of_texts(headers, rows)


__all__ = ["PersonalPart", "personal_part", "scores_of"]
