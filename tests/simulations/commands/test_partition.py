"""``confide partition``.

Files from which institutions read what a simulation deals out, record for record.
"""

from pathlib import Path

import pytest

import confide.cli
from confide.client.deployment.records_config import RecordsConfig
from confide.client.records.checked import load_checked_records
from confide.client.records.encoded import InstitutionData, encode_institution
from confide.config.composing.compose import compose
from confide.config.run import Config
from confide.errors import ConfigError
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload
from confide.privacy.keys import seeded_secret, split_key
from confide.protocol.messages import SPLITS
from confide.simulations.commands.partition import main
from confide.simulations.population import partition_records
from confide.storage.files import folder_name
from confide.storage.tensor_files import sha256

HEART = ("experiment=heart_disease", "data.num_clients=4")
TWEETS = (
    "experiment=tweets",
    "data.num_clients=3",
    "data.max_records=90",
    "backbone.num_hidden_layers=1",
    "tuning=lora",
)


def digests(data: InstitutionData) -> dict[str, str]:
    return {split: sha256(data.split(split).columns) for split in SPLITS}


def encode(
    config: Config, workload: Workload, name: str, records: object, data: object
) -> InstitutionData:
    key = split_key(seeded_secret(config.simulation.seed), name)  # type: ignore[arg-type]
    return encode_institution(name, records, data, workload=workload, key=key)[0]  # type: ignore[arg-type]


def deployed(config: Config, path: Path) -> RecordsConfig:
    """Return the records of a kit that says what the simulation says, and no more."""
    told = config.data
    return RecordsConfig(
        path=str(path),
        id_column=told.id_column,
        group_column=told.group_column,
        validation=told.validation,
        test=told.test,
    )


@pytest.mark.parametrize("overrides", [HEART, TWEETS], ids=["heart", "tweets"])
def test_every_institution_reads_the_records_of_the_simulation(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    assert main([str(tmp_path / "records"), *overrides]) == 0
    config = compose(overrides)
    workload = build_workload(
        config.task, config.backbone, config.tuning, compute=Compute(), seed=0
    )
    parts = partition_records(
        config.data, task=config.task, secret=seeded_secret(config.simulation.seed)
    ).parts  # type: ignore[arg-type]
    assert len(parts) == config.data.num_clients
    for name, records in parts.items():
        data = deployed(config, tmp_path / "records" / f"{folder_name(name)}.csv").as_data()
        read = load_checked_records(data, config.task).records
        assert len(read) == len(records)
        ours, theirs = (
            encode(config, workload, name, records, config.data),
            encode(config, workload, name, read, data),
        )
        assert digests(ours) == digests(theirs)


def test_each_institution_has_a_file_of_its_own_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(tmp_path), *HEART])
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 4
    assert f"{tmp_path / folder_name('VA Long Beach')}.csv: " in told[-1]
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv"}


def test_dealing_again_gives_the_same_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        main([str(tmp_path / folder), *HEART])
    first, second = (
        {p.name: p.read_bytes() for p in (tmp_path / folder).iterdir()} for folder in ("a", "b")
    )
    assert first == second


@pytest.mark.parametrize("words", [[], ["--help"], ["help"]])
def test_help_says_what_for(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(words) == 0
    assert "usage: confide partition FOLDER" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[*HEART], ["a", "b", *HEART]])
def test_one_folder_is_named(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="name one folder to write to"):
        main(words)


def test_without_a_seed_nothing_is_dealt(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"simulation\.seed=null"):
        main([str(tmp_path / "records"), *HEART, "simulation.seed=null"])
    assert not (tmp_path / "records").exists()


def test_a_folder_that_cannot_be_made_is_an_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert confide.cli.main(["partition", str(tmp_path / "file" / "records"), *HEART]) == 1
    assert "cannot be made" in capsys.readouterr().err
