"""A project of somebody's own in every command that composes, and runs that outlive its folder."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from own_configs import write_configs, write_records
from stopped_run import StopAfter, Stopped, confide_simulate

import confide
import confide.cli
from confide.config.composing.compose import compose
from confide.config.composing.folders import own_configs
from confide.config.composing.main_job import MAIN_JOB
from confide.errors import ConfigError
from confide.protocol.new_plan import make_plan
from confide.server.provisioning.provision import read_federation
from confide.server.run_folder import COMMAND, CONFIG, kept_own_files
from confide.simulations.audit.door import audit_policy
from confide.simulations.run import simulate

CREDIT = "experiment=credit"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_records(tmp_path / "credit.csv")
    write_configs(tmp_path / "conf")
    return tmp_path


@pytest.fixture
def elsewhere(here: Path) -> Path:
    return (here / "conf").rename(here / "mine")


def test_a_run_is_resumed_and_exported_without_the_folder(here: Path) -> None:
    whole = confide.simulate([CREDIT], run_dir="whole")
    with own_configs([CREDIT]) as words, pytest.raises(Stopped):
        simulate(compose(words), here / "run", progress=StopAfter(1), overrides=words)
    assert (here / "run" / "checkpoints" / "round-00001.safetensors").exists()
    shutil.rmtree(here / "conf")
    resumed = confide.simulate([CREDIT], run_dir="run", resume=True)
    assert resumed.summary["model_sha256"] == whole.summary["model_sha256"]
    described = yaml.safe_load((here / "run" / CONFIG).read_text())
    assert described["task"]["columns"]["Income"]["maximum"] == 1000.0
    assert confide.cli.main(["predict", "run", "credit.csv", "--output", "out.csv"]) == 0
    assert confide.cli.main(["export", "run", "--to", "hf"]) == 0
    assert confide.cli.main(["report", "run"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("gone", [True, False])
def test_the_command_line_resumes_with_the_runs_own_files(here: Path, gone: bool) -> None:
    fails = "simulation.faults=[{kind: raises, rounds: [2]}]"
    first = confide_simulate(CREDIT, fails, "hydra.run.dir=run", cwd=here)
    assert "goes on from its last checkpoint" in first.stderr, first.stderr
    if gone:
        shutil.rmtree(here / "conf")
    else:  # what it says by now is no matter
        write_configs(here / "conf", task="kind: tabular\nlabels: [bad, good]\n")
    again = confide_simulate("resume=run", cwd=here)
    assert "round 2: 0 institutions answered" in again.stderr, again.stderr


@pytest.mark.slow
def test_a_new_run_in_the_same_folder_keeps_nothing_of_an_earlier_one(here: Path) -> None:
    confide.simulate([CREDIT], run_dir="run")
    (kept,) = kept_own_files(here / "run")
    assert {path.name for path in kept.rglob("*.yaml")} == {"credit.yaml"}
    plain = ["experiment=heart_disease", "server.num_rounds=1", "simulation.baselines=[]"]
    confide.simulate(plain, run_dir="run", overwrite=True)
    assert kept_own_files(here / "run") == []


def renamed(configs: Path) -> str:
    """Give the experiment a name that no example has, and return the choice of it."""
    (configs / "experiment" / "credit.yaml").rename(configs / "experiment" / "loans.yaml")
    return "experiment=loans"


def test_python_takes_folders(elsewhere: Path) -> None:
    loans = renamed(elsewhere)
    result = confide.simulate([loans], config_dir=elsewhere)
    assert len(result.institutions) == 3
    with pytest.raises(ConfigError, match="there is no experiment called loans"):
        confide.simulate([loans])
    with pytest.raises(ConfigError, match="nowhere is not there"):
        confide.simulate([CREDIT], config_dir=["mine", "nowhere"])


@pytest.mark.slow
def test_jobs_of_a_sweep_keep_their_own_files(elsewhere: Path) -> None:
    words = ("-m", CREDIT, "strategy=fedavg,fedadam", "hydra.sweep.dir=sweep")
    done = confide_simulate("--config-dir", "mine", *words, cwd=elsewhere.parent)
    assert done.returncode == 0, done.stderr
    for job in ("0", "1"):
        folder = elsewhere.parent / "sweep" / job
        assert kept_own_files(folder) == [folder / "checkpoints" / "conf"]
        assert "mine" not in (folder / COMMAND).read_text()


def test_help_lists_own_choices(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        confide.cli.main(["simulate", "--help", "-cd", "mine"])
    printed = capsys.readouterr().out
    assert "experiment: credit, customer_service, dialysis, digits" in printed
    assert "data: credit, custom" in printed
    assert "strategy: apfl, boosting" in printed
    assert "simulation/delays: exponential, lognormal" in printed
    assert "_schema" not in printed
    assert "hydra/" not in printed.partition("Settings, as they")[0]


def test_help_on_hydra_is_hydras(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        confide.cli.main(["simulate", "--hydra-help", CREDIT])
    assert capsys.readouterr().out.startswith("Hydra (")


def test_one_command_prints_what_is_composed(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert confide.cli.main(["simulate", "--cfg", "job", "-cd", "mine", CREDIT]) == 0
    assert "label_column: Status" in capsys.readouterr().out


def test_records_are_checked_and_partitioned(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert confide.cli.main(["data", "check", "-cd", "mine", CREDIT, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["source"]["records"] == 150
    assert confide.cli.main(["partition", "parts", "--config-dir=mine", CREDIT]) == 0
    assert len(list(Path("parts").glob("institution-*.csv"))) == 3


def test_a_plan_of_ones_own_is_audited(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (elsewhere / "audit").mkdir()
    (elsewhere / "audit" / "short.yaml").write_text("parts: [noise]\ndraws: 1000\n")
    plan = [CREDIT, "privacy=record", "privacy.epsilon=3", "server.progress=quiet", "tracking=none"]
    own = ["-cd", "mine", "audit=short"]
    assert confide.cli.main(["audit", *own, *plan, "--output", "run"]) == 0
    assert list(json.loads(Path("run/audit.json").read_text())["parts"]) == ["noise"]
    (kept,) = kept_own_files(Path("run"))
    assert (kept / "task" / "credit.yaml").exists()
    assert confide.cli.main(["audit", "run", *own]) == 0
    capsys.readouterr()
    assert confide.cli.main(["audit", "run", CREDIT, *own]) == 2
    assert "only audit.* can be set" in capsys.readouterr().err
    (elsewhere / "audit" / "short.yaml").write_text("parts: [noise]\ndraw: 1000\n")
    assert confide.cli.main(["audit", *own, *plan]) == 2
    assert "mine/audit/short.yaml:2: there is no setting audit.draw." in capsys.readouterr().err


def test_trials_of_an_audit_are_held_to_no_policy_of_ones_own(elsewhere: Path) -> None:
    (elsewhere / "policy").mkdir()
    (elsewhere / "policy" / "simulation.yaml").write_text("max_epsilon: 0.5\n")
    audit_policy.cache_clear()
    with own_configs(["-cd", "mine"]):
        assert compose([MAIN_JOB]).policy.max_epsilon == 0.5
        assert audit_policy(100).max_epsilon == 1000
        assert audit_policy(100).allow_drafted


def test_a_policy_of_ones_own_is_explained(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "policy").mkdir()
    (elsewhere / "policy" / "ours.yaml").write_text("max_epsilon: 2\nmin_records: 10\n")
    with own_configs(["-cd", "mine", CREDIT, "privacy=record", "privacy.epsilon=3"]) as words:
        Path("plan.json").write_text(make_plan(compose(words), backbone_sha256=None).to_json())
    explain = ["policy", "explain", "plan.json", "--records", "100"]
    assert confide.cli.main([*explain, "-cd", "mine", "policy=ours"]) == 1
    assert "max_epsilon" in capsys.readouterr().out
    assert confide.cli.main([*explain, "-cd", "mine", "policy=ours", "policy.max_epsilon=3"]) == 0
    assert confide.cli.main([*explain, "policy.min_records=200"]) == 1
    for words in (["a.yaml", "policy=strict"], ["policy=our"]):
        assert confide.cli.main([*explain, *words]) == 2


def test_kits_pin_a_task_of_ones_own(elsewhere: Path) -> None:
    loans = renamed(elsewhere)
    Path("fed.yaml").write_text(
        f"name: t\nhosts: [127.0.0.1]\nport: 8443\ninstitutions: [ward]\nconfig: [{loans}]\n"
    )
    assert confide.cli.main(["provision", "fed.yaml", "-cd", "mine"]) == 0
    pinned = yaml.safe_load(Path("kits/institutions/ward/client.yaml").read_text())["task"]
    assert list(pinned["columns"]) == ["Age", "Income", "Home"]
    with pytest.raises(ConfigError, match=r"fed\.yaml:5: config: .*no experiment called loans"):
        read_federation(Path("fed.yaml"))


def test_a_kit_takes_a_policy_of_ones_own(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "policy").mkdir()
    (elsewhere / "policy" / "ours.yaml").write_text("max_epsilon: 2\nbudget: {epsilon: 5}\n")
    Path("fed.yaml").write_text(
        f"name: t\nhosts: [127.0.0.1]\nport: 1\ninstitutions: [ward]\nconfig: [{CREDIT}]\n"
    )
    assert confide.cli.main(["provision", "fed.yaml", "-cd", "mine"]) == 0
    kit = ["kits/institutions/ward", "data.path=credit.csv", "+policy=ours", "--json"]
    confide.cli.main(["doctor", "--config-dir", "mine", *kit])
    assert "lifetime epsilon 5 at delta 1e-05; a run at most 2" in capsys.readouterr().out
    assert confide.cli.main(["doctor", "kits/coordinator", "-cd", "mine"]) == 2


def test_a_coordinator_composes_own_configs(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("fed.yaml").write_text(
        f"name: t\nhosts: [127.0.0.1]\nport: 1\ninstitutions: [ward]\nconfig: [{CREDIT}]\n"
    )
    assert confide.cli.main(["provision", "fed.yaml", "-cd", "mine"]) == 0
    kit = ["server", "kits/coordinator"]
    assert confide.cli.main([*kit, "-cd", "mine", CREDIT, "--cfg", "job"]) == 0
    assert "label_column: Status" in capsys.readouterr().out
    assert confide.cli.main([*kit, "-cd", "mine", CREDIT, "server.num_rounds=0"]) == 2
    told = capsys.readouterr().err
    assert "server.num_rounds=0: expected >= 1" in told
    assert "experiment" not in told
    with pytest.raises(SystemExit):
        confide.cli.main([*kit, "--config-dir=mine", "--help"])
    assert "experiment: credit, customer_service, dialysis, digits" in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_and_its_resumed_job_outlive_the_folder(here: Path) -> None:
    fails = "simulation.faults=[{kind: raises, rounds: [2]}]"
    words = ("-m", CREDIT, "data.alpha=1,2", fails, "hydra.sweep.dir=sweep")
    confide_simulate(*words, cwd=here)
    shutil.rmtree(here / "conf")
    again = confide_simulate("resume=sweep/0", cwd=here)
    assert "round 2: 0 institutions answered" in again.stderr, again.stderr
