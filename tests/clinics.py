"""Invented patients of six clinics, as a table that a stranger would bring: 28 columns, a label."""

import random
from pathlib import Path

CLINICS = {
    "SVHC": 400,
    "SVI": 1100,
    "SVHD": 39,
    "STMW": 121,
    "other": 6000,
    "WEST": 1512,
}
RECORDS = sum(CLINICS.values())
_NUMBERS = ("age", "tsh", "t3", "tt4", "t4u", "fti", "tbg")
_FLAGS = tuple(f"flag{number}" for number in range(20))
TASK = "\n".join(
    [
        "kind: tabular",
        "labels: [healthy, ill]",
        "label_column: target",
        "columns:",
        *(f"  {name}: {{minimum: 0, maximum: 100, indicator: true}}" for name in _NUMBERS),
        *(f'  {name}: {{kind: categorical, categories: ["t", "f"]}}' for name in _FLAGS),
        "  sex: {kind: categorical, categories: [F, M], indicator: true}",
    ]
)


def write_clinics(path: Path, *, share: float = 1.0) -> int:
    """Write patients without an id, in no order of clinics, and return how many."""
    draw = random.Random(0)
    owners = [name for name, count in CLINICS.items() for _ in range(round(share * count))]
    draw.shuffle(owners)
    lines = [",".join([*_NUMBERS, *_FLAGS, "sex", "clinic", "target"])]
    for owner in owners:
        numbers = [draw.randint(0, 100) for _ in _NUMBERS]
        ill = numbers[1] + draw.randint(-30, 30) > 70
        shown = ["" if draw.random() < 0.1 else str(number) for number in numbers]
        flags = ["t" if draw.random() < 0.1 else "f" for _ in _FLAGS]
        lines.append(
            ",".join([*shown, *flags, draw.choice("FM"), owner, "ill" if ill else "healthy"])
        )
    path.write_text("\n".join(lines) + "\n")
    return len(owners)
