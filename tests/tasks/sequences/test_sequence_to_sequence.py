"""Texts as tokens of an encoder and of a decoder: what is learnt, cut, told and refused."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from small_seq2seq import RECORDS, TASK, make_end_tokenizer

from confide.config.outcomes.text import TextConfig
from confide.config.tasks.sequence_to_sequence import SequenceToSequenceConfig
from confide.errors import DataError, ModelError
from confide.tasks.outcomes.answer import NOTHING
from confide.tasks.outcomes.text import Text
from confide.tasks.sequences.sequence_to_sequence import SequenceToSequence
from confide.tasks.sequences.written import DECODER
from confide.tasks.task import LABELS, TalliedTask

SETTINGS = SimpleNamespace(decoder_start_token_id=272, eos_token_id=0)


def task_of(
    config: SequenceToSequenceConfig = TASK, settings: SimpleNamespace = SETTINGS
) -> SequenceToSequence:
    return SequenceToSequence(config, tokenizer=make_end_tokenizer(), settings=settings)


def texts(source: str, target: str) -> Dataset:
    return Dataset.from_dict({"source": [source], "target": [target]})


def test_a_decoder_reads_the_text_one_place_later_and_the_start_before_it() -> None:
    examples, tokenizer = task_of().encode(RECORDS), make_end_tokenizer()
    inputs, labels = examples.columns[DECODER], examples.columns[LABELS]
    for row, target in enumerate(RECORDS["target"][:2]):
        known = labels[row] != NOTHING
        assert tokenizer.decode(labels[row][known]) == f"{target}<|end|>"
        assert int(inputs[row][0]) == 272
        assert inputs[row][1:][known[1:]].equal(labels[row][known][:-1])


def test_texts_beyond_their_limits_are_cut_and_told() -> None:
    long = texts("one " * 20, "eins " * 20)
    examples = task_of().encode(long)
    assert int(examples.lengths[0]) == 32
    assert int((examples.labels[0] != NOTHING).sum()) == 16
    (note,) = task_of().record_notes(long)
    assert "1 of 1 texts to be written are cut at task.outcome.max_tokens=16" in note
    assert task_of().record_notes(texts("one", "eins")) == []
    assert max(task_of().count_tokens(["one " * 20]).lengths) > 32


@pytest.mark.parametrize("column", ["source", "target"])
def test_text_that_holds_a_mark_of_the_tokenizer_is_refused(column: str) -> None:
    records = {"source": ["one", "two"], "target": ["eins", "zwei"]}
    records[column][1] = "a<|end|>b"
    with pytest.raises(DataError, match=r"Record 2: its text holds '<\|end\|>'"):
        task_of().encode(Dataset.from_dict(records))


@pytest.mark.parametrize(
    ("source", "target", "why"),
    [
        ("", "eins", "Column source: 1 of 1 texts are empty"),
        ("one", " ", "Column target: 1 of 1 .* are empty or missing"),
    ],
)
def test_texts_without_a_word_are_refused(source: str, target: str, why: str) -> None:
    with pytest.raises(DataError, match=why):
        task_of().encode(texts(source, target))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (SimpleNamespace(eos_token_id=0), "no decoder_start_token_id"),
        (SimpleNamespace(decoder_start_token_id=3, eos_token_id=5), "eos_token_id=5; bring"),
    ],
)
def test_a_model_that_does_not_say_where_a_text_begins_or_ends_is_refused(
    settings: SimpleNamespace, why: str
) -> None:
    with pytest.raises(ModelError, match=why):
        task_of(settings=settings)


def test_no_records_are_encoded_to_none() -> None:
    assert len(task_of().encode(RECORDS.select([]))) == 0


def test_one_column_for_both_texts_is_told() -> None:
    config = dataclasses.replace(TASK, outcome=TextConfig(column="source"))
    assert any("is source_column" in problem for problem in config.problems())


def outputs_of(task: SequenceToSequence, records: Dataset, *written: str) -> torch.Tensor:
    """Return what a model would give that is right at each place and writes as it is told."""
    labels = task.encode(records).labels
    outputs = torch.full((*labels.shape, 274), -1.0)
    outputs[..., :-1].scatter_(2, labels.clamp(min=0)[..., None], 20.0)
    for row, text in zip(outputs, written, strict=True):
        ids = make_end_tokenizer()(text)["input_ids"][:-1]
        row[: len(ids), -1] = torch.tensor(ids).float()
    return outputs


def test_written_texts_are_scored_and_not_the_tokens_after_right_ones() -> None:
    task, records = task_of(), texts("one two", "eins zwei")
    assert isinstance(task, TalliedTask)
    batch = task.encode(records).take(torch.arange(1))
    right, wrong = (outputs_of(task, records, text) for text in ("eins zwei", "drei"))
    scores = [task.metrics(task.tally(outputs, batch), batch[LABELS]) for outputs in (right, wrong)]
    assert [one["chrf"] == 100.0 for one in scores] == [True, False]
    assert [one["exact_match"] for one in scores] == [1.0, 1.0]
    assert task.predictions(wrong, batch) == {"prediction": ["drei"]}
    assert task.loss(right, batch).equal(task.loss(wrong, batch))


class StrictTokenizer:
    """A tokenizer that raises at tokens it has no word for, as SentencePiece does."""

    def __init__(self) -> None:
        self._own = make_end_tokenizer()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._own(*arguments, **options)

    def decode(self, ids: list[int], **options: Any) -> str:
        if not set(ids) <= set(self._own.get_vocab().values()):
            raise IndexError("piece id is out of range.")
        return str(self._own.decode(ids, **options))


def test_a_model_that_writes_no_words_is_scored_like_any_other() -> None:
    task = SequenceToSequence(TASK, tokenizer=StrictTokenizer(), settings=SETTINGS)
    examples = task.encode(texts("one", "eins"))
    outputs = torch.zeros(1, 16, 274)
    outputs[..., -1] = -1
    words = make_end_tokenizer()(text_target="eins")["input_ids"][:-1]
    outputs[0, : len(words) + 1, -1] = torch.tensor([270, *words]).float()
    assert task.predictions(outputs, examples.columns) == {"prediction": ["eins"]}
    assert task.tally(outputs, examples.columns).isfinite().all()


def test_texts_are_counted_as_texts() -> None:
    outcome = Text(TASK.outcome, TASK.labelling)  # type: ignore[arg-type]
    found = outcome.read({"target": ["a b", ""]})
    assert outcome.counts(found.values[found.known]) == {"texts": 1}
    assert "1 of 2 texts are empty" in found.problems[0].text
    (told,) = outcome.count_problems({"texts": 1}, total=2, minimum=2)
    assert "1 of 2 records have a text, expected at least" in told
