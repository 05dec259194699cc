"""``confide server``: its words, before anything is started."""

import dataclasses
import os
import shutil
from pathlib import Path

import pytest
import yaml
from own_configs import write_configs

import confide.cli
from confide.config.composing.compose import compose
from confide.deployment.federation import FederationConfig
from confide.errors import ConfigError
from confide.server.commands.server import main
from confide.server.deployment.coordinate import coordinate
from confide.server.deployment.start import new_words
from confide.server.provisioning.provision import provision
from confide.server.run.command_line import Resumption, overrides_of, split_resume
from confide.server.run_folder import COMMAND, CONFIG, Command

HEART = "experiment=heart_disease"
NAMES = ["with a space", "it's", 'a "quoted" one', "a=b,c", "{a} [b] (c)", "ä: b"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    federation = FederationConfig(
        name="it's (a) trial", hosts=["127.0.0.1"], institutions=["a", "b", "c"]
    )
    return provision(
        federation, compose([HEART]), tmp_path_factory.mktemp("made") / "kits"
    ).places.coordinator


@pytest.fixture
def kit(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "coordinator"))


@pytest.mark.parametrize("name", NAMES)
def test_a_kit_composes_whatever_its_path_is(made: Path, tmp_path: Path, name: str) -> None:
    kit = Path(shutil.copytree(made, tmp_path / name))
    config = compose(new_words([str(kit), HEART]))
    assert config.server.kit == str(kit)
    assert config.data.num_clients == 3


def test_a_kit_may_be_named_as_a_setting(kit: Path) -> None:
    assert compose(new_words([f"server.kit={kit}", HEART])).server.kit == str(kit)


def test_a_run_without_a_name_gets_one_of_its_own(kit: Path) -> None:
    jobs = {compose(new_words([str(kit), HEART])).job for _ in range(3)}
    assert len(jobs) == 3
    assert all(job is not None and job.startswith("it's-(a)-trial-") for job in jobs)


def test_a_job_that_was_named_keeps_its_name(kit: Path) -> None:
    assert compose(new_words([str(kit), HEART, "job=first"])).job == "first"


@pytest.mark.parametrize(
    "words", [[], [HEART], ["--cfg", "job"], ["-c", "job", HEART], ["no-kit-but-a-word", "another"]]
)
def test_without_a_kit_it_is_told_what_is_missing(words: list[str]) -> None:
    with pytest.raises(
        ConfigError, match=r"confide server KIT \[OVERRIDES\]: name the folder `coordinator`"
    ):
        new_words(words)


def test_two_kits_are_one_too_many(kit: Path) -> None:
    for words in ([str(kit), str(kit)], [str(kit), f"server.kit={kit}"]):
        with pytest.raises(ConfigError, match=r"confide server KIT"):
            new_words(words)


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_a_sweep_is_refused_for_what_it_would_spend(kit: Path, flag: str) -> None:
    with pytest.raises(
        ConfigError, match="a sweep would spend every institution's budget many times"
    ):
        new_words([str(kit), flag, "privacy.epsilon=1,2"])


def test_mistakes_are_named_together_before_anything_starts(
    kit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [HEART, "privacy=record", "privacy.epsilon=0", "strateg=x"]
    assert confide.cli.main(["server", str(kit), *words]) == 2
    assert "2 mistakes" in capsys.readouterr().err
    assert not (kit / "state").exists()


def test_a_password_on_the_command_line_is_refused(
    kit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        confide.cli.main(["server", str(kit), HEART, "data.path=postgresql://ann:s3cret@db/ward"])
        == 2
    )
    assert "s3cret" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--cfg", "job"], ["-c", "job"], ["--cfg=job"]])
def test_the_config_is_printed_and_nothing_runs(
    kit: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main([str(kit), HEART, *words]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["server"]["kit"] == str(kit)
    assert not (kit / "state").exists()


@pytest.mark.parametrize("with_kit", [True, False])
def test_help_is_given_with_a_kit_and_without(
    kit: Path, capsys: pytest.CaptureFixture[str], with_kit: bool
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*([str(kit)] if with_kit else []), "--help"])
    assert not ended.value.code
    assert "privacy.epsilon" in capsys.readouterr().out


# --- resuming


@pytest.mark.parametrize("words", [["--resume", "RUN"], ["--resume=RUN"], ["resume=RUN"]])
def test_a_run_to_resume_is_named_in_three_ways(words: list[str]) -> None:
    assert split_resume([*words, "x=1"]) == (["x=1"], Resumption(run_dir=Path("RUN").resolve()))


def test_each_that_withdrew_is_named_beside_the_run() -> None:
    words = ["--without", "VA Long Beach", "--resume", "RUN", "--without=a=b,c", "x=1"]
    others, resumed = split_resume(words)
    assert others == ["x=1"]
    assert resumed is not None
    assert resumed.without == ("VA Long Beach", "a=b,c")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--resume"], "expected the folder of one run"),
        (["--resume", "a", "resume=b"], "expected the folder of one run"),
        (["--without", "a"], "--without NAME goes with --resume RUN"),
        (["--resume", "a", "--without"], "expected the name of an institution"),
    ],
)
def test_a_run_to_resume_is_one_folder(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        main(words)


def test_a_folder_that_holds_no_run_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=rf"resume={tmp_path} holds no run that has begun; start it again"
    ):
        main(["--resume", str(tmp_path)])
    with pytest.raises(ConfigError, match="holds no run that has begun"):
        main(["--resume", str(tmp_path / "gone")])
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_resumed_by_the_command_that_began_it(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text("{}")
    (tmp_path / COMMAND).write_text(
        yaml.safe_dump({"overrides": [HEART], "cwd": str(tmp_path), "program": "simulate"})
    )
    with pytest.raises(ConfigError, match=r"`confide simulate resume=.*` goes on with this run"):
        main(["--resume", str(tmp_path)])


def test_values_of_flags_are_no_overrides() -> None:
    assert overrides_of(["--cfg", "job", "kit", "a=1", "-p", "x", "--info"]) == ["kit", "a=1"]


def test_a_run_is_coordinated_from_its_own_files(tmp_path: Path) -> None:
    """The process that runs the rounds finds what the run kept, whatever folder is gone."""
    command = Command(overrides=["experiment=credit"], cwd=str(tmp_path), program="server")
    write_configs(tmp_path / "run" / "checkpoints" / "conf")
    (tmp_path / "run" / COMMAND).write_text(yaml.safe_dump(dataclasses.asdict(command)))
    before = Path.cwd()
    try:
        with pytest.raises(ConfigError, match=r"server\.kit=null"):
            coordinate(tmp_path / "run", "127.0.0.1:1")
    finally:
        os.chdir(before)


def test_a_coordinator_has_configs_of_its_own(
    kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_configs(tmp_path / "mine")
    words = ["server", str(kit), "-cd", "mine", "experiment=credit"]
    assert confide.cli.main([*words, "server.num_rounds=0"]) == 2
    told = capsys.readouterr().err
    assert "server.num_rounds=0: expected" in told
    assert "credit" not in told
