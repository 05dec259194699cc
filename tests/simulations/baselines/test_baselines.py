"""What a federation is compared with.

Everybody alone, and all records in one place; and where results are kept.
"""

import functools
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch

from confide.client.records.encoded import InstitutionData
from confide.config.composing.compose import compose
from confide.config.run import Config
from confide.models.compute import Compute
from confide.protocol.new_plan import make_plan
from confide.simulations.baselines.baselines import (
    ALONE,
    POOLED,
    _are_alone,
    _is_pooled,
    _read,
    pool,
)
from confide.simulations.baselines.cache import BaselineCache, Circumstances
from confide.tasks.task import LABELS, Examples

Simulate = Callable[..., dict[str, Any]]
HEART = ("experiment=heart_disease", "server.num_rounds=2")
HOSPITALS = ["Cleveland", "Hungary", "Switzerland", "VA Long Beach"]


def institution(first: int, *, groups: list[int]) -> InstitutionData:
    def split(*values: int) -> Examples:
        return Examples({"x": torch.tensor(values), LABELS: torch.tensor(values) % 2})

    return InstitutionData(
        train=split(first, first + 1, first + 2),
        validation=split(first + 3),
        test=split(first + 4, first + 5),
        groups=torch.tensor(groups),
        group_column="patient",
    )


def test_pooled_records_are_those_of_all_in_their_order_and_groups_stay_apart() -> None:
    pooled = pool([institution(0, groups=[0, 1, 0]), institution(10, groups=[1, 0, 0])])
    assert pooled.train.columns["x"].tolist() == [0, 1, 2, 10, 11, 12]
    assert pooled.validation.columns["x"].tolist() == [3, 13]
    assert pooled.test.columns["x"].tolist() == [4, 5, 14, 15]
    assert pooled.groups is not None
    assert pooled.groups.tolist() == [0, 1, 0, 3, 2, 2]
    assert (pooled.num_units("group"), pooled.num_units("record"), pooled.group_column) == (
        4,
        6,
        "patient",
    )


@pytest.mark.parametrize("privacy", [pytest.param("none", marks=pytest.mark.slow), "record"])
def test_pooled_of_one_institution_is_its_own_federation(
    run: Simulate, heart: pandas.DataFrame, tmp_path: Path, privacy: str
) -> None:
    heart.assign(ward="pooled").to_csv(
        tmp_path / "heart.csv", index=False
    )  # keys derive from the job and this name
    one = (
        "data.partition_by=ward",
        "data.num_clients=1",
        f"data.path={tmp_path / 'heart.csv'}",
        "data.public=true",
    )
    overrides = (*HEART, *one, f"privacy={privacy}", "policy.allow_reproducible_noise=true")
    pooled = run(*overrides, "job=mine", "simulation.baselines=[pooled]", name="pooled")[
        "baselines"
    ]["pooled"]
    alone = run(*overrides, "job=mine/pooled", "simulation.baselines=[]", name="federated")
    assert pooled.pop("own_test") == {
        "pooled": {key: value for key, value in pooled.items() if key != "test_examples"}
    }
    assert pooled == alone["federated"]


def test_pooled_is_scored_on_the_records_that_the_federation_is(run: Simulate) -> None:
    summary = run(*HEART)
    assert list(summary["baselines"]) == ["local", "pooled"]
    pooled = summary["baselines"]["pooled"]
    assert pooled.keys() - {"own_test"} == summary["federated"].keys()
    assert pooled["test_examples"] == summary["federated"]["test_examples"]
    assert list(pooled["own_test"]) == HOSPITALS


@pytest.mark.slow
def test_groups_are_the_units_of_pooled_training_too(run: Simulate) -> None:
    summary = run(*HEART, "privacy=group", "data.group_column=age", "simulation.baselines=[pooled]")
    assert (
        summary["privacy"]["baselines"]
        == "training on all records in one place costs the same epsilon once more"
    )
    assert 0 <= summary["baselines"]["pooled"]["accuracy"] <= 1


def test_without_being_asked_for_pooled_is_left_out_where_ledgers_are_charged() -> None:
    ledgers = ["client.ledger=ledgers", "policy.budget.epsilon=16"]
    assert list(compose().baselines) == ["local", "pooled"]
    assert list(compose(ledgers).baselines) == ["local"]
    assert list(compose([*ledgers, "simulation.baselines=[]"]).baselines) == []


CORRUPT = ["[]", '{"Cleveland": 3}', '{"Cleveland": [{"num_examples": "2"}, {}]}', "[[1], {}]", "{"]


@pytest.mark.parametrize("content", CORRUPT)
def test_kept_results_that_are_none_are_trained_anew_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    for name, fits in ((ALONE, _are_alone), (POOLED, _is_pooled)):
        (tmp_path / name).write_text(content)
        assert _read(tmp_path / name, fits) is None
    assert caplog.text.count("anew") == 2


def test_kept_results_are_read_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alone, pooled = (
        {"a": [{"num_examples": 0}, {}]},
        [{"num_examples": 4, "auc": 0.5}, {"a": {"num_examples": 4}}],
    )
    for name, fits, kept in ((ALONE, _are_alone, alone), (POOLED, _is_pooled, pooled)):
        assert _read(tmp_path / name, fits) is None
        (tmp_path / name).write_text(json.dumps(kept))
        assert _read(tmp_path / name, fits) == kept
    assert caplog.text == ""


# --- kept by content


def kept(cache: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (cache / "baselines").glob("*")}


def test_another_strategy_finds_its_baselines_trained(
    run: Simulate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    overrides = (*HEART, f"trainer.feature_cache={cache}", "privacy=record", "privacy.epsilon=3")
    first = run(*overrides, "strategy=fedavg", name="first")
    before = kept(cache)
    with caplog.at_level(logging.INFO):
        second = run(*overrides, "strategy=fedadam", name="second")
    assert second["model_sha256"] != first["model_sha256"]
    assert second["baselines"] == first["baselines"]
    assert kept(cache) == before
    assert len(before) == caplog.text.count("is known from an earlier run") == 5
    assert (cache / "baselines").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (cache / "baselines").iterdir()} == {0o600}


@pytest.mark.parametrize(
    "change",
    ["privacy=record simulation.seed=null", "task._target_=confide.tasks.tabular.Tabular"],
    ids=["no seed", "own code"],
)
def test_nothing_is_kept_of_what_may_not_repeat(run: Simulate, tmp_path: Path, change: str) -> None:
    quick = ("experiment=heart_disease", "server.num_rounds=1", "simulation.baselines=[pooled]")
    run(*quick, f"trainer.feature_cache={tmp_path / 'cache'}", *change.split())
    assert kept(tmp_path / "cache") == {}


DATA = {"a": institution(0, groups=[0, 1, 0]), "b": institution(10, groups=[1, 0, 0])}
SAME = Circumstances(
    data=DATA,
    initial={"w": torch.zeros(2)},
    policy=compose().policy,
    secrets=(b"layout", b"noise"),
    by_round=True,
    compute=Compute(),
    threads=1,
)


@functools.cache
def composed(*overrides: str) -> Config:
    return compose(["experiment=heart_disease", *overrides])


def entry(
    folder: Path,
    *overrides: str,
    circumstances: Circumstances = SAME,
    data: InstitutionData = DATA["a"],
) -> Path:
    config = composed(*overrides)
    return BaselineCache(folder, circumstances).path(
        make_plan(config, backbone_sha256=None), config.server, data
    )


@pytest.mark.parametrize(
    "change",
    [
        "server.num_rounds=3",
        "server.keep=best",
        "server.patience=2",
        "server.max_update_value=2",
        "client.sampling_rate=0.3",
        "client.optimizer.learning_rate=0.3",
        "privacy=record",
        "simulation.seed=1",
        "job=another",
        "task.primary_metric=auc",
    ],
)
def test_what_the_plan_or_the_settings_change_is_another_entry(tmp_path: Path, change: str) -> None:
    assert entry(tmp_path, change) != entry(tmp_path)


@pytest.mark.parametrize(
    "change", ["server.round_timeout_s=9", "server.checkpoints=9", "server.min_clients=2"]
)
def test_what_changes_no_result_is_the_same_entry(tmp_path: Path, change: str) -> None:
    assert entry(tmp_path, change) == entry(tmp_path)


def test_what_else_a_result_depends_on_is_another_entry(tmp_path: Path) -> None:
    changed = [
        replace(SAME, data={**DATA, "b": institution(11, groups=[1, 0, 0])}),
        replace(SAME, data={"a": DATA["a"]}),
        replace(SAME, initial={"w": torch.ones(2)}),
        replace(SAME, policy=replace(SAME.policy, min_support=5)),
        replace(SAME, secrets=(b"layout", b"other")),
        replace(SAME, compute=Compute(autocast=torch.bfloat16)),
        replace(SAME, compute=Compute(physical_batch_size=64)),
        replace(SAME, threads=2),
        replace(SAME, by_round=False),
    ]
    paths = {entry(tmp_path, circumstances=circumstances) for circumstances in (SAME, *changed)}
    records = {entry(tmp_path, data=data) for data in (DATA["b"], institution(0, groups=[0, 1, 1]))}
    assert len(paths | records) == len(changed) + 3


@pytest.mark.parametrize(
    "content", ["", "[1, 2]", '[{"accuracy": 1}, {}]', '[{"num_examples": 1}, [2]]']
)
def test_an_entry_that_cannot_be_read_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    cache, path = BaselineCache(tmp_path, SAME), entry(tmp_path)
    assert cache.load(path) is None
    assert caplog.text == ""
    cache.store(path, ({"num_examples": 4, "accuracy": 0.5}, {}))
    assert cache.load(path) == ({"num_examples": 4, "accuracy": 0.5}, {})
    path.write_text(content)
    assert cache.load(path) is None
    assert "cannot be read" in caplog.text


def test_a_cache_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("in the way")
    cache = BaselineCache(tmp_path / "cache", SAME)
    cache.store(entry(tmp_path / "cache"), ({"num_examples": 4}, {}))
    assert "A baseline is not kept" in caplog.text
    assert cache.load(entry(tmp_path / "cache")) is None
