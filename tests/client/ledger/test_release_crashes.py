"""SIGKILL around a release: counted before it is drawn, once, and the same again."""

import itertools
import random
import signal
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import release_child
from _pytest.mark.structures import ParameterSet
from builders import build_plan
from safetensors.torch import load_file

from confide.client.ledger.file import LedgerFile
from confide.client.ledger.state import PopulationAccount
from confide.config.models.perceptrons import LogisticConfig
from confide.config.privacy import PrivacyConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.protocol.releases import release_plan
from confide.releases.table import RELEASES
from confide.simulations.engines.preload import CONTEXT, prepare_workers

TASK = TabularConfig(
    labels=["no", "yes"],
    columns={
        "age": ColumnConfig(minimum=0.0, maximum=100.0),
        "tsh": ColumnConfig(minimum=0.0, maximum=530.0, indicator=True),
    },
    numeric=NumericConfig(bins=4, edges="released"),
)
RUN = build_plan(
    task=TASK,
    backbone=LogisticConfig(row_norm=3.0),
    privacy=PrivacyConfig(unit="record", epsilon=2.0),
    seed=None,
)
PLANS = {kind: release_plan(RUN, kind, epsilon=0.3) for kind in RELEASES}


class Ward:
    """One folder in which a release is asked for, process after process."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "plan.json").write_text(PLANS[kind].to_json())
        prepare_workers()

    def start(
        self, boundary: str | None = None, when: str = "before", start: float = 0.0
    ) -> ForkServerProcess:
        process = CONTEXT.Process(
            target=release_child.run, args=(self.folder, boundary, when, start)
        )
        process.start()
        return process

    def answer(self, start: float = 0.0) -> str:
        process = self.start(start=start)
        process.join(60)
        assert process.exitcode == 0
        return release_child.hash_of(load_file(self.folder / release_child.ANSWER))

    @property
    def drawn(self) -> list[str]:
        log = self.folder / release_child.DRAWN
        return log.read_text().split() if log.exists() else []

    @property
    def account(self) -> PopulationAccount | None:
        path = self.folder / release_child.LEDGER
        return LedgerFile(path).state.populations.get("ward") if path.exists() else None

    def check(self) -> None:
        """Nothing was drawn that is not counted, and nothing but one answer."""
        account = self.account
        counted = sum(len(run.rounds) for run in account.runs.values()) if account else 0
        assert len(set(self.drawn)) <= counted <= 1
        if account is not None and account.runs:
            assert account.committed == pytest.approx(0.3, rel=0.01)


def cases() -> list[ParameterSet]:
    fast = {
        ("quantiles", "counts", "after"),
        ("quantiles", "reply durable", "after"),
        ("statistics", "counts", "after"),
        ("gram", "counts", "after"),
    }
    return [
        pytest.param(*case, marks=[] if case in fast else [pytest.mark.slow])
        for case in itertools.product(PLANS, release_child.BOUNDARIES, ("before", "after"))
    ]


@pytest.mark.parametrize(("kind", "boundary", "when"), cases())
def test_a_release_that_is_killed_is_counted_once_and_answered_the_same(
    kind: str, boundary: str, when: str, tmp_path: Path
) -> None:
    ward = Ward(tmp_path / "ward", kind)
    process = ward.start(boundary, when)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert not (ward.folder / release_child.ANSWER).exists()
    ward.check()
    # Whoever asks again begins elsewhere, as a later run without a seed does
    first, again = ward.answer(start=0.5), ward.answer()
    assert first == again
    assert set(ward.drawn) == {first}
    ward.check()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", PLANS)
def test_releases_killed_at_random_instants_are_counted_once(tmp_path: Path, kind: str) -> None:
    chance, kills = random.Random(0), 0
    for number in range(8):
        ward = Ward(tmp_path / str(number), kind)
        for _ in range(4):
            process = ward.start(start=chance.random())
            process.join(chance.uniform(0.05, 1.0))
            kills += process.is_alive()
            process.kill()
            process.join(60)
            ward.check()
        assert set(ward.drawn) <= {ward.answer()}
        ward.check()
    assert kills >= 10
