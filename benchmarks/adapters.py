"""Kinds of low-rank adapters: python benchmarks/adapters.py [FOLDER] writes adapters.csv there.

Two tasks on texts: the sentiment of 800 tweets (accuracy), and the genres of 800 films by their
titles (mean average precision). Four institutions by Dirichlet shares, the first layer of MiniLM,
texts of 16 tokens, 6 rounds of 2 steps of SGD on 30 % of the records, five seeds (partition, start,
frozen halves and noise). Rounds are those of a run, without its messages, scores and report. Each
learning rate is the best of those tried for plain LoRA at a seed of its own (``--rates`` tries
four). Run again it goes on where it was ended: a row of the file is not computed anew.
"""

import argparse
import csv
import functools
import io
import itertools
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from confide.client.assembly import make_trainer
from confide.client.records.encoded import InstitutionData
from confide.client.schedule import make_schedule
from confide.client.training.local_round import RoundInputs, local_round
from confide.client.training.trainer import Trainer
from confide.client.training.work import LocalWork
from confide.config.composing.compose import compose
from confide.config.run import Config
from confide.models.compute import make_compute
from confide.models.networks import trainable_tensors
from confide.models.tuning.frozen import draw_uniform, freeze_at_random
from confide.models.workload import build_workload
from confide.privacy.randomness import derive_key
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import BYTES_PER_VALUE, Tensors, num_values, shapes_of
from confide.server.progress.lines import LineProgress
from confide.simulations.baselines.baselines import pool
from confide.simulations.records import encode_records, load_population
from confide.strategies.algorithm import Participation
from confide.strategies.build import build_strategy
from confide.strategies.composed import Strategy
from confide.strategies.strategy import ClientUpdate, RoundStart
from confide.tasks.task import Examples

SEEDS, ROUNDS, RATE_SEED = range(5), 6, 100
KINDS = {
    "lora": ["tuning=lora"],
    "lora_ffa": ["tuning=lora_ffa"],
    "lora_alternating": ["tuning=lora_alternating"],
    "lora_after_head": ["tuning=lora_after_head", "tuning.head_rounds=2"],
    "fedex_lora": ["tuning=lora_exact", "strategy=fedex_lora"],
    "flora": ["tuning=lora_exact", "strategy=flora"],
}
"""Row -> overrides."""
PRIVACY = {"none": ["privacy=none"], "epsilon 8": ["privacy=record", "privacy.epsilon=8"]}
TASKS = {"tweets": ["experiment=tweets"], "titles": ["experiment=titles"]}
TRIED = (0.1, 0.3, 1.0, 3.0)
RATES = {
    ("tweets", "none"): 0.1,
    ("tweets", "epsilon 8"): 1.0,
    ("titles", "none"): 1.0,
    ("titles", "epsilon 8"): 3.0,
}
_RUN = [
    "client=default",
    "client.optimizer.kind=sgd",
    "client.local_steps=2",
    "client.sampling_rate=0.3",
    f"server.num_rounds={ROUNDS}",
    "backbone.num_hidden_layers=1",
    "task.max_tokens=16",
    "data.max_records=800",
    "data.validation=0",
    "data.test=0.3",
    "data.num_clients=4",
    "trainer.num_threads=1",
]
_KEYS = ("task", "privacy", "kind", "seed")
_FIELDS = (*_KEYS, "score", "up", "down", "seconds")


@dataclass(frozen=True)
class Job:
    """What the seeds of a cell share.

    Attributes:
        config: composed.
        plan: of it.
        trainer: of all institutions.
        strategy: of the coordinator.
    """

    config: Config
    plan: TrainingPlan
    trainer: Trainer
    strategy: Strategy


@functools.lru_cache(maxsize=8)
def job_of(task: str, privacy: str, kind: str) -> Job:
    """Compose a config and build its model, once; the learning rate is set later."""
    config = compose([*TASKS[task], *_RUN, *KINDS[kind], *PRIVACY[privacy]])
    plan = make_plan(config, backbone_sha256=None)
    compute = make_compute(config.trainer)
    workload = build_workload(plan.task, plan.backbone, plan.tuning, compute=compute, seed=0)
    strategy = build_strategy(config.strategy)
    assert isinstance(strategy, Strategy)
    return Job(config, plan, make_trainer(workload, plan), strategy)


_records: dict[tuple[str, int], dict[str, InstitutionData]] = {}


def records_of(task: str, seed: int, job: Job) -> dict[str, InstitutionData]:
    """Partition and encode records, once a seed: whatever is trained, they are the same."""
    if (task, seed) not in _records:
        secret = derive_key(bytes(32), "adapters", seed)
        data = replace(job.config.data, partition_seed=seed)
        config = replace(job.config, data=data)
        population, _ = load_population(config, job.plan.task, secret=secret, before=None)
        view = LineProgress(Console(file=io.StringIO()), metric="")
        encoded = encode_records(
            data,
            population,
            plan=job.plan,
            workload=job.trainer.workload,
            secret=secret,
            progress=view,
        )
        _records[task, seed] = dict(encoded.data)
    return _records[task, seed]


def start_of(job: Job, seed: int) -> Tensors:
    """Draw what starts at random, frozen halves too."""
    model = job.trainer.workload.model
    frozen = [(n, p) for n, p in model.named_parameters() if ".lora_A." in n]
    freeze_at_random((one for one in frozen if not one[1].requires_grad), seed=seed)
    return {
        name: draw_uniform(it.shape, bound=1 / math.sqrt(it.shape[1]), seed=seed, name=name)
        if ".lora_A." in name
        else it
        for name, it in _first[id(job)].items()
    }


_first: dict[int, Tensors] = {}


def train(job: Job, data: dict[str, InstitutionData], seed: int) -> Tensors:
    """Run all rounds, and return the last tensors."""
    params, names = start_of(job, seed), sorted(data)
    state = job.strategy.init(params)
    sizes = [len(data[name].train) for name in names]
    for server_round in range(1, ROUNDS + 1):
        start = RoundStart(
            params=params,
            state=state,
            cohort=sizes,
            max_value=1024.0,
            server_round=server_round,
            plan=replace(job.plan, job=f"adapters/{seed}"),
        )
        under_way = job.strategy.begin(start)
        for name, size in zip(names, sizes, strict=True):
            result = local_round(
                job.trainer,
                RoundInputs(params=params, server_round=server_round, institution=name),
                data[name],
                LocalWork(
                    plan=job.plan,
                    schedule=make_schedule(job.plan, num_examples=size),
                    secret=derive_key(bytes(32), "adapters", seed, name, server_round),
                ),
            )
            under_way.add(ClientUpdate(client=name, tensors=result.update, num_examples=size))
        took_part = Participation(asked=names, accepted=names, num_clients=len(names))
        params, state = under_way.finish(took_part)
    return params


def run_one(task: str, privacy: str, kind: str, seed: int, rate: float) -> dict[str, str]:
    """Measure one cell at one seed; the score is that of all institutions' test records."""
    job = job_of(task, privacy, kind)
    _first.setdefault(id(job), trainable_tensors(job.trainer.workload.model))
    job.plan.client.optimizer.learning_rate = rate
    data, began = records_of(task, seed, job), time.process_time()
    params = train(job, data, seed)
    test: Examples = pool(list(data.values())).test
    score = job.trainer.evaluate(params, test)[job.plan.task.primary_metric]
    shapes = shapes_of(params)
    values = {
        "score": f"{score:.5f}",
        "up": str(BYTES_PER_VALUE * num_values(job.strategy.reply_shapes(shapes))),
        "down": str(BYTES_PER_VALUE * num_values(shapes)),
        "seconds": f"{time.process_time() - began:.1f}",
    }
    return dict(zip(_KEYS, (task, privacy, kind, str(seed)), strict=True)) | values


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read what an earlier run of this program computed."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [dict(row) for row in csv.DictReader(file)]


def table(rows: Sequence[dict[str, str]]) -> str:
    """Write means and paired differences as Markdown, and bytes each way."""
    scores = {tuple(row[key] for key in _KEYS): float(row["score"]) for row in rows}
    cells = list(itertools.product(TASKS, PRIVACY))
    lines = ["| | " + " | ".join(f"{task}, {one}" for task, one in cells) + " | KiB up, down |"]
    lines.append("|---|" + "---|" * (len(cells) + 1))
    for kind in KINDS:
        line = [_cell(scores, task, one, kind) for task, one in cells]
        sizes = {
            (int(row["up"]) / 1024, int(row["down"]) / 1024)
            for row in rows
            if row["kind"] == kind and row["task"] == next(iter(TASKS))
        }
        line += ["; ".join(f"{up:.1f}, {down:.1f}" for up, down in sorted(sizes))]
        lines.append(f"| `{kind}` | " + " | ".join(line) + " |")
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
    mean = f"{statistics.mean(one for one, _ in pairs):.3f}"
    if kind == "lora":
        return mean
    apart = [one - plain for one, plain in pairs]
    error = statistics.stdev(apart) / len(apart) ** 0.5
    return f"{mean} ({statistics.mean(apart):+.3f} ± {error:.3f})"


def try_rates() -> None:
    """Print what plain LoRA reaches with each learning rate."""
    for task, privacy, rate in itertools.product(TASKS, PRIVACY, TRIED):
        row = run_one(task, privacy, "lora", RATE_SEED, rate)
        print(task, privacy, rate, row["score"], row["seconds"], sep="\t", flush=True)


def main() -> None:
    """Run what is not in the file yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path())
    parser.add_argument("--rates", action="store_true", help="Try learning rates, and end.")
    arguments = parser.parse_args()
    if arguments.rates:
        return try_rates()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    path = arguments.folder / "adapters.csv"
    rows = read_rows(path)
    known = {tuple(row[key] for key in _KEYS) for row in rows}
    if not rows:
        path.write_text(",".join(_FIELDS) + "\n")
    # A model at a time is built and checked: seeds are the quickest to move on to
    for kind, task, privacy, seed in itertools.product(KINDS, TASKS, PRIVACY, SEEDS):
        if (task, privacy, kind, str(seed)) in known:
            continue
        rows.append(run_one(task, privacy, kind, seed, RATES[task, privacy]))
        with path.open("a", newline="") as file:
            csv.DictWriter(file, _FIELDS).writerow(rows[-1])
        print(*rows[-1].values(), sep="\t", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
