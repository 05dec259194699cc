"""What a report says of a robust rule: what it is, and whom it set aside."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confide.config.strategies.aggregators import MIXINGS, ROBUST, RobustKind
from confide.server.report.read import RunFiles
from confide.server.report.render import PageTable

_MOST_SHOWN = 50


@dataclass(frozen=True, kw_only=True)
class RobustPart:
    """The part of a report on hostile institutions.

    Attributes:
        sentences: what the rule is, how many it withstands, and what a simulated attack came to.
        table: whom the rule set aside, most first; empty where it tells nobody.
        note: how to read the table.
    """

    sentences: Sequence[str]
    table: PageTable
    note: str


def robust_part(run: RunFiles) -> RobustPart | None:
    """Return what a report says of a robust rule and of an attack; None where there was neither."""
    rule, attack = robust_rule(run.config["strategy"]), run.summary.get("attack", {})
    if rule is None and not attack:
        return None
    aside, hostile = run.summary.get("set_aside", {}), attack.get("clients", [])
    ordered = sorted(aside.items(), key=lambda item: (-item[1]["mean_share"], item[0]))
    rows = [
        (
            f"{name} (hostile)" if name in hostile else name,
            f"{it['rounds']:,}",
            f"{it['mean_share']:.0%}",
            f"{it['mostly']:,}",
        )
        for name, it in ordered[:_MOST_SHOWN]
    ]
    more = f" The {_MOST_SHOWN} of {len(aside):,} with the most are shown."
    return RobustPart(
        sentences=[*_of_rule(run.config["strategy"], rule), *_of_attack(attack)],
        table=PageTable.of_texts(
            ["institution", "updates", "set aside, on average", "rounds mostly set aside"], rows
        ),
        note="An institution with unlike records is set aside more often than others without"
        f" being hostile.{more if len(aside) > _MOST_SHOWN else ''}",
    )


def _of_rule(strategy: Mapping[str, Any], rule: RobustKind | None) -> Iterator[str]:
    if rule is None:
        return
    withstood = strategy["aggregator"]["num_hostile"]
    mixing = MIXINGS[strategy.get("mixing", {"kind": "none"})["kind"]].name
    yield rule.sentence
    if mixing:
        yield f"Before it came {mixing}."
    yield (
        f"It was set to withstand {withstood} hostile"
        f" {'institution' if withstood == 1 else 'institutions'} a round, and every institution"
        " weighed the same."
    )


def _of_attack(attack: Mapping[str, Any]) -> Iterator[str]:
    if not attack:
        return
    names = attack["clients"]
    shown = ", ".join(names[:_MOST_SHOWN]) + ", …" * (len(names) > _MOST_SHOWN)
    yield f"In this simulation {shown} attacked the others ({attack['kind']})."
    if "success" in attack:
        yield (
            f"With the trigger {attack['success']:.0%} of {attack['records']:,} test records of"
            f" other classes were taken for its target, without it {attack['without_trigger']:.0%}."
        )


def robust_rule(strategy: object) -> RobustKind | None:
    """Return the robust rule of a strategy, as a run's folder holds it; None for another rule."""
    aggregator = strategy.get("aggregator", {}) if isinstance(strategy, dict) else {}
    return ROBUST.get(aggregator.get("kind", ""))


__all__ = ["RobustPart", "robust_part", "robust_rule"]
