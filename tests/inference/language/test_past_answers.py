"""Past conversations that a language model is shown before it answers."""

import json
import logging
from pathlib import Path

import pandas
import pytest
import torch
from builders import workload_of
from datasets import Dataset
from small_language_models import RECORDS, TASK, build_answer_plan, make_language_model
from small_models import save_table_run
from transformers import AutoModelForCausalLM

from confide.cli import main
from confide.config.outcomes.answer import AnswerConfig
from confide.config.tasks.causal_lm import CausalLmConfig
from confide.errors import ConfigError, DataError
from confide.inference.export import export
from confide.inference.inputs import read_inputs
from confide.inference.language.past_answers import COLUMNS
from confide.inference.prediction import predict_in_parts, read_past, score
from confide.inference.predictor import Predictor, load_predictor
from confide.models.compute import Compute
from confide.models.language.writing import WritingOptions
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model
from confide.tasks.conversations.messages import Message, parse_messages

PAST = {
    "prompt": ["How do I cook rice?", "My card was stolen.", "When do you open on Sunday?"],
    "answer": ["Boil it.", "It is blocked.", "At nine."],
}
ASKED = {"prompt": ["Somebody took my card!", "Are you open on Sunday?"], "answer": ["It is.", ""]}


def save_run(folder: Path, task: CausalLmConfig = TASK) -> Path:
    plan = build_answer_plan(make_language_model(folder / "backbone"), task=task)
    workload = workload_of(plan)
    save_model(folder / "model", workload, trainable_tensors(workload.model), plan)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return load_predictor(run, compute=Compute())


def answers(predictor: Predictor, past: dict[str, list[str]]) -> tuple[pandas.DataFrame, dict]:
    inputs = read_inputs(predictor, pandas.DataFrame(ASKED))
    shown = read_past(predictor, pandas.DataFrame(past))
    parts = list(predict_in_parts(predictor, inputs, WritingOptions(), shown))
    return parts[0].frame, score(predictor, parts)[0]


def test_the_past_question_of_like_meaning_is_found(predictor: Predictor) -> None:
    frame, metrics = answers(predictor, PAST)
    assert list(frame.columns) == ["prediction", *COLUMNS]
    assert frame["past_question"].tolist() == [PAST["prompt"][1], PAST["prompt"][2]]
    assert frame["past_answer"].tolist() == ["It is blocked.", "At nine."]
    assert 0.4 < frame["past_similarity"].min() < frame["past_similarity"].max() < 1
    # "It is." is the first 6 of 14 letters; what was not answered counts in neither mean
    assert metrics["past_rouge_l"] == pytest.approx(2 * 6 / 20)


def test_the_first_of_equally_near_ones_is_found(predictor: Predictor) -> None:
    twice = {"prompt": ["My card!", "My card!"], "answer": ["First.", "Second."]}
    assert answers(predictor, twice)[0]["past_answer"].tolist() == ["First.", "First."]


def test_an_answer_is_written_after_the_past_conversation(
    run: Path, predictor: Predictor, tmp_path: Path
) -> None:
    export(run, "merged", tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    said = f"<|system|>Bank.<|end|>\n<|user|>{PAST['prompt'][1]}<|end|>\n<|assistant|>"
    said += f"It is blocked.<|end|>\n<|user|>{ASKED['prompt'][0]}<|end|>\n<|assistant|>"
    tokenizer = predictor.task._tokenizer  # type: ignore[attr-defined]
    prompt = tokenizer(said)["input_ids"][-(128 - 16) :]
    ids = torch.tensor([prompt])
    for _ in range(16):
        with torch.no_grad():
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(dim=-1)], dim=1)
    written = tokenizer.decode(ids[0, len(prompt) :], skip_special_tokens=False)
    frame, _ = answers(predictor, PAST)
    assert frame["prediction"][0] == written.split("<|end|>")[0].strip()


def test_past_messages_stand_behind_the_system_s() -> None:
    own = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    shown = parse_messages(json.dumps(own)).after([Message("user", "a"), Message("assistant", "b")])
    assert [one.content for one in shown.messages] == ["Be brief.", "a", "b", "Hi"]


def test_whole_conversations_are_found_by_their_last_question(tmp_path: Path) -> None:
    task = CausalLmConfig(
        messages_column="talk", max_tokens=64, outcome=AnswerConfig(max_tokens=16)
    )
    predictor = load_predictor(save_run(tmp_path, task), compute=Compute())
    talks = [
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        for question, answer in zip(PAST["prompt"], PAST["answer"], strict=True)
    ]
    open_talk = [{"role": "user", "content": "My card was stolen!"}]
    past = read_past(predictor, pandas.DataFrame({"talk": [*map(json.dumps, [*talks, open_talk])]}))
    asked = Dataset.from_dict({"talk": [json.dumps([*talks[0], *open_talk])]})
    # What nobody answered is no past answer
    assert past.nearest(asked)[0].conversation.answer == "It is blocked."
    assert past.nearest(asked)[0].shown == (
        Message("user", "My card was stolen."),
        Message("assistant", "It is blocked."),
    )


def test_it_is_said_that_a_past_conversation_may_be_repeated(
    predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        answers(predictor, PAST)
    assert sum("no epsilon covers that" in record.message for record in caplog.records) == 1


def test_what_cannot_be_shown_is_told_as_the_past_s(predictor: Predictor) -> None:
    odd = {"prompt": ["Hi", "<|system|>"], "answer": ["Hello.", "Yes."]}
    with pytest.raises(DataError, match=r"--past: Record 2: its text holds '<\|system\|>'"):
        answers(predictor, odd)
    with pytest.raises(DataError, match="--past: none of its conversations has an answer"):
        answers(predictor, {"prompt": ["Hi"], "answer": [""]})
    with pytest.raises(DataError, match="--past: The records lack column prompt"):
        answers(predictor, {"question": ["Hi"], "answer": ["Hello."]})


def test_an_answer_longer_than_the_model_counts_is_refused(predictor: Predictor) -> None:
    inputs = read_inputs(predictor, RECORDS)
    with pytest.raises(ConfigError, match=r"--max-new-tokens=128: .* at most 128 tokens"):
        list(predict_in_parts(predictor, inputs, WritingOptions(max_new_tokens=128)))


def test_the_command_writes_what_was_shown(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, past = tmp_path / "new.csv", tmp_path / "past.csv"
    pandas.DataFrame(ASKED).to_csv(new, index=False)
    pandas.DataFrame(PAST).to_csv(past, index=False)
    words = ["predict", str(run), str(new), "--past", str(past)]
    assert main([*words, "--output", str(tmp_path / "out.csv")]) == 0
    assert list(pandas.read_csv(tmp_path / "out.csv").columns)[-4:] == ["prediction", *COLUMNS]
    assert "past_rouge_l" in capsys.readouterr().err
    assert main([*words, "--past-encoder", str(tmp_path / "none")]) == 1
    pandas.DataFrame(ASKED).assign(past_answer="x").to_csv(new, index=False)
    assert main(words) == 2
    assert "have column past_answer already" in capsys.readouterr().err


def test_a_model_of_anything_else_is_not_shown_a_past(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = save_table_run(tmp_path / "run")
    (tmp_path / "new.csv").write_text("age,pain\n30,some\n")
    words = ["predict", str(table), str(tmp_path / "new.csv")]
    assert main([*words, "--past", "past.csv"]) == 2
    assert "only language models that answer conversations" in capsys.readouterr().err
    assert main([*words, "--past-encoder", "folder"]) == 2
    assert "name them with --past" in capsys.readouterr().err
