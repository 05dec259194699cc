"""Runs frameworks in alternation and writes a table for each shape; started by `peers.py`."""

import argparse
import datetime
import os
import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from vectorised import SHAPES, Shape, interval

from frameworks.players import FRAMEWORKS, Player

_WARM_UP = 2
# Of the first round too, in which Ray starts its workers
_SET_UP_S, _ROUND_S = 300, 300

TITLES = {
    "mlp": "MLP 20-32-2, 200 clients of 32 records, batches of 8",
    "cnn": "CNN of 1.6 M values, 20 clients of 50 pictures 3 x 32 x 32, batches of 10",
    "lr-mnist": "Logistic regression 784-10, 10 of 1,000 clients of 60 records, batches of 10",
    "mlp-private": "MLP 20-32-2 under DP-SGD, 150 clients of 32 records, 4 steps at rate 1/4",
}


@dataclass
class Row:
    """What was measured of one framework on one shape.

    Attributes:
        version: of its package.
        gap: how far its weights are from the bare loop's after a round; None where not compared.
        wall: seconds of each round.
        cpu: processor seconds of each round.
        failed: why it is not measured.
    """

    version: str = ""
    gap: float | None = None
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    failed: str = ""


def measure(players: Mapping[str, Player], names: Sequence[str], *, rounds: int) -> dict[str, Row]:
    """Run rounds of one shape, by turns in an order that is drawn anew for each.

    Args:
        players: everybody's process, by name.
        names: of those who take part.
        rounds: to measure; some to warm up come before.
    """
    rows = {name: Row() for name in names}
    for name, row in rows.items():
        said = players[name].hear(_SET_UP_S)
        row.version, row.gap = said.get("version", ""), said.get("gap")
        row.failed = said.get("failed", "") or players[name].hear(_SET_UP_S).get("failed", "")
    draw = random.Random(0)
    for _ in range(rounds + _WARM_UP):
        going = [name for name, row in rows.items() if not row.failed]
        for name in draw.sample(going, len(going)):
            said = players[name].turn(_ROUND_S)
            rows[name].failed = said.get("failed", "")
            if not rows[name].failed:
                rows[name].wall.append(said["wall"])
                rows[name].cpu.append(said["cpu"])
    for name, row in rows.items():
        if not row.failed:
            row.failed = players[name].turn(_SET_UP_S).get("failed", "")
    return rows


def table(shape: Shape, rows: Mapping[str, Row]) -> str:
    """Write a shape's rows as Markdown, a client-round each."""
    clients = shape.cohort or shape.clients
    lines = [
        "| | version | CPU, ms | over the loop | over vectorised | wall, ms | weights |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        if row.failed:
            lines.append(f"| {name} | {row.version} | not measured: {row.failed} | | | | |")
            continue
        cells = [name, row.version, _ms(row.cpu, clients)]
        cells += [_ratio(row, rows.get(other)) for other in ("loop", "confide vectorised")]
        cells += [_ms(row.wall, clients), "" if row.gap is None else f"{row.gap:.0e}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _ms(seconds: Sequence[float], clients: int) -> str:
    return f"{1e3 * statistics.median(seconds[_WARM_UP:]) / clients:.3g}"


def _ratio(row: Row, other: Row | None) -> str:
    if other is None or other.failed or other is row:
        return ""
    one, base = row.cpu[_WARM_UP:], other.cpu[_WARM_UP:]
    low, high = interval(one, base)
    ratio = statistics.median(one) / statistics.median(base)
    return f"{ratio:.3g} ({low:.3g} to {high:.3g})"


def machine() -> str:
    """Say what this was measured on, and when."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    processor = models[0] if models else "a processor without a name"
    return (
        f"{datetime.date.today()}, {processor}, {len(os.sched_getaffinity(0))} cores,"
        f" torch {torch.__version__}, load {os.getloadavg()[0]:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/peers.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--shapes", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--names", nargs="+", choices=FRAMEWORKS, default=list(FRAMEWORKS))
    arguments = parser.parse_args()
    print(machine())
    shapes = {
        name: [it for it in arguments.shapes if FRAMEWORKS[name].private or not SHAPES[it].private]
        for name in arguments.names
    }
    with tempfile.TemporaryDirectory() as folder:
        players = {
            name: Player(
                name,
                own,
                rounds=arguments.rounds + _WARM_UP,
                log=Path(folder) / f"{name}.log",
            )
            for name, own in shapes.items()
            if own
        }
        try:
            for shape in arguments.shapes:
                names = [name for name, own in shapes.items() if shape in own]
                rows = measure(players, names, rounds=arguments.rounds)
                print(f"\n{TITLES[shape]}\n\n{table(SHAPES[shape], rows)}", flush=True)
        finally:
            for player in players.values():
                player.end()
    print()
    for name in arguments.names:
        print(f"- {name}: {FRAMEWORKS[name].note}.")


if __name__ == "__main__":
    main()
