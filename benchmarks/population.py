"""Measures what a population costs before its first round, and what every round costs beside it.

    python benchmarks/population.py

Institutions of 20 rows are read from one file, dealt out, encoded and opened: CPU time of each
part, and what the same takes where each institution is encoded by itself, in turn. Then what many
requests repeat: four metrics of eight records beside scikit-learn's, a plan's hash beside writing
the plan again, and calibration beside plain halving. At most 10 ms an institution on the two cores
this was made on; all else are ratios within one run.

Last, whole runs of 10 rounds over made-up populations of 10^4 and 10^6 institutions, of which a
cohort of 100 is asked each round: peak memory and seconds a round, each in a process of its own.
"""

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy
import torch
from sklearn import metrics as theirs

from confide.client.assembly import make_trainer
from confide.client.records.encoded import encode_institution
from confide.config.composing.compose import compose
from confide.config.data import DataConfig
from confide.config.models.perceptrons import MlpConfig
from confide.config.run import Config
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tunings.tuning import TuningConfig
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload
from confide.privacy import accounting
from confide.privacy.keys import split_key
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan, plan_sha256
from confide.server.progress.lines import QuietProgress
from confide.simulations.institutions import InstitutionFactory, Setup
from confide.simulations.population import PartitionedRecords
from confide.simulations.records import encode_records, load_population
from confide.simulations.run import simulate

ROWS, COLUMNS = 20, 10
COHORT = 100
KIB = 1024
SECRET = bytes(32)


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of a piece of work."""
    started = time.process_time()
    work()
    return time.process_time() - started


def in_turn(one: Callable[[], object], other: Callable[[], object], *, turns: int) -> list[float]:
    """Return the median CPU seconds of two pieces of work, done in turn."""
    one(), other()
    taken = [(seconds(one), seconds(other)) for _ in range(turns)]
    return [statistics.median(each) for each in zip(*taken, strict=True)]


def write_rows(path: Path, institutions: int) -> None:
    """Draw rows of numbers, each with the name of an institution."""
    rng = numpy.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"x{column}" for column in range(COLUMNS)), "site", "label"])
        for row, values in enumerate(rng.normal(size=(institutions * ROWS, COLUMNS))):
            label = int(values[0] + rng.normal() > 0)
            writer.writerow([*values.round(6), f"site-{row % institutions:05}", label])


def config_of(path: Path) -> Config:
    """Return the config of a small network on the rows of a file."""
    columns = {f"x{column}": ColumnConfig(minimum=-4, maximum=4) for column in range(COLUMNS)}
    config = Config(
        task=TabularConfig(labels=["0", "1"], columns=columns),
        backbone=MlpConfig(),
        tuning=TuningConfig(kind="full"),
    )
    config.data = DataConfig(path=str(path), partitioner="natural", partition_by="site")
    return config


def set_up(folder: Path, institutions: int, *, alone: int) -> None:
    """Measure what institutions take until their doors are open."""
    path = folder / "rows.csv"
    write_rows(path, institutions)
    config = config_of(path)
    plan = make_plan(config, backbone_sha256=None)
    workload = build_workload(
        plan.encoded_task, plan.backbone, plan.tuning, compute=Compute(), seed=0
    )
    progress = QuietProgress(metric="accuracy")
    started = time.process_time()
    population, _ = load_population(config, plan.task, secret=SECRET, before=None)
    loaded = time.process_time()
    records = encode_records(
        config.data, population, plan=plan, workload=workload, secret=SECRET, progress=progress
    )
    encoded = time.process_time()
    setup = Setup(serves=plan, policy=config.policy, noise_secret=SECRET)
    factory = InstitutionFactory(make_trainer(workload, plan), setup)
    doors = [factory.open(name, data) for name, data in records.data.items()]
    opened = time.process_time()
    parts = {
        "read, deal out, fingerprint": loaded - started,
        "encode": encoded - loaded,
        "open doors": opened - encoded,
    }
    for what, taken in parts.items():
        print(f"{what}: {1e3 * taken / len(doors):.2f} ms an institution")
    print(f"{len(doors)} institutions: {1e3 * (opened - started) / len(doors):.2f} ms each, all in")
    against_one_by_one(population, config, plan, workload, few=alone)


def against_one_by_one(
    population: PartitionedRecords,
    config: Config,
    plan: TrainingPlan,
    workload: Workload,
    *,
    few: int,
) -> None:
    """Print how many times faster some institutions are encoded together."""
    names = list(population.indices)[:few]
    some = PartitionedRecords(
        records=population.records,
        indices={name: population.indices[name] for name in names},
        tally=population.tally,
    )

    def alone() -> None:
        for name, part in some.parts.items():
            key = split_key(SECRET, name)
            encode_institution(name, part, config.data, workload=workload, key=key)

    def together() -> None:
        progress = QuietProgress(metric="accuracy")
        encode_records(
            config.data, some, plan=plan, workload=workload, secret=SECRET, progress=progress
        )

    one_by_one, pooled = in_turn(alone, together, turns=3)
    print(
        f"encoding {few} institutions one by one over as a pool: {one_by_one / pooled:.1f}"
        f" ({1e3 * one_by_one / few:.1f} and {1e3 * pooled / few:.1f} ms each)"
    )


def metrics(workload: Workload) -> None:
    """Print what four metrics of eight records cost beside scikit-learn's."""
    scores = numpy.random.default_rng(0).dirichlet([1, 1], 8)
    labels, given = numpy.array([0, 1] * 4), torch.from_numpy(scores)
    truth = torch.from_numpy(labels)

    def scikit_learns() -> None:
        told = scores.argmax(axis=1)
        theirs.accuracy_score(labels, told)
        theirs.f1_score(labels, told, labels=[0, 1], average="macro", zero_division=0)
        theirs.roc_auc_score(labels, scores[:, 1])
        theirs.log_loss(labels, scores, labels=[0, 1])

    times = 50
    slow, fast = in_turn(
        lambda: [scikit_learns() for _ in range(times)],
        lambda: [workload.task.metrics(given, truth) for _ in range(times)],
        turns=7,
    )
    print(
        f"four metrics of 8 records, scikit-learn's over ours: {slow / fast:.0f}"
        f" ({1e3 * slow / times:.2f} and {1e3 * fast / times:.3f} ms)"
    )


def hashes(plan: TrainingPlan) -> None:
    """Print what a plan's hash costs beside writing the plan again."""
    known, times = TrainingPlan.from_json(plan.to_json()), 200
    slow, fast = in_turn(
        lambda: [plan_sha256(known.to_json()) for _ in range(times)],
        lambda: [known.sha256 for _ in range(times)],
        turns=7,
    )
    print(
        f"hash of a plan, written again over kept: {slow / fast:.0f}"
        f" ({1e6 * slow / times:.0f} and {1e6 * fast / times:.2f} us)"
    )


def calibrations(sizes: Sequence[int], *, rounds: int = 20) -> None:
    """Print what the noise of an institution of each size costs, and its epsilon each round."""
    taken, schedules = 0.0, []
    for size in sizes:
        steps, rate = -(-size // 8), 8 / size
        settings = {"target_epsilon": 4.0, "delta": 1e-5, "sampling_rate": rate}
        started = time.process_time()
        sigma = accounting.calibrate(**settings, steps=steps * rounds)
        taken += time.process_time() - started
        schedules.append((sigma, rate, steps))
    for bracket in (False, True):
        accounting._epsilon.cache_clear()
        started = time.process_time()
        for sigma, rate, steps in schedules:
            for done in range(1, rounds + 1):
                count = accounting.bracket(done, most=rounds) if bracket else done
                one = accounting.Schedule(
                    noise_multiplier=sigma, sampling_rate=rate, steps=steps * count
                )
                accounting.epsilon(one, delta=1e-5)
        told = time.process_time() - started
        print(
            f"epsilon of {rounds} rounds, {'bracketed' if bracket else 'each'}:"
            f" {1e3 * told / len(schedules):.0f} ms a size"
        )
    print(f"calibration: {1e3 * taken / len(schedules):.0f} ms a size")


def measure(institutions: int, rounds: int) -> None:
    """Run over a population made on demand, and print what it took as JSON."""
    config = compose(
        [
            "experiment=synthetic_logistic",
            f"data.num_clients={institutions}",
            "data.generator.num_records=32",
            "strategy=fedavg",
            "strategy/selection=uniform",
            f"strategy.selection.clients_per_round={COHORT}",
            "simulation.engine=vectorised",
            f"server.num_rounds={rounds}",
            f"server.evaluation_clients={COHORT}",
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        simulate(config, Path(folder), progress=QuietProgress(metric="accuracy"))
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
        checkpoint = max((Path(folder) / "checkpoints").glob("round-*")).stat().st_size
    told = [json.loads(line) for line in lines]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB
    taken = {
        "peak_mb": peak,
        "seconds": statistics.median(one["value"] for one in told if one["name"] == "seconds"),
        "checkpoint_kb": checkpoint / KIB,
    }
    print(json.dumps(taken))


def large(few: int, many: int, *, rounds: int, turns: int) -> None:
    """Print how memory and seconds a round grow from a small population to a large one."""
    found: dict[int, list[dict[str, float]]] = {few: [], many: []}
    for _ in range(turns):  # in turn: a machine is not equally busy all the time
        for institutions, runs in found.items():
            words = ["--measure", str(institutions), "--rounds", str(rounds)]
            done = subprocess.run(
                [sys.executable, __file__, *words], capture_output=True, text=True, check=True
            )
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    print(f"\ncohort {COHORT}, {rounds} rounds, medians of {turns} runs each:")
    medians = {
        institutions: {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        for institutions, runs in found.items()
    }
    for institutions, one in medians.items():
        print(
            f"{institutions:,} institutions: peak {one['peak_mb']:.0f} MB,"
            f" {one['seconds']:.2f} s a round, checkpoint {one['checkpoint_kb']:.0f} kB"
        )
    ratios = {name: medians[many][name] / medians[few][name] for name in medians[few]}
    print(
        f"ratios: memory {ratios['peak_mb']:.2f}, seconds {ratios['seconds']:.2f},"
        f" checkpoint {ratios['checkpoint_kb']:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--institutions", type=int, default=1000)
    parser.add_argument("--alone", type=int, default=60, help="of them, encoded one by one")
    parser.add_argument("--measure", type=int, help="this population alone, made on demand")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="the populations on demand alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.measure is not None:
        measure(arguments.measure, arguments.rounds)
        return
    if not arguments.large:
        listed(arguments)
    large(10**4, 10**6, rounds=arguments.rounds, turns=arguments.turns)


def listed(arguments: argparse.Namespace) -> None:
    """Measure populations whose institutions are all open, and what requests repeat."""
    with tempfile.TemporaryDirectory() as folder:
        set_up(Path(folder), arguments.institutions, alone=arguments.alone)
    plan = make_plan(config_of(Path("rows.csv")), backbone_sha256=None)
    metrics(
        build_workload(plan.encoded_task, plan.backbone, plan.tuning, compute=Compute(), seed=0)
    )
    hashes(plan)
    calibrations((40, 75, 140, 260))


if __name__ == "__main__":
    main()
