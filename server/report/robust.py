"""What a report says of a robust rule: what it is, and whom it set aside."""

from dataclasses import dataclass

from confide.config.strategies.aggregators import MIXINGS, ROBUST, RobustKind
from confide.server.report.read import RunFiles
from confide.server.report.render import ReportTable

_MOST_SHOWN = 50


@dataclass(frozen=True, kw_only=True)
class RobustPart:
    """The part of a report on a robust rule.

    Attributes:
        summary: what the rule is, and how many hostile institutions it withstands.
        table: whom it set aside, most first.
        note: how to read the table.
    """

    summary: str
    table: ReportTable
    note: str


def robust_part(run: RunFiles) -> RobustPart | None:
    """Return what a report says of a run's robust rule; None where it had none."""
    rule = robust_rule(run.config["strategy"])
    if rule is None:
        return None
    strategy, aside = run.config["strategy"], run.summary.get("set_aside", {})
    withstood = strategy["aggregator"]["num_hostile"]
    mixing = MIXINGS[strategy.get("mixing", {"kind": "none"})["kind"]].name
    before = f" Before it came {mixing}." if mixing else ""
    ordered = sorted(aside.items(), key=lambda item: (-item[1]["mean_share"], item[0]))
    rows = [
        (name, f"{it['rounds']:,}", f"{it['mean_share']:.0%}", f"{it['mostly']:,}")
        for name, it in ordered[:_MOST_SHOWN]
    ]
    more = f" The {_MOST_SHOWN} of {len(aside):,} with the most are shown."
    return RobustPart(
        summary=f"{rule.sentence}{before} It was set to withstand {withstood} hostile"
        f" {'institution' if withstood == 1 else 'institutions'} a round, and every institution"
        " weighed the same.",
        table=ReportTable.of_texts(
            ["institution", "updates", "set aside, on average", "rounds mostly set aside"], rows
        ),
        note="An institution with unlike records is set aside more often than others without"
        f" being hostile.{more if len(aside) > _MOST_SHOWN else ''}",
    )


def robust_rule(strategy: object) -> RobustKind | None:
    """Return the robust rule of a strategy, as a run's folder holds it; None for another rule."""
    aggregator = strategy.get("aggregator", {}) if isinstance(strategy, dict) else {}
    return ROBUST.get(aggregator.get("kind", ""))


__all__ = ["RobustPart", "robust_part", "robust_rule"]
