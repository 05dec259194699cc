"""Invent a table of lab values with heavy tails, in six hospitals: python benchmarks/lab_values.py.

Medians, spreads and ranges are modelled on clinical chemistry, where a range has to hold the
largest value possible; nobody's record is among them. Illness shows at both ends of TSH, whose
median is 1.4 in [0, 530], and at low ferritin.
"""

import sys
from pathlib import Path

import numpy
import pandas
import yaml

PATIENTS = 9000
RANGES = {
    "age": (0, 110),
    "tsh": (0, 530),
    "fti": (0, 900),
    "t3": (0, 18),
    "crp": (0, 600),
    "ck": (0, 40_000),
    "ferritin": (0, 20_000),
}
_MISSING = ("crp", "ferritin", "t3")
_HOSPITALS, _SHARES = list("ABCDEF"), [0.3, 0.25, 0.2, 0.12, 0.08, 0.05]


def lab_values(count: int = PATIENTS, seed: int = 0) -> pandas.DataFrame:
    """Invent patients."""
    drawn = numpy.random.default_rng(seed)

    def amounts(median: float, spread: float, name: str) -> numpy.ndarray:
        values = median * numpy.exp(spread * drawn.standard_normal(count))
        return values.clip(*RANGES[name])

    sick = drawn.random(count) < 0.1
    low = sick & (drawn.random(count) < 0.6)  # too little thyroid hormone, so that TSH is high
    high = sick & ~low
    iron = drawn.random(count) < 0.08
    factor = {"fti": (0.6, 1.7), "t3": (0.75, 1.8)}
    table = {
        "age": drawn.normal(52, 19, count).clip(*RANGES["age"]),
        "tsh": numpy.select(
            [low, high],
            [amounts(18, 1.2, "tsh"), amounts(0.05, 0.8, "tsh")],
            amounts(1.4, 1.1, "tsh"),
        ),
        "fti": amounts(105, 0.2, "fti"),
        "t3": amounts(1.9, 0.3, "t3"),
        "crp": amounts(2, 1.5, "crp"),
        "ck": amounts(110, 1.0, "ck"),
        "ferritin": numpy.where(iron, amounts(7, 0.6, "ferritin"), amounts(80, 1.2, "ferritin")),
    }
    for name, (less, more) in factor.items():
        table[name] = table[name] * numpy.select([low, high], [less, more], 1.0)
    frame = pandas.DataFrame({name: values.round(4) for name, values in table.items()})
    for name in _MISSING:
        frame.loc[drawn.random(count) < 0.1, name] = numpy.nan
    frame["hospital"] = drawn.choice(_HOSPITALS, count, p=_SHARES)
    # One label in a hundred is wrong, as in any records.
    ill = (sick | iron) ^ (drawn.random(count) < 0.01)
    return frame.assign(ill=numpy.where(ill, "yes", "no"))


def schema() -> dict[str, object]:
    """Return the task of the table."""
    columns = {
        name: {"minimum": low, "maximum": high, "indicator": name in _MISSING}
        for name, (low, high) in RANGES.items()
    }
    return {
        "kind": "tabular",
        "labels": ["no", "yes"],
        "label_column": "ill",
        "primary_metric": "auc",
        "columns": columns,
    }


def write(folder: Path) -> None:
    """Write ``lab.csv`` and ``conf/task/lab.yaml`` into a folder."""
    task = folder / "conf" / "task" / "lab.yaml"
    task.parent.mkdir(parents=True, exist_ok=True)
    lab_values().to_csv(folder / "lab.csv", index=False)
    task.write_text(yaml.safe_dump(schema(), sort_keys=False))


def main() -> None:
    """Write the table into the folder named, or into this one."""
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "."))


if __name__ == "__main__":
    main()
