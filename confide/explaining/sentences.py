"""Explanations in sentences, and as JSON."""

from collections.abc import Iterator, Sequence
from typing import Any

from confide.explaining.attribution import Attribution, strongest
from confide.explaining.counterexamples import MOST_COLUMNS, Counterexample
from confide.explaining.explanation import WARNING, Explained, Explanations
from confide.explaining.methods.table import METHODS
from confide.pages.wording import in_digits

_NAMED = 4
SCHEMA = 2


def signed(value: float) -> str:
    """Return a number with its sign and three digits that matter.

    >>> signed(0.6432), signed(-1234.5)
    ('+0.643', '−1,234')
    """
    text = f"{value:+,.0f}" if abs(value) >= 1000 else f"{value:+.3g}"
    return "0" if not value else text.replace("-", "\u2212", 1)


def told(number: float) -> str:
    """Return a probability or a number for people."""
    return in_digits(number) if abs(number) > 1 else f"{number:.3f}"


def record_sentences(one: Explained) -> Iterator[str]:
    """Say why of one record: what was predicted, what spoke for it, what else would have to be."""
    place = f"Record {one.number}" + (f", {one.place}" if one.place else "")
    yield f"{place}: predicted {one.target.prediction}."
    if one.attribution is not None:
        yield from attribution_sentences(one, one.attribution)
    if one.goal:
        yield counterexample_sentence(one)


def attribution_sentences(one: Explained, found: Attribution) -> Iterator[str]:
    """Say what speaks for the target and against it, and whether that is all."""
    assert one.case is not None
    values = found.values.tolist()
    parts = []
    for positive, word in ((True, "For"), (False, "against")):
        places = strongest(values, _NAMED, positive=positive)
        named = ", ".join(f"{one.case.units[it]} {signed(values[it])}" for it in places)
        parts.append(f"{word} it {named or 'nothing'}")
    yield f"{one.target.unit} {signed(found.score)}. {'; '.join(parts)}."
    yield from piece_sentences(one, found)
    yield completeness(found)


def piece_sentences(one: Explained, found: Attribution) -> Iterator[str]:
    """Say which unit speaks most for each of the pieces that the record makes likelier most."""
    if found.pieces is None:
        return
    assert one.case is not None
    gained = found.pieces.differences.tolist()
    parts = []
    for piece in sorted(strongest(gained, _NAMED, positive=True)):
        values = found.pieces.values[piece].tolist()
        units = strongest(values, 1, positive=True)
        by = ", ".join(f"most by {one.case.units[it]} {signed(values[it])}" for it in units)
        parts.append(
            f"“{one.target.pieces[piece]}” {signed(gained[piece])}{f', {by}' if by else ''}"
        )
    if parts:
        yield f"Likelier than of the baseline: {'; '.join(parts)}."


def completeness(found: Attribution) -> str:
    """Say how far attributions add up."""
    how = METHODS[found.method]
    effort = (
        f", {found.effort} {'steps' if how.needs_gradient else 'orders'}" if found.effort else ""
    )
    text = (
        f"Sum of attributions {signed(found.total)}, difference from the baseline"
        f" {signed(found.difference)}"
    )
    if not found.adds_up:
        return f"{text} ({how.title}, which need not add up)."
    if found.pieces is not None:
        effort = f" over {len(found.pieces.scores)} pieces{effort}"
    wrong = "" if found.is_complete else "; they do not add up, and are to be read with care"
    if found.instead_of:
        wrong += f"; {METHODS[found.instead_of].title} did not add up"
    return f"{text}: error {found.error:.2%} ({how.title}{effort}){wrong}."


def counterexample_sentence(one: Explained) -> str:
    """Say what would have to be otherwise."""
    found = one.counterexample
    if found is None:
        return f"Already so: {one.goal}."
    if not found.changes:
        return (
            f"No row within the public ranges that differs in at most {MOST_COLUMNS} of the columns"
            f" that may change is {one.goal} ({found.tried:,} tried)."
        )
    parts = [f"{it.column} were {it.after} (is {it.before})" for it in found.changes]
    return f"It would be predicted {one.reached} if {listed(parts)}."


def listed(parts: Sequence[str]) -> str:
    """Join parts of a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def all_sentences(made: Explanations) -> Iterator[str]:
    """Say what holds for all records."""
    if made.importance is not None:
        it = made.importance
        yield (
            f"{it.metric} {it.value:.3f} on {it.records} labelled records; without a column it"
            " loses (95 % interval):"
        )
        for one in it.columns[:6]:
            yield f"  {one.column} {signed(one.loss)} ({signed(one.low)} to {signed(one.high)})"
    if made.dependence:
        named = ", ".join(f"{it.column} by {told(it.reach)}" for it in made.dependence[:4])
        yield f"Over its public range a column moves the mean {made.dependence_on}: {named}."
    if made.curves is not None:
        exact = "exactly" if made.curves["exact"] else "but for the length of each row"
        yield f"The model is a sum of curves, one a column, {exact}: see the page."
    yield from made.notes


def as_json(made: Explanations) -> dict[str, Any]:
    """Return explanations as JSON."""
    return {
        "schema": SCHEMA,
        "warning": WARNING,
        "model_sha256": made.model,
        "baseline": made.baseline,
        "notes": list(made.notes),
        "records": [_record_json(one) for one in made.records],
        "importance": None if made.importance is None else _importance_json(made),
        "dependence": [
            {
                "column": it.column,
                "of": made.dependence_on,
                "values": list(it.values),
                "mean": it.mean.tolist(),
            }
            for it in made.dependence
        ],
        "curves": made.curves,
    }


def _record_json(one: Explained) -> dict[str, Any]:
    made: dict[str, Any] = {
        "record": one.number,
        "place": one.place,
        "prediction": one.target.prediction,
        "target": one.target.name,
        "of": one.target.unit,
        "shown": {
            "of": one.target.shown,
            "value": one.shown,
            "baseline": one.baseline_shown,
        },
    }
    found = one.attribution
    if found is not None and one.case is not None:
        made["attributions"] = {
            "method": found.method,
            "effort": found.effort,
            "score": found.score,
            "baseline_score": found.baseline_score,
            "sum": found.total,
            "error": found.error if found.adds_up else None,
            "complete": found.is_complete if found.adds_up else None,
            "units": [
                {"unit": unit.name, **({"value": unit.value} if unit.value else {}), "adds": value}
                for unit, value in zip(one.case.units, found.values.tolist(), strict=True)
            ],
            **_pieces_json(one, found),
        }
    if one.goal:
        made["counterexample"] = _counterexample_json(one, one.counterexample)
    return made


def _pieces_json(one: Explained, found: Attribution) -> dict[str, Any]:
    """Return what each unit adds to each piece, in the order of the units."""
    if found.pieces is None:
        return {}
    columns = zip(
        one.target.pieces,
        found.pieces.scores.tolist(),
        found.pieces.baseline_scores.tolist(),
        found.pieces.values.tolist(),
        strict=True,
    )
    names = ("piece", "score", "baseline_score", "adds")
    return {"pieces": [dict(zip(names, row, strict=True)) for row in columns]}


def _counterexample_json(one: Explained, found: Counterexample | None) -> dict[str, Any]:
    if found is None or not found.changes:
        return {
            "goal": one.goal,
            "found": False,
            "already": found is None,
            "tried": 0 if found is None else found.tried,
        }
    return {
        "goal": one.goal,
        "found": True,
        "prediction": one.reached,
        "distance": found.distance,
        "tried": found.tried,
        "changes": [it._asdict() for it in found.changes],
    }


def _importance_json(made: Explanations) -> dict[str, Any]:
    assert made.importance is not None
    return {
        "metric": made.importance.metric,
        "value": made.importance.value,
        "records": made.importance.records,
        "columns": [it._asdict() for it in made.importance.columns],
    }


__all__ = [
    "all_sentences",
    "as_json",
    "completeness",
    "counterexample_sentence",
    "piece_sentences",
    "record_sentences",
    "signed",
    "told",
]
