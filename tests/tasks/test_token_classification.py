"""Words as tokens: whose tag is where, what has none, and what counts all the same."""

from collections.abc import Sequence
from typing import Any

import numpy
import pytest
import torch
from datasets import Dataset
from seqeval.metrics import f1_score, precision_score, recall_score
from small_models import MINILM

from confide.config.outcomes.spans import SpansConfig
from confide.config.tasks.token_classification import TokenClassificationConfig
from confide.errors import DataError
from confide.metrics.outcomes.spans import figures_of
from confide.models.backbones import find_backbone, load_tokenizer
from confide.tasks import token_classification as module
from confide.tasks.spans.tagging import read_tags, spans_of
from confide.tasks.spans.words import list_text
from confide.tasks.task import LABELS, Examples
from confide.tasks.token_classification import TokenClassification

TYPES = ["PER", "LOC"]
JOINER = "\u200d"
NAMES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def task_of(**fields: Any) -> TokenClassification:
    outcome = fields.pop("outcome", SpansConfig(types=TYPES))
    config = TokenClassificationConfig(outcome=outcome, **fields)
    return TokenClassification(config, tokenizer=load_tokenizer(find_backbone(MINILM)))


def records(*rows: tuple[Sequence[str], Sequence[str]]) -> Dataset:
    words, tags = zip(*rows, strict=True)
    return Dataset.from_dict(
        {"words": list(map(list_text, words)), "tags": list(map(list_text, tags))}
    )


TASK = task_of(max_tokens=16)
PLAIN = (["He", "met", "Wolfeschlegelstein", "in", "Rome"], ["O", "O", "B-PER", "O", "B-LOC"])


def outputs_of(task: TokenClassification, examples: Examples, tags: Sequence[Sequence[str]]) -> Any:
    """Return outputs by which each word is given a tag."""
    shape = examples.columns["input_ids"].shape
    outputs = torch.zeros((*shape, 1 + 2 * len(TYPES)))
    for record, own in enumerate(tags):
        for at, row in enumerate(examples.labels[record].tolist()):
            if row[0] != -100:
                outputs[record, at, NAMES.index(own[row[1]])] = 5.0
    return outputs


def figures(task: TokenClassification, rows: Dataset, tags: Sequence[Sequence[str]]) -> Any:
    examples = task.encode(rows)
    batch = examples.take(torch.arange(len(examples)))
    return task.tally(outputs_of(task, examples, tags), batch)


def test_the_first_token_of_a_word_carries_its_tag() -> None:
    examples = TASK.encode(records(PLAIN))
    tags = examples.labels[0, :, 0]
    assert tags[tags != -100].tolist() == [0, 0, 1, 0, 3]
    pieces = load_tokenizer(find_backbone(MINILM)).tokenize("wolfeschlegelstein")
    assert len(pieces) > 2
    assert (tags == -100).sum() == len(tags) - 5


def test_a_words_tokens_are_those_that_the_tokenizer_gives_the_text() -> None:
    text = "He didn't meet Wolfeschlegelstein, in Rome!"
    tokenizer = load_tokenizer(find_backbone(MINILM))
    words = text.split()
    examples = TASK.encode(records((words, ["O"] * len(words))))
    assert (
        examples.columns["input_ids"][0, :16].tolist()
        == tokenizer(text, truncation=True, max_length=16)["input_ids"]
    )


def test_record_without_words_costs_nothing_and_is_no_nan() -> None:
    examples = TASK.encode(records(([], []), ([JOINER], ["O"]), PLAIN))
    batch = examples.take(torch.arange(3))
    outputs = torch.randn((*batch["input_ids"].shape, 5), requires_grad=True)
    losses = TASK.loss(outputs, batch)
    losses.sum().backward()
    assert losses[:2].tolist() == [0.0, 0.0]
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()


def test_loss_is_the_mean_of_a_records_own_words() -> None:
    rows = records(PLAIN, (["Rome"], ["B-LOC"]))
    examples = TASK.encode(rows)
    batch = examples.take(torch.arange(2))
    outputs = torch.randn((*batch["input_ids"].shape, 5))
    for record in range(2):
        tags = batch[LABELS][record, :, 0].long()
        there = tags != -100
        by_hand = -outputs[record].log_softmax(-1)[there, tags[there]].mean()
        assert TASK.loss(outputs, batch)[record] == pytest.approx(float(by_hand), rel=1e-6)
        alone = examples.take(torch.tensor([record]))
        width = alone["input_ids"].shape[1]
        own = TASK.loss(outputs[record : record + 1, :width], alone)
        assert own[0] == pytest.approx(float(by_hand), rel=1e-6)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_span_with_a_word_that_has_no_token_counts_as_missed(place: int) -> None:
    words = ["Anna", "Maria", "Rossi"]
    words[place] = JOINER
    rows = records((words, ["B-PER", "I-PER", "I-PER"]))
    told = told_of(rows, [["B-PER", "I-PER", "I-PER"]])
    assert (told["gold"], told["hits"], told["words"]) == (1, 0, 2)


def test_words_beyond_the_limit_stay_in_the_count() -> None:
    words = ["Rome"] * 40
    rows = records((words, ["B-LOC"] * 40))
    told = told_of(rows, [["B-LOC"] * 40])
    assert (told["gold"], told["hits"], told["predicted"], told["words"]) == (40, 14, 14, 14)


def told_of(rows: Dataset, tags: Sequence[Sequence[str]]) -> dict[str, float]:
    names = figures_of(TYPES, 8).most
    return dict(zip(names, figures(TASK, rows, tags)[0].tolist(), strict=True))


def drawn(count: int) -> tuple[Dataset, list[list[str]], list[list[str]]]:
    """Draw records, their tags as BIO, and predictions of their words."""
    rng = numpy.random.default_rng(0)
    rows, gold, predicted = [], [], []
    for _ in range(count):
        size = int(rng.integers(0, 30))
        words = rng.choice(["Rome", "Wolfeschlegelstein", "in", JOINER, "a"], size).tolist()
        tags = rng.choice(NAMES, size, p=[0.4, 0.15, 0.15, 0.15, 0.15]).tolist()
        rows.append((words, tags))
        gold.append(tags)
        predicted.append(rng.choice(NAMES, size, p=[0.4, 0.15, 0.15, 0.15, 0.15]).tolist())
    return records(*rows), gold, predicted


def test_metrics_are_those_of_seqeval_on_all_words_and_pool() -> None:
    rows, gold, predicted = drawn(80)
    # Some are right
    for own, tags in zip(predicted, gold, strict=True):
        own[: len(own) // 2] = tags[: len(own) // 2]
    tallies = figures(TASK, rows, predicted)
    examples = TASK.encode(rows)
    whole = []
    for record, tags in enumerate(predicted):
        seen = {row[1] for row in examples.labels[record].tolist() if row[0] != -100}
        whole.append([tag if word in seen else "O" for word, tag in enumerate(tags)])
    metrics = TASK.metrics(tallies, examples.labels)
    assert metrics["entity_f1"] == pytest.approx(f1_score(gold, whole), abs=1e-12)
    assert metrics["entity_precision"] == pytest.approx(precision_score(gold, whole), abs=1e-12)
    assert metrics["entity_recall"] == pytest.approx(recall_score(gold, whole), abs=1e-12)
    for cut in (1, 33):
        parts = torch.stack([tallies[:cut].sum(dim=0), tallies[cut:].sum(dim=0)])
        assert TASK.metrics(parts, examples.labels[:2]) == pytest.approx(metrics, abs=1e-12)


def test_tally_of_a_record_does_not_depend_on_its_batch() -> None:
    rows, _, predicted = drawn(12)
    together = figures(TASK, rows, predicted)
    for record in range(12):
        alone = figures(TASK, rows.select([record]), predicted[record : record + 1])
        assert torch.allclose(alone[0], together[record], atol=1e-6)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["B-PERS"], r"unknown tag 'B-PERS' \(1 word\)"),
        (["O", "O"], "1 of 1 records have another number of tags than column words has words"),
    ],
)
def test_what_does_not_fit_is_told(tags: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TASK.encode(records((["Anna"], tags)))


def test_plan_cannot_ask_for_more_than_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = records(PLAIN, PLAIN)
    values = 2 * TASK.encode(rows).labels[0].numel()
    monkeypatch.setattr(module, "MOST_VALUES", values)
    TASK.encode(rows)
    monkeypatch.setattr(module, "MOST_VALUES", values - 1)
    with pytest.raises(DataError, match=r"2 records of up to \d+ tokens, with 2 types"):
        TASK.encode(rows)


def test_numbers_stand_for_tags() -> None:
    outcome = SpansConfig(types=TYPES, tag_values={"0": "O", "1": "B-PER", "2": "I-PER"})
    rows = Dataset.from_dict({"words": ['["Anna","Rossi","ran"]'], "tags": ['["1","2","0"]']})
    tags = task_of(outcome=outcome).encode(rows).labels[0, :, 0]
    assert tags[tags != -100].tolist() == [1, 2, 0]


def test_unknown_characters_are_hashed_alike_everywhere() -> None:
    plain, hashed = (
        task_of(words="characters", unknown=how) for how in ("unknown_token", "hashed")
    )
    rows = Dataset.from_dict({"words": ["海钓比赛𠮷"], "tags": ["*"]})
    before, after = (task.encode(rows).columns["input_ids"][0].tolist() for task in (plain, hashed))
    unknown = 100
    assert before.count(unknown) >= 1
    assert unknown not in after
    # Characters that are known keep their tokens
    assert [one for one in before if one != unknown] == [
        new for old, new in zip(before, after, strict=True) if old != unknown
    ]
    again = task_of(words="characters", unknown="hashed").encode(
        Dataset.from_dict({"words": ["𠮷"], "tags": ["*"]})
    )
    assert again.columns["input_ids"][0, 1] == after[5]


def test_invented_records_fit_and_hold_what_encoding_has_to_cope_with() -> None:
    for scheme in ("bio", "bmes", "bioes"):
        outcome = SpansConfig(types=TYPES, scheme=scheme)
        task = task_of(outcome=outcome, max_tokens=16)
        examples = task.synthetic(33, torch.Generator().manual_seed(0))
        labels = examples.labels
        assert (labels[:, :, 3:].clamp(min=0).sum(dim=(1, 2)) > 0).any()
        assert len(set((examples.lengths if examples.lengths is not None else labels).tolist())) > 3
        assert {0, 1, 2, 3, 4} <= set(labels[:, :, 0].flatten().tolist())


def test_spans_of_tags_are_what_a_prediction_says() -> None:
    rows = records((["Anna", JOINER, "Rossi", "of", "Rome"], ["O"] * 5))
    examples = TASK.encode(rows)
    given = [["I-PER", "O", "I-PER", "O", "B-LOC"]]
    columns = TASK.predictions(outputs_of(TASK, examples, given), examples.take(torch.tensor([0])))
    told = TASK.completed(columns, rows)
    assert told["predicted_tags"] == ['["B-PER","O","B-PER","O","B-LOC"]']
    assert told["prediction"] == [
        '[{"type": "PER", "start": 0, "end": 1, "text": "Anna"},'
        ' {"type": "PER", "start": 2, "end": 3, "text": "Rossi"},'
        ' {"type": "LOC", "start": 4, "end": 5, "text": "Rome"}]'
    ]
    read = read_tags(["B-PER", "O", "B-PER", "O", "B-LOC"], "bio", TYPES)
    assert len(list(spans_of(read.tags))) == 3


def test_half_of_a_character_is_told() -> None:
    rows = Dataset.from_dict({"words": ['["a\\ud800", "b"]'], "tags": ["O O"]})
    with pytest.raises(DataError, match="Column words: 1 of 1 texts hold half of a character"):
        TASK.encode(rows)


def test_brackets_without_end_are_a_word() -> None:
    examples = TASK.encode(Dataset.from_dict({"words": ["[" * 100_000], "tags": ["O"]}))
    assert len(examples) == 1
