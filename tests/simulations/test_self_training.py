"""Runs on records of which most have no label."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
from stopped_run import stopped

from confide.errors import DataError

Simulate = Callable[..., dict[str, Any]]
PRIVATE = ("privacy=record", "privacy.epsilon=3")
ROUNDS = 4


@pytest.fixture
def hearts(heart: pandas.DataFrame, tmp_path: Path) -> tuple[str, ...]:
    """Settings of a run on 920 patients, of whom two thirds have no label."""
    path = tmp_path / "hearts.csv"
    heart = heart.assign(num=heart["num"].astype("string").where(heart["id"] % 3 == 0))
    heart.to_csv(path, index=False)
    return (
        *(
            "experiment=heart_disease",
            f"data.path={path}",
            "simulation.baselines=[]",
            "data.public=true",
        ),
        *(f"server.num_rounds={ROUNDS}", "task.self_training=0.6"),
    )


def test_each_record_without_a_label_is_a_unit_for_training(
    run: Simulate, hearts: tuple[str, ...], tmp_path: Path
) -> None:
    read = pandas.read_csv(tmp_path / "hearts.csv")
    labelled = read[read["num"].notna()].groupby("dataset").size()
    summary = run(*hearts, *PRIVATE)
    for name, told in summary["clients"].items():
        assert told["records"] == (read["dataset"] == name).sum()
        assert sum(told["labels"].values()) == labelled[name]
        held_out = told["records"] - told["num_examples"]
        assert 0 < held_out < 0.7 * labelled[name]  # of those with a label alone
        # Charged as all of them
        assert told["epsilon"] == pytest.approx(3, abs=0.05)
    assert any("614 of 920 labels are null" in note for note in summary["data"]["notes"])
    # Those that a model is sure of change what is learnt
    unsure = run(*hearts, *PRIVATE, "task.self_training=0.999999", name="unsure")
    assert unsure["model_sha256"] != summary["model_sha256"]
    assert unsure["privacy"] == summary["privacy"]
    # As if the plan asked for more: an institution's own threshold
    own = run(*hearts, *PRIVATE, "policy.min_confidence=0.999999", name="own")
    assert own["model_sha256"] == unsure["model_sha256"]


def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    run: Simulate, hearts: tuple[str, ...]
) -> None:
    expected = run(*hearts, *PRIVATE, name="undisturbed")
    stopped(run, *hearts, *PRIVATE, after=2)
    assert run(*hearts, *PRIVATE, resume=True)["model_sha256"] == expected["model_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("privacy", [("privacy=none",), PRIVATE])
def test_processes_give_the_weights_of_one(
    run: Simulate, hearts: tuple[str, ...], privacy: tuple[str, ...]
) -> None:
    apart = ("simulation.engine=process", "simulation.workers=2")
    one, two = run(*hearts, *privacy), run(*hearts, *privacy, *apart, name="apart")
    assert one["model_sha256"] == two["model_sha256"]
    assert one["federated"] == two["federated"]


def test_records_without_a_label_stay_with_their_owner(
    run: Simulate, heart: pandas.DataFrame, tmp_path: Path
) -> None:
    heart = heart.assign(owner=heart["dataset"] + (heart["id"] // 4).astype(str))
    # Of every second owner one record has a label, of the others none
    has = (heart["id"] % 8 == 0) | (heart.groupby("owner").cumcount() == 0) & (heart["id"] % 8 < 4)
    heart["num"] = heart["num"].astype("string").where(has & (heart["id"] % 8 < 4))
    heart.to_csv(tmp_path / "owners.csv", index=False)
    summary = run(
        *("experiment=heart_disease", f"data.path={tmp_path / 'owners.csv'}"),
        *(
            "simulation.baselines=[]",
            "data.public=true",
            "server.num_rounds=1",
            "task.self_training=0.6",
        ),
        *("data.group_column=owner", "privacy=group", "data.validation=0.2", "data.test=0.3"),
    )
    for name, told in summary["clients"].items():
        own = heart[heart["dataset"] == name]
        # Owners go by their hash, labels or none
        held_out = own["owner"].nunique() - told["num_examples"]
        assert 0.25 < held_out / own["owner"].nunique() < 0.75
    left_out = summary["data"]["left_out"]["unlabelled"]
    assert left_out > 0
    assert sum(told["records"] for told in summary["clients"].values()) == len(heart) - left_out


def test_without_it_such_records_are_refused_with_what_can_be_done(
    run: Simulate, hearts: tuple[str, ...]
) -> None:
    with pytest.raises(DataError, match=r"614 of 920 labels are null.*task\.self_training=0\.95"):
        run(*hearts[:-1])
