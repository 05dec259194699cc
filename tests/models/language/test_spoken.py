"""A tiny Whisper: trained record by record in both engines, heard by itself, written, exported."""

from pathlib import Path
from types import SimpleNamespace

import numpy
import pandas
import pytest
import torch
from builders import workload_of
from small_seq2seq import make_end_tokenizer, make_seq2seq
from small_whisper import TASK, build_whisper_plan, make_whisper
from sounds_made import RATE, spelled, wav
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForSpeechSeq2Seq, WhisperFeatureExtractor

from confide.client.records.checked import load_checked_records
from confide.client.training.private.dp_sgd import DpSgd
from confide.client.training.private.preflight import preflight
from confide.config.composing.compose import compose
from confide.config.data import DataConfig
from confide.config.outcomes.text import TextConfig
from confide.config.outcomes.transcript import TranscriptConfig
from confide.config.tasks.media.speech_recognition import SpeechRecognitionConfig
from confide.errors import ConfigError, DataError, ModelError
from confide.inference.export import export
from confide.inference.prediction import predict
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model
from confide.sounds.log_mel import whisper_features
from confide.tasks.media.speech_recognition import FEATURES
from confide.tasks.sequences.written import DECODER, WrittenTexts
from confide.tasks.task import LABELS

TEXTS = ("abc a", "cab", "b")


def recordings() -> pandas.DataFrame:
    generator = numpy.random.default_rng(0)
    files = [wav(spelled(text, generator)) for text in TEXTS]
    return pandas.DataFrame({"audio": files, "text": TEXTS})


@pytest.mark.parametrize(
    ("tuning", "book_keeping", "group_size"),
    [("lora", True, None), ("lora", False, None), ("lora", True, 4), ("full", False, None)],
)
def test_clipped_sums_are_right_in_both_engines(
    tmp_path: Path, tuning: str, book_keeping: bool, group_size: int | None
) -> None:
    workload = workload_of(build_whisper_plan(make_whisper(tmp_path), tuning))
    invented = workload.synthetic(8, torch.Generator().manual_seed(0))
    engine = DpSgd(
        workload.model.train(),
        workload.losses,
        physical_batch_size=16,
        book_keeping=book_keeping,
        group_size=group_size,
    )
    preflight(engine, invented, autocast=None)
    assert engine.book_keeping == book_keeping


def test_training_draws_nothing_and_a_record_changes_its_own_loss_alone(tmp_path: Path) -> None:
    """SpecAugment, LayerDrop and dropout are on in the folder."""
    workload = workload_of(build_whisper_plan(make_whisper(tmp_path), "lora"))
    model = workload.model.train()
    batch = workload.synthetic(3, torch.Generator().manual_seed(0)).take(torch.arange(3))
    with torch.no_grad():
        before, again = workload.losses(model, batch), workload.losses(model, batch)
        batch[FEATURES][1] = batch[FEATURES][0]
        after = workload.losses(model, batch)
    assert before.equal(again)
    assert (before != after).tolist() == [False, True, False]


def test_a_recording_is_heard_as_whispers_own_extractor_makes_it() -> None:
    samples = spelled("abc", numpy.random.default_rng(1)).astype(numpy.float32)
    found = whisper_features(samples, RATE, TASK, shape=(16, 70))
    extractor = WhisperFeatureExtractor(feature_size=16)
    extractor.n_samples = 70 * 160
    made = extractor(samples, sampling_rate=RATE, max_length=70 * 160).input_features[0]
    assert numpy.abs(found - made).max() < 1e-4


def save_run(folder: Path, tuning: str) -> Path:
    plan = build_whisper_plan(make_whisper(folder / "backbone"), tuning)
    workload = workload_of(plan)
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in trainable_tensors(workload.model).items()
    }
    save_model(folder / "model", workload, tensors, plan)
    return folder


@pytest.fixture(scope="module", params=["lora", pytest.param("full", marks=pytest.mark.slow)])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"), request.param)


def test_texts_are_the_likeliest_tokens_of_the_exported_model(run: Path) -> None:
    """Written by transformers alone, one after another and nothing kept."""
    tokenizer, folder = make_end_tokenizer(), run / "export" / "merged"
    assert export(run, "merged", folder).exact
    assert not list(folder.glob("*.py"))
    model = AutoModelForSpeechSeq2Seq.from_pretrained(folder).eval()
    records = recordings()
    found = predict(run, records)["prediction"].tolist()
    for text, said in zip(found, TEXTS, strict=True):
        samples = spelled_again(said)
        heard = torch.from_numpy(whisper_features(samples, RATE, TASK, shape=(16, 70)))[None]
        written = [272]
        for _ in range(16):
            with torch.no_grad():
                outputs = model(input_features=heard, decoder_input_ids=torch.tensor([written]))
            outputs.logits[..., 272] = -torch.inf  # what pads is no word
            written.append(int(outputs.logits[0, -1].argmax()))
        end = written.index(0) if 0 in written else len(written)
        assert tokenizer.decode(written[:end], skip_special_tokens=True).strip() == text


def spelled_again(said: str) -> numpy.ndarray:
    """Return what a file holds of a text of :data:`TEXTS`, as it is read."""
    generator = numpy.random.default_rng(0)
    levels = {text: spelled(text, generator) for text in TEXTS}[said]
    whole = numpy.round(levels * (2**15 - 1)) / 2**15
    return whole.astype(numpy.float32)


def test_a_text_does_not_depend_on_others_and_needs_no_target(run: Path) -> None:
    records = recordings()
    together = predict(run, records)["prediction"].tolist()
    alone = records.drop(columns="text")
    assert [predict(run, alone[i : i + 1])["prediction"].iloc[0] for i in range(3)] == together
    folder = run / "export" / "hf"
    assert export(run, "hf", folder).exact
    assert predict(folder, records)["prediction"].tolist() == together


def test_a_start_that_a_tokenizer_writes_itself_is_not_learnt_twice() -> None:
    """As Whisper's does, before a language and what it is to do."""
    tokenizer, settings = (
        make_end_tokenizer(),
        SimpleNamespace(decoder_start_token_id=272, eos_token_id=0),
    )
    expected = WrittenTexts(TASK, tokenizer=tokenizer, settings=settings).columns(["abc"])
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<pad> $A <|end|>", special_tokens=[("<|end|>", 0), ("<pad>", 272)]
    )
    assert tokenizer("abc")["input_ids"][0] == 272
    found = WrittenTexts(TASK, tokenizer=tokenizer, settings=settings).columns(["abc"])
    assert found[DECODER].equal(expected[DECODER])
    assert found[LABELS].equal(expected[LABELS])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rate": 8000}, r"hears 16000 samples a second and at most 0\.7 seconds"),
        ({"seconds": 0.8}, r"task\.seconds=0\.8: the backbone hears"),
        ({"outcome": TextConfig(column="text", max_tokens=33)}, "takes at most 32"),
    ],
)
def test_what_the_model_cannot_hear_or_write_is_refused(
    tmp_path: Path, changes: dict[str, object], why: str
) -> None:
    settings = {"seconds": 0.7, "outcome": TASK.outcome, **changes}
    task = SpeechRecognitionConfig(**settings)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=why):
        workload_of(build_whisper_plan(make_whisper(tmp_path), "lora", task=task))


def test_characters_are_refused_of_a_model_that_writes_tokens(tmp_path: Path) -> None:
    task = SpeechRecognitionConfig(seconds=0.7, outcome=TranscriptConfig())
    with pytest.raises(ConfigError, match=r"kind=seq2seq does not predict .*kind=transcript"):
        workload_of(build_whisper_plan(make_whisper(tmp_path), "lora", task=task))


def test_a_model_of_texts_is_refused(tmp_path: Path) -> None:
    plan = build_whisper_plan(make_seq2seq(tmp_path), "lora")
    with pytest.raises(ModelError, match=r"model_type=marian; expected a model of recordings"):
        workload_of(plan)


def test_what_is_said_decides_unless_somebody_names_other_metrics() -> None:
    words = (
        *("task=speech_recognition", "task/outcome=text", "backbone=seq2seq", "tuning=lora"),
        *("backbone.name=/x", "data=default", "data.path=x.csv", "data.public=true"),
    )
    task = compose([*words]).task
    assert (task.primary_metric, task.metrics[:2]) == ("wer", ["wer", "cer"])
    assert compose([*words, "task.metrics=[cer]"]).task.primary_metric == "cer"


def test_marks_and_empty_texts_are_refused(tmp_path: Path) -> None:
    workload = workload_of(build_whisper_plan(make_whisper(tmp_path), "lora"))
    records = recordings()
    records["text"] = ["a", "b<|end|>", "c"]
    records.to_parquet(tmp_path / "t.parquet")
    config = DataConfig(path=str(tmp_path / "t.parquet"), num_clients=1, partitioner="iid")
    loaded = load_checked_records(config, TASK).records
    with pytest.raises(DataError, match=r"Record \d: its text holds '<\|end\|>'"):
        workload.task.encode(loaded)
    records["text"] = ["a", " ", "c"]
    records.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"Column text: 1 of 3 .* are empty"):
        load_checked_records(config, TASK)
