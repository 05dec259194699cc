"""Speech: read from folders and tables, learnt record by record, written and exported."""

import re
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
import torch
from builders import build_plan, workload_of
from datasets import Dataset
from sounds_made import RATE, spelled, tone, wav, write_spelled
from torch.nn import functional
from transformers import AutoModelForCTC

from confide.client.commands.predict import main
from confide.client.records.checked import load_checked_records
from confide.client.records.report import check_records
from confide.client.training.private.dp_sgd import DpSgd
from confide.client.training.private.preflight import preflight
from confide.config.data import DataConfig
from confide.config.models.ctc import CtcConfig
from confide.config.outcomes.regression import RegressionConfig
from confide.config.outcomes.transcript import TranscriptConfig
from confide.config.run import Config
from confide.config.tasks.media.speech_recognition import SpeechRecognitionConfig
from confide.errors import ConfigError, DataError, ModelError, PrivacyError
from confide.inference.export import export
from confide.inference.prediction import predict
from confide.inference.predictor import load_predictor
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model
from confide.models.workload import Workload
from confide.tasks.media.audio_classification import SPECTROGRAM
from confide.tasks.media.speech_recognition import SpeechRecognition
from confide.tasks.outcomes.answer import NOTHING
from confide.tasks.task import LABELS

OUTCOME = TranscriptConfig(characters=" abc", max_characters=16)
SMALL = CtcConfig(width=16, depth=1, kernel=5)


def task_of(**fields: Any) -> SpeechRecognitionConfig:
    settings = {"seconds": 0.7, "bands": 16, "step_ms": 10, "outcome": OUTCOME, **fields}
    return SpeechRecognitionConfig(**settings)


TASK = task_of()


def loaded(path: Path, task: SpeechRecognitionConfig = TASK, **fields: Any) -> Dataset:
    config = DataConfig(path=str(path), **{"num_clients": 1, "partitioner": "iid", **fields})
    return load_checked_records(config, task).records


def table(folder: Path, *texts: str | None, heard: str = "abc a") -> Path:
    """Write a table with the bytes of recordings that differ, and these texts beside them."""
    generator = numpy.random.default_rng(0)
    files = [wav(spelled(heard, generator)) for _ in texts]
    pandas.DataFrame({"audio": files, "text": texts}).to_parquet(folder / "t.parquet")
    return folder / "t.parquet"


def plan_of(**fields: Any) -> Any:
    return build_plan(task=TASK, backbone=SMALL, **fields)


def losses(workload: Workload, model: torch.nn.Module, batch: dict[str, torch.Tensor]):  # type: ignore[no-untyped-def]
    return workload.task.loss(workload.outputs(model, batch), batch)


# --- records


def test_a_folder_and_tables_hold_the_same_recordings_and_texts(tmp_path: Path) -> None:
    folder = write_spelled(tmp_path / "wards", count=4)
    files = sorted(folder.rglob("*.wav"))
    texts = [path.with_suffix(".txt").read_text().strip() for path in files]
    names = [path.relative_to(folder).as_posix() for path in files]
    pandas.DataFrame({"audio": names, "text": texts}).to_csv(folder.parent / "t.csv", index=False)
    # A path starts at the table's folder
    (tmp_path / "t.csv").rename(folder / "t.csv")
    listed = loaded(folder / "t.csv")
    (folder / "t.csv").unlink()
    found = load_checked_records(
        DataConfig(path=str(folder), partitioner="natural", num_clients=2), TASK
    ).records
    task = SpeechRecognition(TASK)
    sums = [
        (examples.columns[SPECTROGRAM].sum(), examples.labels.sum())
        for examples in (task.encode(listed), task.encode(found))
    ]
    assert len(found) == 8
    assert sums[0][1] == sums[1][1]
    assert torch.isclose(sums[0][0], sums[1][0])


def test_one_institution_s_recordings_lie_in_its_folder(tmp_path: Path) -> None:
    east = write_spelled(tmp_path / "wards", count=4) / "east"
    (east / "00.wav").rename(east / "00.WAV")
    assert len(loaded(east)) == 4


def test_texts_without_a_recording_and_strays_are_named(tmp_path: Path) -> None:
    folder = write_spelled(tmp_path / "wards", count=4)
    (folder / "east" / "other.txt").write_text("abc")
    with pytest.raises(DataError, match=r"move east/other\.txt elsewhere"):
        loaded(folder)
    (folder / "east" / "other.txt").unlink()
    # Nor is it some institution's table, beside one institution's recordings
    for name in ("README.txt", "A.TXT"):
        (folder / "east" / name).write_text("abc")
        with pytest.raises(DataError, match=f"move {name} elsewhere"):
            loaded(folder / "east")
        (folder / "east" / name).unlink()
    (folder / "stray.wav").write_bytes(wav(tone(300)))
    with pytest.raises(DataError, match=r"expected INSTITUTION/FILE; move stray\.wav"):
        loaded(folder)
    (folder / "stray.wav").unlink()
    (folder / "west" / "00.txt").unlink()
    (folder / "west" / "01.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match=r"01\.txt cannot be read as UTF-8"):
        loaded(folder)
    (folder / "west" / "01.txt").write_text("  \n")
    with pytest.raises(DataError, match=r"west: Column text: 2 of 4 texts are empty"):
        loaded(folder)


def test_every_problem_of_texts_is_told_with_its_first_record(tmp_path: Path) -> None:
    path = table(tmp_path, "abc", None, "a" * 17, "aaaaaaaa", "cab")
    short = task_of(seconds=0.1)  # eleven frames
    data = DataConfig(path=str(path), public=True, num_clients=1, partitioner="iid")
    problems = check_records(Config(task=short, data=data, backbone=SMALL)).problems
    told = [problem.partition(";")[0].partition(":")[2].strip() for problem in problems]
    assert told == [
        "1 of 5 texts take more frames than the 11 that task.seconds=0.1 and task.step_ms=10 make:"
        " one a character, and one between two that are the same. Nothing could be learnt of them",
        "1 of 5 texts are empty",
        "1 of 5 texts have more than task.outcome.max_characters=16 characters, up to 17",
    ]
    assert [problem.rpartition(" First in ")[2] for problem in problems] == [
        "record 4.",
        "record 2.",
        "record 3.",
    ]


def test_characters_that_no_model_writes_are_told_and_count_as_errors(tmp_path: Path) -> None:
    path = table(tmp_path, "A  b\tc", "a3c", "ab")
    data = DataConfig(path=str(path), public=True, num_clients=1, partitioner="iid")
    report = check_records(Config(task=TASK, data=data, backbone=SMALL))
    assert [note for note in report.notes if note.startswith("Column text: 1 of 3 texts hold")]
    task = SpeechRecognition(TASK)
    examples = task.encode(loaded(path))
    texts = sorted("".join(chr(one) for one in row if one >= 0) for row in examples.labels.tolist())
    assert texts == ["a b c", "a3c", "ab"]
    # A model that hears all that can be written of "a3c"
    outputs = one_hot(["a", "", "c"])
    target = torch.full((1, 16), NOTHING)
    target[0, :3] = torch.tensor([ord(one) for one in "a3c"])
    tally = task.tally(outputs, {LABELS: target})[0].tolist()
    assert tally[:4] == [1, 1, 1, 3]
    assert task.predictions(outputs, {LABELS: target})["prediction"] == ["ac"]


def one_hot(frames: list[str]) -> torch.Tensor:
    places = ["", *OUTCOME.characters]
    numbers = torch.tensor([[places.index(one) for one in frames]])
    return 50.0 * functional.one_hot(numbers, len(places)).double()


def test_repeats_are_one_character_and_a_frame_between_makes_two() -> None:
    task = SpeechRecognition(TASK)
    heard = one_hot(["a", "a", "", "a", " ", " ", "b", "b", " "])
    assert task.predictions(heard, {})["prediction"] == ["aa b"]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"characters": "abca"}, "'a' is there twice"),
        ({"characters": " "}, "expected at least one letter"),
        ({"characters": "abC"}, "no text that is read holds 'C'"),
        ({"characters": "ab\t"}, r"no text that is read holds '\\t'"),
        ({"characters": "a\u0301"[1:] + "a"}, None),
    ],
)
def test_lists_of_characters_that_mean_something_else_are_refused(
    settings: dict[str, Any], why: str | None
) -> None:
    problems = list(TranscriptConfig(**settings).problems())
    assert bool(problems) == (why is not None)
    if why is not None:
        assert re.search(why, problems[0])


def test_another_outcome_is_refused_by_name() -> None:
    task = task_of(outcome=RegressionConfig(column="score", minimum=0.0, maximum=5.0))
    with pytest.raises(ConfigError, match=r"kind=regression: records of task\.kind=speech_recog"):
        workload_of(build_plan(task=task, backbone=SMALL))


# --- a model


def test_the_loss_is_that_of_all_ways_to_write_the_text() -> None:
    """By counting: three frames, "ab", every path of four symbols."""
    task = SpeechRecognition(TASK)
    outputs = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    target = torch.full((1, 16), NOTHING)
    target[0, :2] = torch.tensor([ord("a"), ord("b")])
    likelihoods = outputs[0].softmax(dim=-1)
    total = 0.0
    for path in torch.cartesian_prod(*[torch.arange(5)] * 3).tolist():
        kept = [one for place, one in enumerate(path) if place == 0 or one != path[place - 1]]
        if [one for one in kept if one] == [2, 3]:
            total += float(torch.stack([likelihoods[t, s] for t, s in enumerate(path)]).prod())
    found = task.loss(outputs, {LABELS: target})
    assert found.item() == pytest.approx(-numpy.log(total) / 2, abs=1e-9)


def test_a_record_changes_its_own_loss_alone() -> None:
    workload = workload_of(plan_of())
    batch = workload.synthetic(4, torch.Generator().manual_seed(0)).take(torch.arange(4))
    with torch.no_grad():
        before = losses(workload, workload.model, batch)
        batch[SPECTROGRAM][2] += 1.0
        batch[LABELS][2] = batch[LABELS][3]
        after = losses(workload, workload.model, batch)
        alone = {name: column[:1] for name, column in batch.items()}
        single = losses(workload, workload.model, alone)
    assert (before != after).tolist() == [False, False, True, False]
    assert single.item() == pytest.approx(before[0].item(), rel=1e-6)


def test_a_text_that_no_frames_hold_has_a_gradient_of_nothing() -> None:
    outputs = torch.zeros(1, 2, 5, requires_grad=True)
    target = torch.full((1, 16), NOTHING)
    target[0, :2] = ord("a")
    loss = SpeechRecognition(TASK).loss(outputs, {LABELS: target})
    loss.sum().backward()
    assert loss.item() == 0
    assert outputs.grad is not None
    assert not outputs.grad.any()


@pytest.mark.parametrize("group_size", [None, 4])
def test_preflight_passes(group_size: int | None) -> None:
    workload = workload_of(plan_of())
    synthetic = workload.synthetic(8, torch.Generator().manual_seed(3))
    assert len({tuple(row) for row in synthetic.labels.tolist()}) > 4
    engine = DpSgd(
        workload.model.train(),
        lambda model, batch: losses(workload, model, batch),
        physical_batch_size=8,
        group_size=group_size,
    )
    preflight(engine, synthetic, autocast=None)


def test_the_other_engine_refuses_convolutions_by_name() -> None:
    workload = workload_of(plan_of())
    with pytest.raises(PrivacyError, match=r"first\.0 is Conv1d"):
        DpSgd(
            workload.model.train(),
            lambda model, batch: losses(workload, model, batch),
            physical_batch_size=8,
            book_keeping=True,
        )


def test_a_plan_that_asks_for_gibibytes_is_refused() -> None:
    large = task_of(rate=192_000, seconds=60, step_ms=2)
    with pytest.raises(ModelError, match=r"expected at most 268,435,456; lower task\.seconds"):
        workload_of(build_plan(task=large, backbone=CtcConfig(width=1024, depth=16)))
    assert workload_of(plan_of()).compute.physical_batch_size > 1
    wide = build_plan(task=large, backbone=CtcConfig(width=64, depth=8))
    assert workload_of(wide).compute.physical_batch_size < 32


# --- a trained model


@pytest.fixture
def run(tmp_path: Path) -> Path:
    plan = plan_of()
    workload = workload_of(plan)
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in trainable_tensors(workload.model).items()
    }
    save_model(tmp_path / "run" / "model", workload, tensors, plan)
    return tmp_path / "run"


@pytest.mark.parametrize("form", ["merged", pytest.param("onnx", marks=pytest.mark.slow)])
def test_a_model_exports_and_writes_the_same(form: str, run: Path, tmp_path: Path) -> None:
    records = loaded(
        write_spelled(tmp_path / "wards", count=4), num_clients=2, partitioner="natural"
    )
    comparison = export(run, form, tmp_path / "exported", check=records)
    assert comparison.exact
    assert comparison.num_labelled == 8
    own = load_predictor(run, compute=Compute())
    other = load_predictor((tmp_path / "exported").rename(tmp_path / "moved"), compute=Compute())
    assert torch.allclose(own.outputs(records), other.outputs(records), atol=1e-4)
    if form == "merged":
        alone = AutoModelForCTC.from_pretrained(tmp_path / "moved", trust_remote_code=True).eval()
        inputs = own.prepare(records).columns[SPECTROGRAM]
        with torch.no_grad():
            logits = alone(inputs).logits
        assert torch.allclose(logits, own.outputs(records), atol=1e-4)
        assert [alone.config.id2label[place] for place in range(5)] == ["<blank>", *" abc"]


def test_texts_are_written_for_folders_and_bytes_alike(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_spelled(tmp_path / "wards", count=3)
    files = sorted(folder.rglob("*.wav"))
    expected = predict(run, pandas.DataFrame({"audio": [path.read_bytes() for path in files]}))
    main([str(run), str(folder), "--output", str(tmp_path / "out.csv")])
    made = pandas.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert made["prediction"].tolist() == expected["prediction"].tolist()
    assert ": wer " in capsys.readouterr().err
    assert TASK.rate == RATE
