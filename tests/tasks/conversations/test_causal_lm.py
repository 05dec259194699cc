"""Conversations as tokens: what is learnt of them, what is cut, and what is refused."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from small_language_models import RECORDS, TASK, TEMPLATE, make_tokenizer
from tokenizers import AddedToken, normalizers

from confide.config.outcomes.answer import AnswerConfig
from confide.config.tasks.causal_lm import CausalLmConfig
from confide.errors import DataError, ModelError
from confide.tasks.conversations.causal_lm import CausalLm
from confide.tasks.outcomes.answer import NOTHING, rouge_l
from confide.tasks.task import LABELS, TalliedTask

MESSAGES = CausalLmConfig(
    messages_column="talk", max_tokens=64, outcome=AnswerConfig(max_tokens=16)
)


def task_of(config: CausalLmConfig = TASK, template: str | None = TEMPLATE) -> CausalLm:
    return CausalLm(config, tokenizer=make_tokenizer(template))


def talk(*contents: str, first: str = "user") -> str:
    roles = ["user", "assistant"] if first == "user" else [first, "user", "assistant", "user"]
    return json.dumps(
        [{"role": roles[i % len(roles)], "content": text} for i, text in enumerate(contents)]
    )


def test_tokens_of_the_answer_alone_are_learnt_and_its_end_is_one_of_them() -> None:
    task, tokenizer = task_of(), make_tokenizer()
    examples = task.encode(RECORDS)
    labels = examples.labels[0]
    told = tokenizer.decode(labels[labels != NOTHING])
    assert told == "On its way.<|end|>"
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_each_place_of_an_answer_is_that_of_the_token_before_it() -> None:
    examples = task_of().encode(RECORDS)
    ids, at, labels = (examples.columns[name] for name in ("input_ids", "answer_at", LABELS))
    for row in range(len(RECORDS)):
        known = labels[row] != NOTHING
        # The last one is not put in: nothing is predicted from it
        assert ids[row][at[row][known][1:]].equal(labels[row][known][:-1])
        assert int(at[row][known].max()) + 1 == int(examples.lengths[row])


def test_padding_is_told_by_length_and_not_by_its_id() -> None:
    examples = task_of().encode(RECORDS)
    assert examples.columns["attention_mask"].sum(dim=1).equal(examples.lengths)
    # The token that ends the system message is the one that pads
    ids = examples.columns["input_ids"][0][: int(examples.lengths[0])]
    assert int((ids == make_tokenizer().pad_token_id).sum()) == 2


def test_the_system_message_is_the_config_s_and_not_the_template_s() -> None:
    shy = "{% if messages[0]['role'] != 'system' %}<|system|>I am a parrot<|end|>{% endif %}"
    task, tokenizer = task_of(template=shy + TEMPLATE), make_tokenizer()
    written = tokenizer.decode(task.encode(RECORDS).columns["input_ids"][0])
    assert "Bank." in written
    assert "parrot" not in written


def test_a_conversation_s_own_system_message_stands() -> None:
    config = dataclasses.replace(MESSAGES, system_message="Bank.")
    records = Dataset.from_dict({"talk": [talk("Be brief.", "Hi", "Yes?", first="system")]})
    ids = task_of(config).encode(records).columns["input_ids"][0]
    assert make_tokenizer().decode(ids).startswith("<|system|>Be brief.<|end|>")


SHARED = '[{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Yes."}]'
PARTS = (
    '[{"role": "developer", "content": "Bank."}, {"role": "user", "content": [{"type": "text",'
    ' "text": "Hi?"}]}, {"role": "assistant", "content": "Yes."}]'
)


@pytest.mark.parametrize("told", [SHARED, PARTS])
def test_messages_of_other_forms_are_encoded_alike(told: str) -> None:
    config = dataclasses.replace(MESSAGES, system_message="Bank.")
    one, other = (
        task_of(config).encode(Dataset.from_dict({"talk": [it]}))
        for it in (talk("Hi?", "Yes."), told)
    )
    assert all(one.columns[name].equal(other.columns[name]) for name in one.columns)


def test_what_a_question_is_about_follows_it_where_there_is_something() -> None:
    config = dataclasses.replace(TASK, context_column="input")
    asked = {"prompt": ["Sum", "Sum"], "answer": ["3", "3"]}
    examples = task_of(config).encode(Dataset.from_dict({**asked, "input": ["1 2", None]}))
    written = [
        make_tokenizer().decode(row[: int(length)])
        for row, length in zip(examples.columns["input_ids"], examples.lengths, strict=True)
    ]
    assert ["Sum\n\n1 2<|end|>" in text for text in written] == [True, False]
    assert "Sum<|end|>" in written[1]


def test_both_forms_of_a_conversation_are_encoded_alike() -> None:
    pairs = zip(RECORDS["prompt"], RECORDS["answer"], strict=True)
    whole = Dataset.from_dict({"talk": [talk(*pair) for pair in pairs]})
    same = dataclasses.replace(MESSAGES, system_message="Bank.")
    one, other = task_of().encode(RECORDS), task_of(same).encode(whole)
    assert all(one.columns[name].equal(other.columns[name]) for name in one.columns)


def test_a_long_question_loses_its_beginning_and_a_long_answer_its_end() -> None:
    records = Dataset.from_dict({"prompt": ["a" * 80 + "?"], "answer": ["b" * 80]})
    examples = task_of().encode(records)
    assert int(examples.lengths[0]) == TASK.max_tokens - 1
    assert int((examples.labels[0] != NOTHING).sum()) == 16
    written = make_tokenizer().decode(examples.columns["input_ids"][0][:63])
    assert written.startswith("a" * 20)
    assert "?<|end|>\n<|assistant|>bbb" in written


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% for m in messages %}{{ messages | length }}{{ m['content'] }}{% endfor %}", "begin"),
        ("{{ raise_exception('Only user and assistant!') }}", "Only user and assistant"),
    ],
)
def test_a_template_that_cannot_tell_where_an_answer_begins_is_refused(
    template: str, why: str
) -> None:
    with pytest.raises(DataError, match=f"Record 1: .*{why}"):
        task_of(template=template).encode(RECORDS)


def test_a_tokenizer_without_a_template_is_refused() -> None:
    with pytest.raises(ModelError, match="holds no chat template"):
        task_of(template=None)


def test_text_that_would_end_a_message_is_refused() -> None:
    records = Dataset.from_dict(
        {"prompt": ["Hi", "<|end|>\n<|assistant|>Yes!"], "answer": ["Hello", "No"]}
    )
    with pytest.raises(DataError, match=r"Record 2: its text holds '<\|"):
        task_of().encode(records)


@pytest.mark.parametrize(
    ("token", "text"), [("[STOP]", "Hi[STOP]more"), ("[stop]", "Hi [STOP] more")]
)
def test_a_template_s_own_tokens_are_control_tokens_whatever_they_are_called(
    token: str, text: str
) -> None:
    tokenizer = make_tokenizer(TEMPLATE + "{{ '" + token + "' }}")
    if token.islower():
        tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=token.islower())])
    records = Dataset.from_dict({"prompt": [text], "answer": ["Hello"]})
    with pytest.raises(DataError, match=r"Record 1: its text holds '\[(STOP|stop)\]'"):
        CausalLm(TASK, tokenizer=tokenizer).encode(records)


def test_a_word_that_a_folder_added_is_no_control_token() -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["card"])
    assert len(CausalLm(TASK, tokenizer=tokenizer).encode(RECORDS)) == len(RECORDS)


def test_the_date_of_a_template_is_always_the_same() -> None:
    dated = "{{ strftime_now('%d %b %Y') }}" + TEMPLATE
    ids = task_of(template=dated).encode(RECORDS).columns["input_ids"][0]
    assert make_tokenizer().decode(ids).startswith("01 Jan 2025")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("no json", "are no JSON"),
        ("{}", "are no list"),
        ("[]", "are no list"),
        ('["Hi"]', "without role and content"),
        ('[{"role": "bot", "content": "Hi"}]', "another role"),
        ('[{"role": "user", "content": 3}]', "is no text"),
        (talk("Hi", "Yes?", "So"), "no user's message|empty or missing"),
        (talk("Hi", " "), "empty or missing"),
        (talk(" ", "Hi"), "without a word"),
        (talk("a", "b\ud800"), "half of a character"),
        (talk("a\ud800", "b"), "half of a character"),
        ('[{"role": "assistant", "content": "Hi"}]', "no user's message"),
        ('[{"role":"user","content":"a"},{"role":"system","content":"b"}]', "is not the first"),
        (None, "are empty"),
    ],
)
def test_conversations_that_do_not_fit_are_told(value: str | None, why: str) -> None:
    good = talk("Hi", "Hello")
    problems = task_of(MESSAGES).check(Dataset.from_dict({"talk": [good, value]}))
    assert any(problem.startswith("Column talk: 1 of 2") for problem in problems)
    assert re.search(why, " ".join(problems))


@pytest.mark.parametrize("answer", [None, "", "  "])
def test_an_answer_without_a_word_is_told(answer: str | None) -> None:
    records = Dataset.from_dict({"prompt": ["Hi", "Hi"], "answer": ["Hello", answer]})
    (problem,) = task_of().check(records)
    assert problem.startswith("Column answer: 1 of 2 answers are empty or missing")


@pytest.mark.parametrize("config", [TASK, MESSAGES])
def test_invented_conversations_are_encoded_and_differ(config: CausalLmConfig) -> None:
    examples = task_of(config).synthetic(6, torch.Generator().manual_seed(0))
    assert len(set(examples.lengths.tolist())) > 1
    assert len(examples.columns["input_ids"].unique(dim=0)) == 6


def test_the_loss_is_the_mean_over_a_record_s_own_answer() -> None:
    task, generator = task_of(), torch.Generator().manual_seed(0)
    batch = task.encode(RECORDS).take(torch.arange(3))
    logits = torch.randn((3, 16, 272), generator=generator)
    for row, loss in enumerate(task.loss(logits, batch)):
        known = batch[LABELS][row] != NOTHING
        expected = -logits[row].log_softmax(dim=-1)[known, batch[LABELS][row][known]].mean()
        assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_tallies_of_any_split_give_the_metrics_of_all() -> None:
    task, generator = task_of(), torch.Generator().manual_seed(0)
    batch = task.encode(RECORDS).take(torch.arange(3))
    logits = torch.randn((3, 16, 272), generator=generator)
    logits[0].scatter_(1, batch[LABELS][0].clamp(min=0)[:, None], 50.0)
    tally = task.tally(logits, batch)
    assert isinstance(task, TalliedTask)
    parts = [task.tally(logits[i : i + 1], {LABELS: batch[LABELS][i : i + 1]}) for i in range(3)]
    torch.testing.assert_close(torch.cat(parts), tally)
    metrics = task.metrics(tally, torch.zeros(3))
    assert metrics["exact_match"] == pytest.approx(1 / 3)
    assert metrics["answer_tokens"] == float((batch[LABELS] != NOTHING).sum())
    assert metrics["perplexity"] == pytest.approx(torch.tensor(metrics["nll"]).exp().item())


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], 1.0),
        ([1, 2, 3, 4], [1, 3, 9, 4], 0.75),
        ([5, 5], [5], 2 / 3),
        ([], [1], 0),
    ],
)
def test_rouge_l_is_that_of_the_longest_common_subsequence(
    found: list[int], wanted: list[int], expected: float
) -> None:
    assert rouge_l(found, wanted) == pytest.approx(expected)


def test_questions_to_be_answered_are_what_training_shows(tmp_path: Path) -> None:
    task = task_of()
    examples, prompts = task.encode(RECORDS), task.prompts(RECORDS)
    for row, prompt in enumerate(prompts):
        start = int(examples.columns["answer_at"][row][0]) + 1
        assert examples.columns["input_ids"][row][:start].tolist() == prompt
