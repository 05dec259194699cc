"""Models that write texts from others: private steps, what they write, and exported folders."""

import logging
from pathlib import Path

import pytest
import torch
from builders import workload_of
from small_seq2seq import (
    FAMILIES,
    RECORDS,
    TASK,
    build_text_plan,
    make_end_tokenizer,
    make_seq2seq,
)
from transformers import AutoModelForSeq2SeqLM

from confide.client.training.private.dp_sgd import DpSgd
from confide.client.training.private.preflight import preflight
from confide.config.outcomes.text import TextConfig
from confide.config.privacy import PrivacyConfig
from confide.config.tasks.sequence_to_sequence import SequenceToSequenceConfig
from confide.errors import ConfigError, ModelError
from confide.inference.export import export
from confide.inference.prediction import predict
from confide.models.language.writing import WritingOptions
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model
from confide.models.workload import Workload
from confide.tasks.task import LABELS

PRIVATE = PrivacyConfig(unit="record", epsilon=8.0)


def losses(workload: Workload, model: torch.nn.Module, batch: dict[str, torch.Tensor]):  # type: ignore[no-untyped-def]
    return workload.task.loss(workload.outputs(model, batch), batch)


@pytest.mark.parametrize(
    ("family", "tuning", "book_keeping", "group_size"),
    [
        ("marian", "full", False, None),
        ("marian", "full", False, 4),
        ("marian", "lora", True, 4),
        *((family, "lora", kept, None) for family in FAMILIES for kept in (True, False)),
    ],
)
def test_clipped_sums_are_right_in_both_engines(
    tmp_path: Path, family: str, tuning: str, book_keeping: bool, group_size: int | None
) -> None:
    plan = build_text_plan(make_seq2seq(tmp_path, family), tuning, privacy=PRIVATE)
    workload = workload_of(plan)
    invented = workload.synthetic(8, torch.Generator().manual_seed(0))
    engine = DpSgd(
        workload.model.train(),
        lambda model, batch: losses(workload, model, batch),
        physical_batch_size=16,
        book_keeping=book_keeping,
        longest=32,
        group_size=group_size,
    )
    preflight(engine, invented, autocast=None)
    assert engine.book_keeping == book_keeping


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_families_that_cannot_be_trained_whole_are_refused_by_name(
    tmp_path: Path, family: str
) -> None:
    plan = build_text_plan(make_seq2seq(tmp_path, family))
    with pytest.raises(ModelError, match=rf"model_type={family}.* Choose tuning=lora"):
        workload_of(plan)


@pytest.mark.parametrize(
    ("tokens", "text", "why"),
    [
        (8000, 16, r"task\.max_tokens=8000: backbone\.name=.* takes at most 7000; lower it"),
        (6000, 16, r"task\.max_tokens=6000: attention of 8 heads .*; lower it to 5792"),
        (32, 5000, r"task\.outcome\.max_tokens=5000: so many times 60,000 words .* to 4473"),
        (32, 6000, r"task\.outcome\.max_tokens=6000: attention of 8 heads"),
    ],
)
def test_records_that_no_memory_takes_are_refused(
    tmp_path: Path, tokens: int, text: int, why: str
) -> None:
    backbone = make_seq2seq(
        tmp_path,
        vocab_size=60_000,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        max_position_embeddings=7000,
    )
    task = SequenceToSequenceConfig(max_tokens=tokens, outcome=TextConfig(max_tokens=text))
    with pytest.raises(ModelError, match=why):
        workload_of(build_text_plan(backbone, task=task))


@pytest.mark.parametrize(("tokens", "text"), [(3000, 16), (32, 3000)])
def test_records_that_no_memory_takes_in_all_layers_are_refused(
    tmp_path: Path, tokens: int, text: int
) -> None:
    """Attention of one layer would fit."""
    backbone = make_seq2seq(
        tmp_path,
        encoder_layers=8,
        decoder_layers=8,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        max_position_embeddings=7000,
    )
    task = SequenceToSequenceConfig(max_tokens=tokens, outcome=TextConfig(max_tokens=text))
    told = rf"at most 2,147,483,648; lower task\.max_tokens={tokens} or task\.outcome\.max_tokens"
    with pytest.raises(ModelError, match=told):
        workload_of(build_text_plan(backbone, task=task))


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_record_s_loss_is_the_same_in_any_company(tmp_path: Path, family: str) -> None:
    """Beside one as long, which leaves no padding in the batch, and beside a shorter one."""
    workload = workload_of(build_text_plan(make_seq2seq(tmp_path, family), "lora"))
    batch = workload.synthetic(2, torch.Generator().manual_seed(0)).take(torch.arange(2))
    width = batch["attention_mask"].shape[1]
    found = []
    with torch.no_grad():
        for length in (width, 1):
            batch["attention_mask"] = torch.ones_like(batch["attention_mask"])
            batch["attention_mask"][1, length:] = 0
            found.append(losses(workload, workload.model.train(), batch))
    assert found[0][0].equal(found[1][0])
    assert not found[0][1].equal(found[1][1])


def test_padding_and_what_stands_behind_a_text_change_no_loss(tmp_path: Path) -> None:
    workload = workload_of(build_text_plan(make_seq2seq(tmp_path)))
    batch = workload.task.encode(RECORDS).take(torch.arange(len(RECORDS)))
    other = {name: column.clone() for name, column in batch.items()}
    other["input_ids"][other["attention_mask"] == 0] = 7
    # The token after an end is read there and predicts nothing
    other["decoder_input_ids"][other[LABELS] < 0] = 9
    with torch.no_grad():
        assert losses(workload, workload.model, other).equal(
            losses(workload, workload.model, batch)
        )


def save_run(folder: Path, tuning: str) -> Path:
    plan = build_text_plan(make_seq2seq(folder / "backbone"), tuning)
    workload = workload_of(plan)
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in trainable_tensors(workload.model).items()
    }
    save_model(folder / "model", workload, tensors, plan)
    return folder


@pytest.fixture(scope="module", params=["full", "lora"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"), request.param)


def test_texts_are_the_likeliest_tokens_of_the_whole_model(run: Path) -> None:
    """Written by transformers alone, one after another and nothing kept."""
    tokenizer, folder = make_end_tokenizer(), run / "export" / "merged"
    assert export(run, "merged", folder).exact
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    found = predict(run, RECORDS)["prediction"].tolist()
    for source, text in zip(RECORDS["source"], found, strict=True):
        ids = torch.tensor([tokenizer(source)["input_ids"][:32]])
        written = [272]
        for _ in range(16):
            with torch.no_grad():
                logits = model(input_ids=ids, decoder_input_ids=torch.tensor([written])).logits
            logits[..., 272] = -torch.inf  # what pads is no word
            written.append(int(logits[0, -1].argmax()))
        end = written.index(0) if 0 in written else len(written)
        assert tokenizer.decode(written[:end], skip_special_tokens=True).strip() == text
    assert len(set(found)) > 1


def test_a_text_does_not_depend_on_others_and_needs_no_target(run: Path) -> None:
    together = predict(run, RECORDS)["prediction"].tolist()
    alone = RECORDS.remove_columns("target")
    assert [predict(run, alone.select([i]))["prediction"][0] for i in range(3)] == together


def test_an_exported_folder_writes_the_same_without_our_code(run: Path) -> None:
    folder = run / "export" / "again"
    assert export(run, "hf", folder).exact
    assert predict(folder, RECORDS).equals(predict(run, RECORDS))
    assert not list(folder.glob("*.py"))


def test_drawn_words_are_refused_and_reciting_is_told(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError, match="writes the likeliest words"):
        predict(run, RECORDS, writing=WritingOptions(temperature=1.0))
    with caplog.at_level(logging.WARNING):
        predict(run, RECORDS)
    assert sum("may recite" in record.message for record in caplog.records) == 1


def test_a_longer_text_than_positions_is_refused(tmp_path: Path) -> None:
    task = SequenceToSequenceConfig(max_tokens=100, outcome=TASK.outcome)
    with pytest.raises(ModelError, match=r"task\.max_tokens=100: .* takes at most 64"):
        workload_of(build_text_plan(make_seq2seq(tmp_path), task=task))
