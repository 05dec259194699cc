import dataclasses
import shutil
from pathlib import Path

import pytest

from confide.errors import ConfigError
from confide.server.report.compare import (
    best,
    comparison_page,
    differing,
    names_of,
    same_records,
    validation,
)
from confide.server.report.read import read_run
from confide.server.report.write import write_comparison
from confide.simulations.commands.report import main
from confide.simulations.sweeps.page import is_sweep


def test_a_strategys_name_stands_for_its_settings(plain_run: Path) -> None:
    adam = read_run(plain_run)
    strategy = {
        **adam.config["strategy"],
        "server_optimizer": {"kind": "sgd", "momentum": 0.0, "learning_rate": 1.0},
    }
    avg = dataclasses.replace(adam, config={**adam.config, "strategy": strategy})

    assert differing([adam, avg]) == {"strategy": ["FedAdam", "FedAvg"]}


def test_how_a_run_is_computed_is_no_difference(plain_run: Path) -> None:
    one = read_run(plain_run)
    tracking = {**one.config["tracking"], "project": "other"}
    other = dataclasses.replace(one, config={**one.config, "tracking": tracking})

    assert differing([one, other]) == {}


def test_the_best_is_chosen_by_validation_records(plain_run: Path) -> None:
    good = read_run(plain_run)
    worse = good.metrics.assign(
        value=good.metrics["value"].where(good.metrics["phase"] != "validation", 0.1)
    )
    tested = {**good.summary, "federated": {**good.summary["federated"], "accuracy": 0.99}}
    lucky = dataclasses.replace(good, metrics=worse, summary=tested)

    assert validation(lucky) == pytest.approx(0.1)
    assert best([lucky, good]) == 1


def test_other_records_are_told(plain_run: Path) -> None:
    one = read_run(plain_run)
    other = dataclasses.replace(
        one, config={**one.config, "simulation": {**one.config["simulation"], "seed": 1}}
    )

    assert not same_records([one, other])
    assert "none is called best" in comparison_page([one, other], title="t", page=Path("page.html"))


@pytest.mark.parametrize(
    ("seeds", "partition_seed"), [((None, None), None), ((None, None), 3), ((1, 2), 3), ((1, 2), 0)]
)
def test_other_splits_are_other_records(
    plain_run: Path, seeds: tuple[int | None, ...], partition_seed: int | None
) -> None:
    one = read_run(plain_run)
    data = {**one.config["data"], "partition_seed": partition_seed}
    configs = [
        {**one.config, "data": data, "simulation": {**one.config["simulation"], "seed": seed}}
        for seed in seeds
    ]

    assert not same_records([dataclasses.replace(one, config=config) for config in configs])


def test_names_tell_runs_apart(plain_run: Path) -> None:
    run = read_run(plain_run)
    runs = [
        dataclasses.replace(run, folder=Path(folder)) for folder in ("/a/x/0", "/a/y/0", "/a/x/1")
    ]

    assert names_of(runs) == ["x/0", "y/0", "x/1"]


def test_runs_are_compared_on_the_command_line(
    tmp_path: Path, plain_run: Path, private_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"

    assert main([str(plain_run), str(private_run), "--output", str(page)]) == 0

    assert capsys.readouterr().out == f"{page}\n"
    html = page.read_text()
    assert "privacy.unit" in html
    assert "pooled" in html


def test_a_run_is_rendered_again(tmp_path: Path, plain_run: Path) -> None:
    copy = Path(shutil.copytree(plain_run, tmp_path / "run"))
    before = (copy / "report.html").read_text()
    (copy / "report.html").unlink()
    (copy / "model_card.md").unlink()

    assert main([str(copy)]) == 0

    assert (copy / "report.html").read_text() == before
    assert (copy / "model_card.md").exists()


def test_mistakes_are_named(tmp_path: Path, plain_run: Path) -> None:
    with pytest.raises(ConfigError, match="named twice"):
        main([str(plain_run), str(plain_run)])
    with pytest.raises(ConfigError, match=r"there is no summary.json"):
        main([str(plain_run), str(tmp_path)])
    for others in ([], [str(plain_run)]):
        with pytest.raises(ConfigError, match=r"gone: there is no such folder"):
            main([*others, str(tmp_path / "gone")])
    with pytest.raises(ConfigError, match="leave it out"):
        main([str(plain_run), "--output", "x.html"])


def test_an_unfinished_run_is_no_sweep(tmp_path: Path, plain_run: Path) -> None:
    copy = Path(shutil.copytree(plain_run, tmp_path / "run"))
    (copy / ".hydra").mkdir(exist_ok=True)
    (copy / ".hydra" / "overrides.yaml").write_text("[]")
    (copy / "summary.json").unlink()
    with pytest.raises(ConfigError, match=r"run holds a run that has not ended; wait for it"):
        main([str(copy)])
    assert not is_sweep(copy)
    assert is_sweep(tmp_path)


def test_another_comparison_is_not_written_over(
    tmp_path: Path, plain_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(plain_run, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "comparison.html").write_text("of last week")
    assert main([str(plain_run), str(other)]) == 0
    assert (tmp_path / "comparison.html").read_text() == "of last week"
    assert "compared" in (tmp_path / "comparison-2.html").read_text()


def test_runs_of_two_metrics_are_not_compared(tmp_path: Path, plain_run: Path) -> None:
    one = read_run(plain_run)
    other = dataclasses.replace(
        one, config={**one.config, "task": {**one.config["task"], "primary_metric": "auc"}}
    )

    with pytest.raises(ConfigError, match="several primary metrics"):
        write_comparison([one, other], tmp_path / "page.html", title="t")


def test_what_a_sweep_varied_stands_for_the_many_settings_that_follow(plain_run: Path) -> None:
    one = read_run(plain_run)
    strategy = {**one.config["strategy"], **{f"own_{number}": number for number in range(8)}}
    other = dataclasses.replace(
        one, folder=plain_run / "other", config={**one.config, "strategy": strategy}
    )
    asked = {one.folder: {"strategy": "fedadam"}, other.folder: {"strategy": "a_rule_of_one's_own"}}

    page = comparison_page([one, other], title="t", page=Path("page.html"), asked=asked)

    assert "a_rule_of_one&#39;s_own" in page
    assert "strategy.own_7" in page  # among all settings
    without = comparison_page([one, other], title="t", page=Path("page.html"))
    assert "own&#39;s" not in without


def test_columns_of_unlike_tables_take_one_line(plain_run: Path) -> None:
    one = read_run(plain_run)
    columns = {f"column_{number}": {"kind": "numeric"} for number in range(20)}
    task = {**one.config["task"], "columns": columns}
    other = dataclasses.replace(
        one, folder=plain_run / "other", config={**one.config, "task": task}
    )

    page = comparison_page([one, other], title="t", page=Path("page.html"))

    assert "task.columns" in page
    assert "20 values" in page
    assert "column_7" not in page
