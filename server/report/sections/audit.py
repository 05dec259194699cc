"""The section on ``confide audit`` in a run's report and model card, from ``RUN/audit.json``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confide.errors import UnreadableError
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
from confide.server.report.render import Cell, PageTable, Row, drawn
from confide.server.run_folder import AUDIT

SCOPE = (
    "An audit attacks the mechanism itself: trials ran in a simulation, on invented records, by the"
    " code by which an institution answers, each with fresh noise and a ledger of its own, so that"
    " no budget was spent. A lower bound below the claim proves nothing: another attack may do"
    " better, and no bound can pass its cap. A bound above the claim proves a fault. It does not"
    " show how a deployed institution is set up, who reads its disk, or what leaves beside updates."
)
_HEADERS = ("what was tested", "claim", "found", "cap", "verdict", "rests on")


@dataclass(frozen=True)
class AuditSection:
    """What a page says of an audit.

    Attributes:
        summary: one sentence with the verdict.
        scope: what an audit can and cannot show.
        table: tests of claims; without rows for a run without privacy.
        attacks: attacks on the model and on updates, a sentence each.
        notes: what could not be measured.
        pictures: bounds, and a record beside what came out of its update.
    """

    summary: str
    scope: str
    table: PageTable
    attacks: Sequence[str]
    notes: Sequence[str]
    pictures: Sequence[Picture]


def read_audit(folder: Path) -> Mapping[str, Any]:
    """Read ``audit.json`` of a run; {} if it was not audited.

    Raises:
        UnreadableError: if the file is damaged.
    """
    try:
        audit = json.loads((folder / AUDIT).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{folder / AUDIT} cannot be read: {error}.") from None
    return audit if isinstance(audit, dict) else {}


def audit_section(folder: Path) -> AuditSection | None:
    """Return what a page says of a run's audit; None if there was none."""
    audit = read_audit(folder)
    if not audit:
        return None
    return AuditSection(
        summary=verdict(audit),
        scope=SCOPE,
        table=_table(audit),
        attacks=attacks(audit),
        # Several parts may lack the same
        notes=list(
            dict.fromkeys(note for part in audit["parts"].values() for note in part["notes"])
        ),
        pictures=drawn(draw_bounds(audit), draw_inversion(audit)),
    )


def findings(audit: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the tests of every part."""
    return [one for part in audit["parts"].values() for one in part["findings"]]


def verdict(audit: Mapping[str, Any]) -> str:
    """Return the verdict in a sentence."""
    tests, rate = findings(audit), audit["settings"]["alarm_rate"]
    if not tests:
        return "No claim was tested: attacks alone were run."
    if audit["faults"]:
        return (
            f"FAULT: {len(audit['faults'])} of {len(tests)} tests refute the claim:"
            f" {'; '.join(audit['faults'])}. Do not rely on this run's epsilon."
        )
    return (
        f"{len(tests)} tests found nothing that contradicts the claim (a sound run is called faulty"
        f" with probability {rate:g} at most, over all tests)."
    )


def _table(audit: Mapping[str, Any]) -> PageTable:
    rows = []
    for one in findings(audit):
        ends = one["interval"]
        rows.append(
            Row(
                [
                    Cell(one["name"]),
                    Cell(f"{one['unit']} {one['claim']:.3g}"),
                    Cell(f"{one['found']:.3g}", f"{ends[0]:.3g} to {ends[1]:.3g}" if ends else ""),
                    Cell("–" if one["cap"] is None else f"{one['cap']:.3g}"),
                    Cell(one["verdict"]),
                    Cell(one["trials"], f"Assumes {one['assumes']}." if one["assumes"] else ""),
                ],
                best=bool(one["fault"]),
            )
        )
    return PageTable(list(_HEADERS), rows, text=(5,))


def attacks(audit: Mapping[str, Any]) -> list[str]:
    """Return a sentence about each attack on the model and on updates."""
    return [*_membership(audit), *_inversion(audit)]


def _shown(audit: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    shown: Mapping[str, Any] = audit["parts"].get(part, {}).get("shown", {})
    return shown


def _membership(audit: Mapping[str, Any]) -> list[str]:
    shown = _shown(audit, "membership")
    sentences = []
    for name, attack in shown.get("attacks", {}).items():
        low, high = attack["auc_interval"]
        said = (
            f"Membership by {name if name == 'loss' else f'loss, {name}'}: AUC"
            f" {attack['auc']:.3f} ({low:.3f} to {high:.3f}; 0.5 is guessing) on"
            f" {shown['members']:,} members and {attack['others']:,} others"
        )
        for rate in attack["rates"]:
            ends, wrong = rate["tpr_interval"], rate["fpr_interval"]
            said += (
                f"; TPR {rate['tpr']:.2%} ({ends[0]:.2%} to {ends[1]:.2%}) at an FPR of"
                f" {rate['asked']:.1%} ({wrong[0]:.2%} to {wrong[1]:.2%})"
            )
        sentences.append(f"{said}.")
    return sentences


def _inversion(audit: Mapping[str, Any]) -> list[str]:
    shown = _shown(audit, "inversion")
    if not shown:
        return []
    of = "public records" if shown["is_real"] else "invented records"
    sentences = [f"Inversion, the true record, alone at its institution: “{shown['true']}”."]
    for name, privacy in (("plain", "without privacy"), ("private", "with privacy")):
        found = shown.get(name)
        if found is None:
            continue
        if shown["kind"] == "words":
            result = f"{found['recovered']} of {found['words']} tokens"
        else:
            result = (
                f"similarity {found['similarity']:.3f}, the true record is number"
                f" {found['rank']} of {shown['candidates']} {of}"
            )
        sentences.append(f"From its update {privacy}: “{found['text']}” ({result}).")
    return sentences


def draw_bounds(audit: Mapping[str, Any]) -> Picture | None:
    """Draw every lower bound on epsilon, with the claim and the cap."""
    bounds = [one for one in findings(audit) if one["unit"] == "epsilon" and one["cap"] is not None]
    if not bounds:
        return None
    figure, axes = new_axes(1.0 + 0.35 * len(bounds))
    claim = bounds[0]["claim"]
    largest = 1.15 * max(claim, *(one["found"] for one in bounds))
    for row, one in enumerate(reversed(bounds)):
        axes.barh(row, one["found"], height=0.45, color=POOLED if one["fault"] else FEDERATED)
        axes.plot([min(one["cap"], largest)], [row], marker="|", markersize=14, color=MUTED)
    axes.axvline(claim, color=INK)
    axes.set_yticks(range(len(bounds)), [one["name"] for one in reversed(bounds)])
    axes.set(xlabel="epsilon", xlim=(0, largest))
    return picture(
        "bounds",
        figure,
        title="Lower bounds on epsilon beside the claim",
        caption=(
            f"Bars: lower bounds ({audit['settings']['confidence']:.0%}). Line: the claim. Strokes:"
            " the largest bound that so many trials can give, at the edge where it lies beyond."
        ),
    )


def draw_inversion(audit: Mapping[str, Any]) -> Picture | None:
    """Draw a record's features beside those that its updates gave away."""
    vectors = _shown(audit, "inversion").get("vectors")
    if not vectors:
        return None
    figure, axes = new_axes(2.8)
    places = range(len(vectors["true"]))
    axes.bar(places, vectors["true"], color=MUTED, alpha=0.5, width=0.9, label="true record")
    axes.plot(places, vectors["plain"], ".", color=FEDERATED, label="from the plain update")
    if "private" in vectors:
        axes.plot(places, vectors["private"], "x", color=ALONE, label="from the private update")
    axes.set(xlabel="feature", ylabel="value")
    legend(axes, "best")
    return picture(
        "inversion",
        figure,
        title="What an update of one record shows",
        caption=(
            "Values as the model reads them, the first 64 at most, all at the length of the true"
            " record's."
        ),
    )


__all__ = [
    "SCOPE",
    "AuditSection",
    "attacks",
    "audit_section",
    "draw_bounds",
    "draw_inversion",
    "findings",
    "read_audit",
    "verdict",
]
