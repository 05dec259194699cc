"""Sounds of a task: read from every source, encoded each by itself, trained in both engines."""

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
import torch
from builders import build_plan, workload_of
from datasets import Dataset
from sounds_made import RATE, float_wav, tone, wav, write_tones

from confide.client.commands.predict import main
from confide.client.records.checked import load_checked_records
from confide.client.records.encoded import encode_institution
from confide.client.records.report import check_records
from confide.client.training.private.clipping import LossFn
from confide.client.training.private.dp_sgd import DpSgd
from confide.client.training.private.preflight import preflight
from confide.config.composing.compose import compose
from confide.config.data import DataConfig
from confide.config.models.cnn import CnnConfig
from confide.config.outcomes.outcome import OutcomeConfig
from confide.config.outcomes.regression import RegressionConfig
from confide.config.run import Config
from confide.config.tasks.media.audio_classification import AudioClassificationConfig
from confide.errors import ConfigError, DataError, ModelError, PrivacyError
from confide.held import parse_held
from confide.inference.export import export
from confide.inference.prediction import predict
from confide.inference.predictor import load_predictor
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model
from confide.models.workload import Workload
from confide.tasks.media.audio_classification import SPECTROGRAM, AudioClassification

TASK = AudioClassificationConfig(labels=["low", "high"], seconds=0.3, bands=16)
SMALL = CnnConfig(widths=[4, 8])


def loaded(path: Path, task: AudioClassificationConfig = TASK, **fields: Any) -> Dataset:
    config = DataConfig(path=str(path), **{"num_clients": 1, "partitioner": "iid", **fields})
    return load_checked_records(config, task).records


def known(records: Dataset) -> list[tuple[str, str]]:
    cells = [parse_held(one) for one in records["audio"]]
    return sorted(
        (one.sha256, label)
        for one, label in zip(cells, records["label"], strict=True)
        if one is not None
    )


def plan_of(outcome: OutcomeConfig | None = None, **fields: Any) -> Any:
    changes = {} if outcome is None else {"outcome": outcome, "labels": []}
    task = AudioClassificationConfig(
        **{"labels": ["low", "high"], "seconds": 0.3, "bands": 16, **changes}
    )
    return build_plan(task=task, backbone=SMALL, **fields)


def test_every_source_of_the_same_sounds_gives_the_same_units(tmp_path: Path) -> None:
    folder = write_tones(tmp_path / "wards", count=3)
    files = sorted(folder.rglob("*.wav"))
    labels = [path.parent.name for path in files]
    expected = known(loaded(folder, num_clients=None, partitioner="natural"))
    assert len(expected) == 12
    names = [path.relative_to(folder).as_posix() for path in files]
    (tmp_path / "table").mkdir()
    pandas.DataFrame({"audio": [f"../wards/{name}" for name in names], "label": labels}).to_csv(
        tmp_path / "table" / "t.csv", index=False
    )
    contents = [path.read_bytes() for path in files]
    pandas.DataFrame({"audio": contents, "label": labels}).to_parquet(tmp_path / "t.parquet")
    assert known(loaded(tmp_path / "table" / "t.csv")) == expected
    assert known(loaded(tmp_path / "t.parquet")) == expected


def test_units_are_samples_and_not_files(tmp_path: Path) -> None:
    levels = numpy.round(tone(300) * 64) / 128  # the same numbers in 8, 16 and 24 bits
    files = [wav(levels, bits=bits) for bits in (16, 24)]
    same = [parse_held(cell) for cell in loaded_bytes(tmp_path, [*files, wav(tone(301))])["audio"]]
    assert len({one.sha256 for one in same if one is not None}) == len(same)


def loaded_bytes(tmp_path: Path, files: list[bytes]) -> Dataset:
    frame = pandas.DataFrame({"audio": files, "label": ["low"] * len(files)})
    frame.loc[len(files)] = [wav(tone(2000)), "high"]
    frame.to_parquet(tmp_path / "t.parquet")
    return loaded(tmp_path / "t.parquet")


def test_a_check_counts_what_is_wrong_and_what_is_odd(tmp_path: Path) -> None:
    folder = tmp_path / "ward"
    (folder / "low").mkdir(parents=True)
    (folder / "high").mkdir()
    made = {
        "fine": wav(tone(300, 0.2)),
        "long": wav(tone(310, 1.0)),
        "slow": wav(tone(320, 0.2, rate=8000), rate=8000),
        "silent": wav(numpy.zeros(800)),
    }
    for name, data in made.items():
        (folder / "low" / f"{name}.wav").write_bytes(data)
    (folder / "high" / "one.wav").write_bytes(wav(tone(2000, 0.2)))
    data = DataConfig(path=str(folder), public=True)
    config = Config(task=TASK, data=data, backbone=SMALL)
    report = check_records(config)
    assert report.ready
    assert [note.partition("; ")[0].partition(" First")[0] for note in report.notes] == [
        "Column audio: 1 of 5 sounds are longer than task.seconds, and what comes later is cut.",
        "Column audio: 1 of 5 sounds have 8000 samples a second, and hold nothing above 4000 Hz",
        "Column audio: 1 of 5 sounds are silent: no sample differs from the others.",
    ]
    broken = {"cut": wav(tone(300))[:-99], "float": float_wav(tone(1)), "text": b"not a sound"}
    for name, content in broken.items():
        (folder / "low" / f"{name}.wav").write_bytes(content)
    problems = check_records(config).problems
    assert [problem.partition(" (")[0][:60] for problem in problems] == [
        "Column audio: 1 of 8 sounds are no WAV file that can be read",
        "Column audio: 1 of 8 sounds are WAV files whose samples are ",
        "Column audio: 1 of 8 sounds were cut off: their files end be",
    ]
    assert problems[0].endswith("First in low/text.wav.")


def test_speakers_are_groups_and_stay_in_one_split(tmp_path: Path) -> None:
    folder = tmp_path / "ward"
    for speaker in range(8):
        for name, pitch in (("low", 300.0), ("high", 2000.0)):
            place = folder / name / f"s{speaker}"
            place.mkdir(parents=True)
            for take in range(2):
                levels = tone(pitch + 10 * speaker + take, 0.1)
                (place / f"{take}.wav").write_bytes(wav(levels))
    config = DataConfig(
        path=str(folder), num_clients=1, partitioner="iid", group_column="folder", test=0.3
    )
    records = load_checked_records(config, TASK).records
    data, units = encode_institution(
        "ward", records, config, workload=workload_of(plan_of()), key=bytes(32)
    )
    assert units == [f"s{speaker}" for speaker in range(8)]
    assert data.groups is not None
    assert all((data.groups == group).sum() == 4 for group in data.groups.unique())


def test_encoding_of_a_sound_depends_on_no_other(tmp_path: Path) -> None:
    records = loaded(write_tones(tmp_path / "wards", count=2), partitioner="iid")
    task = AudioClassification(TASK)
    examples = task.encode(records)
    assert examples.columns[SPECTROGRAM].shape == (8, TASK.num_frames, TASK.bands)
    for index in range(len(records)):
        alone = task.encode(records.select([index]))
        assert alone.columns[SPECTROGRAM][0].equal(examples.columns[SPECTROGRAM][index])


def test_a_sound_that_changes_while_it_is_used_is_refused(tmp_path: Path) -> None:
    folder = write_tones(tmp_path / "wards", count=1)
    records = loaded(folder)
    (folder / "east" / "low" / "0.wav").write_bytes(wav(tone(500)))
    with pytest.raises(DataError, match=r"a sound has changed since it was read \(.*0\.wav\)"):
        AudioClassification(TASK).encode(records)


def loss_of(workload: Workload) -> LossFn:
    return lambda model, batch: workload.task.loss(workload.outputs(model, batch), batch)


@pytest.mark.parametrize(
    "outcome", [None, RegressionConfig(column="score", minimum=0.0, maximum=5.0)], ids=["c", "r"]
)
def test_preflight_passes(outcome: OutcomeConfig | None) -> None:
    workload = workload_of(plan_of(outcome))
    dp_sgd = DpSgd(workload.model.train(), loss_of(workload), physical_batch_size=8)
    synthetic = workload.synthetic(4, torch.Generator().manual_seed(3))
    assert synthetic.columns[SPECTROGRAM].flatten(1).unique(dim=0).shape[0] == 4
    preflight(dp_sgd, synthetic, autocast=None)


def test_the_other_engine_refuses_convolutions_by_name() -> None:
    workload = workload_of(plan_of())
    with pytest.raises(PrivacyError, match=r"blocks\.0 is Conv2d"):
        DpSgd(workload.model.train(), loss_of(workload), physical_batch_size=8, book_keeping=True)


@pytest.mark.parametrize("form", ["merged", pytest.param("onnx", marks=pytest.mark.slow)])
def test_a_model_exports_and_predicts_the_same(form: str, tmp_path: Path) -> None:
    plan = plan_of()
    workload = workload_of(plan)
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in trainable_tensors(workload.model).items()
    }
    save_model(tmp_path / "run" / "model", workload, tensors, plan)
    records = loaded(write_tones(tmp_path / "wards", count=2))
    comparison = export(tmp_path / "run", form, tmp_path / "exported", check=records)
    assert comparison.exact
    assert comparison.num_labelled == 8
    own = load_predictor(tmp_path / "run", compute=Compute())
    moved = (tmp_path / "exported").rename(tmp_path / "moved")
    other = load_predictor(moved, compute=Compute())
    assert torch.allclose(own.outputs(records), other.outputs(records), atol=1e-4)


def test_a_folder_a_table_and_bytes_are_predicted_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of()
    workload = workload_of(plan)
    tensors = trainable_tensors(workload.model)
    tensors["head.weight"] += 0.1 * torch.randn_like(tensors["head.weight"])
    save_model(tmp_path / "run" / "model", workload, tensors, plan)
    folder = write_tones(tmp_path / "wards", count=2)
    files = sorted(folder.rglob("*.wav"))
    names = [path.relative_to(folder.parent).as_posix() for path in files]
    table = pandas.DataFrame({"audio": names, "label": [path.parent.name for path in files]})
    table.to_csv(tmp_path / "t.csv", index=False)
    expected = predict(
        tmp_path / "run", pandas.DataFrame({"audio": [path.read_bytes() for path in files]})
    )
    for source, kept in ((tmp_path / "t.csv", True), (folder, False)):
        arguments = [str(tmp_path / "run"), str(source), "--output", str(tmp_path / "out.csv")]
        main(arguments)
        made = pandas.read_csv(tmp_path / "out.csv")
        assert ("audio" in made) == kept  # a file's content has no place there
        assert (made["probability_low"] - expected["probability_low"]).abs().max() < 1e-6
        assert made["label"].tolist() == table["label"].tolist()


def test_so_many_blocks_that_nothing_is_left_are_refused() -> None:
    plan = build_plan(task=TASK, backbone=CnnConfig(widths=[4] * 6))
    with pytest.raises(ModelError, match=r"so many blocks leave nothing of a spectrogram of 16"):
        workload_of(plan)


def test_a_label_that_is_the_sound_is_refused() -> None:
    with pytest.raises(ConfigError, match="audio_column=label is the label"):
        compose(
            [
                *("task=audio", "task.labels=[a,b]", "task.audio_column=label"),
                *("data.path=x.csv", "data.public=true", "backbone=cnn", "tuning=full"),
            ]
        )


def test_bytes_in_a_table_may_be_of_base64_nowhere_else(tmp_path: Path) -> None:
    frame = pandas.DataFrame(
        {"audio": [base64.b64encode(wav(tone(300))).decode()], "label": ["low"]}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match="name a file that is not there"):
        loaded(tmp_path / "t.csv")
    assert TASK.rate == RATE


def test_a_schema_does_not_fill_memory_for_one_sound() -> None:
    large = replace(TASK, rate=192_000, seconds=60, step_ms=2)
    assert any("rate=192000, seconds=60, step_ms=2" in problem for problem in large.problems())
    for usual in (TASK, replace(TASK, rate=48_000, seconds=60, step_ms=10)):
        assert not list(usual.problems())
