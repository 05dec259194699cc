"""What a page and a model card show of the test of a model that writes what is said."""

from collections.abc import Mapping, Sequence
from typing import Any

from confide.server.report.blocks import Block
from confide.server.report.read import RunFiles
from confide.server.report.render import Cell, PageTable, Row, number

_RATES = (
    "An error rate is the fewest words, or characters, to insert, leave out or replace that make"
    " what was written what was said, over those that were said: 0 is without fault, and above 1"
    " more was written wrongly than was said. Edits and words are summed over all test records."
)
_READ = (
    "Texts are compared as the model learnt them: in the case that task.outcome.lowercase says,"
    " with single blanks. A character that task.outcome.characters lacks counts as an error."
)
_NAMES = {
    "wer": ("Word error rate", "said_words", "words"),
    "cer": ("Character error rate", "said_characters", "characters"),
    "exact_match": ("Texts without any error", "", ""),
    "transcript_loss": ("Loss, in nats a character", "", ""),
}


def transcript_section(run: RunFiles, evaluation: Mapping[str, Any]) -> Sequence[Block]:
    """Return a table of error rates, and what they are."""
    metrics = evaluation["metrics"]
    rows = []
    for name, (title, support, of) in _NAMES.items():
        if name in metrics:
            said = f"{metrics[support]['value']:,.0f} {of}" if support in metrics else ""
            rows.append(Row([Cell(title), Cell(number(metrics[name]["value"])), Cell(said)]))
    return [
        Block(
            paragraphs=["Federated model, on the test records of all institutions."],
            tables=[PageTable(["", "value", "said in all"], rows)],
            notes=[f"{_RATES} {_READ}"],
        )
    ]


def transcript_card(run: RunFiles, evaluation: Mapping[str, Any]) -> Sequence[str]:
    """Return the error rates for the model card, and what they are."""
    metrics = evaluation["metrics"]
    told = [
        f"{title} {number(metrics[name]['value'])}"
        for name, (title, _, _) in _NAMES.items()
        if name in metrics
    ]
    return [f"On all test records: {', '.join(told)}.", f"{_RATES} {_READ}"] if told else []


__all__ = ["transcript_card", "transcript_section"]
