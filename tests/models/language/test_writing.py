"""Answers that a trained language model writes, and folders that it is exported to."""

import json
import logging
from pathlib import Path

import pandas
import pytest
import torch
from builders import workload_of
from datasets import Dataset
from small_language_models import (
    RECORDS,
    TASK,
    build_answer_plan,
    make_language_model,
    make_tokenizer,
)
from transformers import AutoModelForCausalLM

from confide.client.commands.predict import main as predict_main
from confide.config.outcomes.answer import AnswerConfig
from confide.config.tasks.causal_lm import CausalLmConfig
from confide.errors import ConfigError, DataError
from confide.inference.export import export
from confide.inference.prediction import predict
from confide.models.language.writing import WritingOptions
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model

DRAWN = WritingOptions(temperature=1.0, seed=3)


def save_run(folder: Path, task: CausalLmConfig = TASK) -> Path:
    plan = build_answer_plan(make_language_model(folder / "backbone"), task=task)
    workload = workload_of(plan)
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in trainable_tensors(workload.model).items()
    }
    save_model(folder / "model", workload, tensors, plan)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


def greedy(model: AutoModelForCausalLM, prompt: list[int], most: int) -> list[int]:
    """Write by the whole model, one token after another, and nothing kept."""
    ids = torch.tensor([prompt])
    for _ in range(most):
        with torch.no_grad():
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(dim=-1)], dim=1)
    return ids[0, len(prompt) :].tolist()


def test_answers_are_the_likeliest_tokens_of_the_whole_model(run: Path) -> None:
    tokenizer = make_tokenizer()
    merged = run / "export" / "merged"
    export(run, "merged", merged)
    model = AutoModelForCausalLM.from_pretrained(merged)
    found = predict(run, RECORDS)["prediction"].tolist()
    for question, answer in zip(RECORDS["prompt"], found, strict=True):
        talk = [{"role": "system", "content": "Bank."}, {"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(talk, add_generation_prompt=True)["input_ids"]
        written = greedy(model, prompt, 16)
        end = written.index(0) if 0 in written else len(written)
        assert tokenizer.decode(written[:end], skip_special_tokens=True).strip() == answer


def test_an_answer_does_not_depend_on_other_questions(run: Path) -> None:
    together = predict(run, RECORDS)["prediction"].tolist()
    assert [predict(run, RECORDS.select([i]))["prediction"][0] for i in range(3)] == together
    one, other = (predict(run, RECORDS.select(rows), writing=DRAWN) for rows in ([0], [0, 2]))
    assert one["prediction"][0] == other["prediction"][0]


def test_drawn_answers_repeat_by_their_seed(run: Path) -> None:
    first, again = (predict(run, RECORDS, writing=DRAWN)["prediction"].tolist() for _ in range(2))
    other = predict(run, RECORDS, writing=WritingOptions(temperature=1.0, seed=4))
    assert first == again
    assert first != other["prediction"].tolist()


def test_an_answer_is_as_long_as_asked_at_most(run: Path) -> None:
    short = predict(run, RECORDS, writing=WritingOptions(max_new_tokens=2))["prediction"]
    assert all(len(make_tokenizer()(text)["input_ids"]) <= 6 for text in short)
    assert short.tolist() != predict(run, RECORDS)["prediction"].tolist()


@pytest.mark.parametrize(
    "wrong", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        WritingOptions(**wrong)  # type: ignore[arg-type]


def test_a_model_trained_without_privacy_says_that_it_may_recite(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        predict(run, RECORDS)
    assert sum("may recite conversations" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("form", ["hf", "merged"])
def test_an_exported_model_writes_the_same_and_transformers_loads_it(run: Path, form: str) -> None:
    folder = run / "export" / f"again-{form}"
    comparison = export(run, form, folder)
    assert comparison.exact
    assert predict(folder, RECORDS).equals(predict(run, RECORDS))
    assert not list(folder.glob("*.py"))
    assert AutoModelForCausalLM.from_pretrained(folder).config.num_hidden_layers == 3
    if form == "hf":
        adapter = json.loads((folder / "adapter_config.json").read_text())
        assert adapter["layers_to_transform"] == [2]


def test_onnx_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match="exported to hf, merged only"):
        export(run, "onnx")


def test_whole_conversations_are_answered_with_their_answer_or_without(tmp_path: Path) -> None:
    task = CausalLmConfig(
        messages_column="talk", max_tokens=64, outcome=AnswerConfig(max_tokens=16)
    )
    folder = save_run(tmp_path, task)
    asked = [{"role": "user", "content": "Where is my card?"}]
    told = [*asked, {"role": "assistant", "content": "On its way."}]
    records = Dataset.from_dict({"talk": [json.dumps(asked), json.dumps(told)]})
    first, second = predict(folder, records)["prediction"]
    assert first == second


def test_a_question_that_is_missing_is_told(run: Path) -> None:
    with pytest.raises(DataError, match="lack column prompt"):
        predict(run, pandas.DataFrame({"question": ["Hi"]}))


def test_the_command_writes_answers_and_scores_known_ones(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "new.csv", tmp_path / "out.csv"
    source.write_text("prompt,answer\nHi,Hello\nWhere is my card?,\n")
    assert predict_main([str(run), str(source), "--output", str(target), "--max-new-tokens=4"]) == 0
    assert list(pandas.read_csv(target).columns) == ["prompt", "answer", "prediction"]
    said = capsys.readouterr().err
    assert "on 1 labelled ones" in said
    assert "rouge_l" in said
