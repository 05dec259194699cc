"""Kinds of low-rank adapters: python benchmarks/adapters.py [FOLDER] writes adapters.csv there.

Two tasks on texts: the sentiment of tweets, and the genres of films by their titles. Four
institutions by Dirichlet shares, the first two layers of MiniLM, Adam at the institutions, five
seeds (partition, splits, start and noise). Run again it goes on where it was ended: a row that is
in the file is not computed anew. Printed is the mean of each cell, with its difference from
``lora`` seed by seed.
"""

import csv
import itertools
import statistics
import sys
import tempfile
from pathlib import Path

from confide.simulations.api import simulate

SEEDS = range(5)
KINDS = {
    "lora": ["tuning=lora"],
    "lora_ffa": ["tuning=lora_ffa"],
    "lora_alternating": ["tuning=lora_alternating"],
    "fedex_lora": ["tuning=lora_exact", "strategy=fedex_lora"],
    "flora": ["tuning=lora_exact", "strategy=flora"],
    "head": ["tuning=head", "strategy=fedavg"],
}
"""Row -> overrides; the head alone shows what adapters add."""
PRIVACY = {
    "none": ["privacy=none"],
    "epsilon 8": ["privacy=record", "privacy.epsilon=8"],
}
TASKS = {
    "tweets": ["data.max_records=2000"],
    "titles": ["experiment=titles"],
}
_RUN = [
    "client=default",
    "client.optimizer.kind=adam",
    "client.optimizer.learning_rate=0.005",
    "client.local_steps=4",
    "client.sampling_rate=0.1",
    "server.num_rounds=12",
    "backbone.num_hidden_layers=2",
    "task.max_tokens=24",
    "data.validation=0",
    "data.test=0.3",
    "simulation.baselines=[]",
    "simulation.engine=inline",
]
_KEYS = ("task", "privacy", "kind", "seed")
_FIELDS = (*_KEYS, "score", "up", "down", "seconds")


def run_one(task: str, privacy: str, kind: str, seed: int) -> dict[str, str]:
    """Run one federation; scores are of the pooled test records."""
    words = [*TASKS[task], *_RUN, *KINDS[kind], *PRIVACY[privacy]]
    words += [f"data.partition_seed={seed}", f"simulation.seed={seed}"]
    with tempfile.TemporaryDirectory() as folder:
        summary = simulate(words, run_dir=Path(folder) / "run").summary
    exchanges = summary["rounds"] * len(summary["clients"])
    values = {
        "score": f"{summary['federated'][summary['primary_metric']]:.5f}",
        "up": f"{summary['bytes']['up'] / exchanges:.0f}",
        "down": f"{summary['bytes']['down'] / exchanges:.0f}",
        "seconds": f"{summary['seconds']:.1f}",
    }
    return dict(zip(_KEYS, (task, privacy, kind, str(seed)), strict=True)) | values


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read what an earlier run of this program computed."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [dict(row) for row in csv.DictReader(file)]


def tables(rows: list[dict[str, str]]) -> str:
    """Write means and paired differences as Markdown, and bytes each way."""
    scores = {tuple(row[key] for key in _KEYS): float(row["score"]) for row in rows}
    cells = list(itertools.product(TASKS, PRIVACY))
    lines = ["| | " + " | ".join(f"{task}, {one}" for task, one in cells) + " | KiB up, down |"]
    lines.append("|---|" + "---|" * (len(cells) + 1))
    for kind in KINDS:
        line = [_cell(scores, task, one, kind) for task, one in cells]
        sizes = {(int(row["up"]), int(row["down"])) for row in rows if row["kind"] == kind}
        bytes_ = "; ".join(f"{up / 1024:.1f}, {down / 1024:.1f}" for up, down in sorted(sizes))
        lines.append(f"| `{kind}` | " + " | ".join([*line, bytes_]) + " |")
    return "\n".join(lines)


def _cell(scores: dict[tuple[str, ...], float], task: str, privacy: str, kind: str) -> str:
    """Write a mean, and mean and standard error of what it differs from plain LoRA by."""
    pairs = [
        (scores[task, privacy, kind, seed], scores[task, privacy, "lora", seed])
        for seed in map(str, SEEDS)
        if (task, privacy, kind, seed) in scores and (task, privacy, "lora", seed) in scores
    ]
    if len(pairs) < 2:
        return ""
    mean = statistics.mean(one for one, _ in pairs)
    apart = [one - plain for one, plain in pairs]
    error = statistics.stdev(apart) / len(apart) ** 0.5
    return f"{mean:.3f}" + f" ({statistics.mean(apart):+.3f} ± {error:.3f})" * (kind != "lora")


def main() -> None:
    """Run what is not in the file yet, seed by seed, and print the tables."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    target.mkdir(parents=True, exist_ok=True)
    path = target / "adapters.csv"
    rows = read_rows(path)
    known = {tuple(row[key] for key in _KEYS) for row in rows}
    if not rows:
        path.write_text(",".join(_FIELDS) + "\n")
    for seed, task, privacy, kind in itertools.product(SEEDS, TASKS, PRIVACY, KINDS):
        if (task, privacy, kind, str(seed)) in known:
            continue
        row = run_one(task, privacy, kind, seed)
        rows.append(row)
        with path.open("a", newline="") as file:
            csv.DictWriter(file, _FIELDS).writerow(row)
        print(*row.values(), sep="\t", flush=True)
    print(tables(rows))


if __name__ == "__main__":
    main()
