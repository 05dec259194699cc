"""Others' published figures, run here: python benchmarks/published.py FOLDER --rows NAME.

Without ``--rows`` all are run, in minutes to an hour each. Each run's figures are kept in FOLDER
and not measured again; ``--table`` runs nothing and prints what is there. A figure agrees if it is
within one published standard deviation, or a point where none was published, of the published one.
Needs requirements/data.txt; garments need Debian's package dataset-fashion-mnist, or its files in
the folder FASHION_MNIST. ``--list`` names the rows.
"""

import argparse
import statistics
import sys
import time
from importlib.resources import files
from pathlib import Path

import torch
from kept import kept_figures, measured
from reproduced import garments, heart, synthetic
from reproduced.row import Row

ROWS: dict[str, Row] = {**heart.ROWS, **synthetic.ROWS, **garments.ROWS}


def run_row(name: str, row: Row, folder: Path) -> None:
    """Run a row's seeds that are not kept."""
    if row.needs and not (files("confide.conf") / "strategy" / f"{row.needs}.yaml").is_file():
        print(f"{name}: there is no strategy={row.needs} in this version; not run.")
        return
    for seed in row.seeds:
        path = folder / name / f"seed-{seed}.json"
        if kept_figures(path, row.words) is not None:
            continue
        begun = time.process_time()
        (folder / "run").mkdir(parents=True, exist_ok=True)
        found = measured(
            path, row.words, lambda s=seed: row.measure_fn(row.words, s, folder / "run")
        )
        spent = f"{time.process_time() - begun:.0f} s of CPU"
        print(f"{name}, seed {seed}: {dict(found)} ({spent})", file=sys.stderr, flush=True)


def lines(name: str, row: Row, folder: Path) -> list[str]:
    """Write what is kept of a row, a line a figure; the mean and standard deviation of seeds."""
    kept = [kept_figures(folder / name / f"seed-{seed}.json", row.words) for seed in row.seeds]
    found = [one for one in kept if one is not None]
    written = []
    for figure, published in row.published.items():
        values = [value for one in found if (value := one[figure]) is not None]
        if not values:
            continue
        mean = statistics.fmean(values)
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        theirs, verdict = "drawn only", ""
        if published.value is not None:
            theirs = f"{published.value:.1f} ± {published.tolerance:.1f}"
            off = mean - published.value
            verdict = f"{off:+.1f}, {'yes' if abs(off) <= published.tolerance else 'no'}"
        written.append(
            f"| {name} | {figure} | {theirs} | {mean:.1f}{spread} | {len(values)} | {verdict} |"
        )
    return written


def table(names: list[str], folder: Path) -> str:
    """Write the rows that are kept, and how each differs from what was published."""
    head = [
        "| row | figure | published | here | seeds | off, agrees |",
        "|---|---|---|---|---|---|",
    ]
    body = [line for name in names for line in lines(name, ROWS[name], folder)]
    told: dict[str, list[str]] = {}
    for name in names:
        for difference in ROWS[name].differences:
            told.setdefault(difference, []).append(name)
    differences = [f"- {text} ({', '.join(rows)})" for text, rows in told.items()]
    return "\n".join([*head, *body, "", *differences])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("published"))
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="NAME")
    parser.add_argument("--list", action="store_true", help="name the rows, and run nothing")
    parser.add_argument("--table", action="store_true", help="print what is kept, and run nothing")
    arguments = parser.parse_args()
    if arguments.list:
        for name, row in ROWS.items():
            print(f"{name}: {row.source}")
        return
    torch.set_num_threads(1)
    folder: Path = arguments.folder.resolve()
    if not arguments.table:
        for name in arguments.rows:
            run_row(name, ROWS[name], folder)
    print(table(arguments.rows, folder))


if __name__ == "__main__":
    main()
