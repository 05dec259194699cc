"""Groups change no model, are told alike by every engine, and add up to what is told of all."""

import json
from pathlib import Path
from typing import Any

import pytest
from report_run import run

GROUPS = "task.subgroups={sex: [], age: [45, 60]}"


def summary(folder: Path, *overrides: str) -> dict[str, Any]:
    run(folder, "simulation.baselines=[]", *overrides)
    read: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return read


def test_model_and_metrics_are_those_without_groups_and_engines_agree(tmp_path: Path) -> None:
    without = summary(tmp_path / "without")
    told = summary(tmp_path / "with", GROUPS)
    process = summary(
        tmp_path / "process", GROUPS, "simulation.engine=process", "simulation.workers=2"
    )
    assert told["model_sha256"] == without["model_sha256"] == process["model_sha256"]
    assert told["federated"] == without["federated"]
    assert "subgroups" not in without["evaluation"]
    assert told["evaluation"]["subgroups"] == process["evaluation"]["subgroups"]
    rest = {name: it for name, it in told["evaluation"].items() if name != "subgroups"}
    assert rest == without["evaluation"]
    for column in told["evaluation"]["subgroups"]["columns"].values():
        sizes = [one["records"]["value"] for one in column["groups"]]
        right = [one["measures"]["accuracy"]["value"] for one in column["groups"]]
        assert sum(sizes) == told["federated"]["test_examples"]
        mean = sum(n * share for n, share in zip(sizes, right, strict=True)) / sum(sizes)
        assert mean == pytest.approx(told["federated"]["accuracy"], abs=1e-5)
    lines = map(json.loads, (tmp_path / "with/metrics.jsonl").read_text().splitlines())
    named = {line["name"] for line in lines if line["phase"] == "test"}
    assert {"accuracy[sex=Female]", "recall[age=under 45]"} <= named


def test_noisy_groups_cost_no_more_and_train_the_same(tmp_path: Path) -> None:
    private = (
        *("privacy=record", "privacy.epsilon=3", "policy.metrics_privacy=noisy"),
        "task.metrics=[accuracy,macro_f1]",
    )
    told = {
        name: summary(tmp_path / name, *private, *more)
        for name, more in (("with", (GROUPS,)), ("without", ()))
    }
    assert told["with"]["model_sha256"] == told["without"]["model_sha256"]
    for name, client in told["with"]["clients"].items():
        assert client["epsilon"] == told["without"]["clients"][name]["epsilon"]
    noise = [told[name]["federated"]["accuracy_noise"] for name in ("with", "without")]
    assert noise[0] > noise[1]
    groups = told["with"]["evaluation"]["subgroups"]
    assert groups["noise"] > 0
    page = (tmp_path / "with/report.html").read_text()
    assert "By sex" in page
    assert "released sums by group with noise" in page


def test_column_that_is_no_input_is_read_and_one_that_is_not_there_is_named(
    tmp_path: Path,
) -> None:
    told = summary(tmp_path, "task.subgroups.dataset=[Cleveland, Hungary]")
    (column,) = told["evaluation"]["subgroups"]["columns"].values()
    assert [one["group"] for one in column["groups"]] == ["Cleveland", "Hungary", "not stated"]
    with pytest.raises(Exception, match="lack column religion"):
        summary(tmp_path / "other", "task.subgroups.religion=[a,b]")
