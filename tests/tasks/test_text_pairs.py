"""Pairs of texts: joined as the tokenizer joins them, and told apart by what it says of tokens."""

import dataclasses
from pathlib import Path

import pytest
import torch
from builders import build_plan, build_tuning, workload_of
from datasets import Dataset
from small_models import MINILM, make_backbone

from confide.client.training.private.dp_sgd import DpSgd
from confide.client.training.private.preflight import preflight
from confide.config.composing.compose import compose
from confide.config.models.transformer import TransformerConfig
from confide.config.outcomes.multi_label import MultiLabelConfig
from confide.config.outcomes.outcome import OutcomeConfig
from confide.config.outcomes.regression import RegressionConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.errors import ConfigError, DataError
from confide.inference.export import export
from confide.inference.prediction import predict
from confide.models.backbones import content_hash, find_backbone, load_tokenizer
from confide.models.networks import TextClassifier, trainable_tensors
from confide.models.saved import save_model
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan
from confide.tasks.text_classification import TextClassification

TYPES = "token_type_ids"
PAIRS = TextClassificationConfig(
    labels=["no", "yes"], text_column="question", pair_column="answer", max_tokens=16
)
RECORDS = Dataset.from_dict(
    {
        "question": ["where is my bag", "late again", "when do we land and where do we go from it"],
        "answer": ["at desk four", "", "soon"],
        "label": ["yes", "no", "yes"],
    }
)
CLS, SEP = 101, 102


@pytest.fixture(scope="module")
def task() -> TextClassification:
    return TextClassification(PAIRS, tokenizer=load_tokenizer(find_backbone(MINILM)))


def plan_of(
    backbone: TransformerConfig, tuning: str, outcome: OutcomeConfig | None = None
) -> TrainingPlan:
    changes = {} if outcome is None else {"outcome": outcome, "labels": [], "metrics": []}
    task = dataclasses.replace(PAIRS, primary_metric="", **changes)  # type: ignore[arg-type]
    return build_plan(
        task=task,
        backbone=backbone,
        backbone_sha256=content_hash(find_backbone(backbone)),
        tuning=build_tuning(tuning, rank=2),
    )


def trained(workload: Workload, run: Path, plan: TrainingPlan) -> Path:
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in trainable_tensors(workload.model).items()
    }
    save_model(run / "model", workload, tensors, plan)
    return run


def test_a_pair_is_joined_as_its_tokenizer_joins_it(task: TextClassification) -> None:
    examples = task.encode(RECORDS)
    for index, record in enumerate(RECORDS):
        # Lists of one: given two strings, transformers takes an empty second one for none.
        encoded = task._tokenizer(
            [record["question"]], [record["answer"]], truncation=True, max_length=16
        )
        expected = {name: rows[0] for name, rows in encoded.items()}
        length = len(expected["input_ids"])
        assert examples.lengths is not None
        assert examples.lengths[index] == length
        for name in ("input_ids", "attention_mask", TYPES):
            assert examples.columns[name][index, :length].tolist() == expected[name]
    assert set(examples.columns[TYPES][0].tolist()) == {0, 1}
    assert examples.columns["input_ids"][1, :5].tolist().count(SEP) == 2  # of no answer, too


def test_longer_text_of_a_pair_is_cut_first(task: TextClassification) -> None:
    answer = " ".join(["landing"] * 40)
    row = task.encode(
        Dataset.from_dict({"question": ["when then"], "answer": [answer], "label": ["no"]})
    ).columns
    assert row[TYPES][0].tolist() == [0] * 4 + [1] * 12  # [CLS] when then [SEP], the rest's


def test_texts_that_stand_alone_have_no_types(task: TextClassification) -> None:
    alone = dataclasses.replace(PAIRS, pair_column=None)
    examples = TextClassification(alone, tokenizer=task._tokenizer).encode(RECORDS)
    assert list(examples.columns) == ["input_ids", "attention_mask", "labels"]


def test_no_pairs_are_encoded_as_no_rows(task: TextClassification) -> None:
    empty = task.encode(RECORDS.select([]))
    assert len(empty) == 0
    assert TYPES in empty.columns


def test_each_null_text_is_told_by_its_column(task: TextClassification) -> None:
    records = Dataset.from_dict(
        {"question": ["a", None], "answer": [None, None], "label": ["no"] * 2}
    )
    with pytest.raises(DataError) as caught:
        task.encode(records)
    assert [problem.partition(";")[0] for problem in caught.value.problems] == [
        "Column question: 1 of 2 texts are null",
        "Column answer: 2 of 2 texts are null",
    ]


def test_both_texts_make_a_record_what_it_is(task: TextClassification) -> None:
    assert task.content_columns() == ("question", "answer")


def test_one_column_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="pair_column=note is text_column too"):
        compose(
            [
                "task=text",
                "task.labels=[no,yes]",
                "task.text_column=note",
                "task.pair_column=note",
                "data.path=x.csv",
                "data.public=true",
            ]
        )


def test_plans_of_texts_that_stand_alone_do_not_name_a_pair() -> None:
    alone = dataclasses.replace(PAIRS, pair_column=None)
    assert "pair_column" not in build_plan(task=alone, backbone=MINILM).to_json()
    text = build_plan(task=PAIRS, backbone=MINILM).to_json()
    assert '"pair_column":"answer"' in text


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "mpnet", "gpt2"])
def test_an_encoder_sees_types_where_it_has_them(family: str, tmp_path: Path) -> None:
    workload = workload_of(plan_of(make_backbone(tmp_path, family), "full"))
    batch = workload.task.encode(RECORDS).take(torch.tensor([0]))
    model = workload.model.eval()
    assert isinstance(model, TextClassifier)
    with torch.no_grad():
        model.head.weight.normal_()  # it starts at zero
        told = workload.outputs(model, batch)
        plain = workload.outputs(model, {**batch, TYPES: torch.zeros_like(batch[TYPES])})
    # RoBERTa's configuration here has two types too; the other families have none.
    assert bool((told != plain).any()) == (family in ("bert", "roberta"))


@pytest.mark.parametrize(
    ("tuning", "form"),
    [
        ("full", "merged"),
        pytest.param("head", "onnx", marks=pytest.mark.slow),
        pytest.param("lora", "hf", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_pairs_export_with_their_types(tuning: str, form: str, tmp_path: Path) -> None:
    plan = plan_of(make_backbone(tmp_path / "bert"), tuning)
    run = trained(workload_of(plan), tmp_path / "run", plan)
    assert export(run, form, tmp_path / "exported", check=RECORDS).exact
    expected = predict(run, RECORDS)
    got = predict(tmp_path / "exported", RECORDS)
    assert (expected["probability_yes"] - got["probability_yes"]).abs().max() < 1e-4
    swapped = RECORDS.rename_columns({"question": "answer", "answer": "question"})
    assert (expected["probability_yes"] - predict(run, swapped)["probability_yes"]).abs().max() > 0


OUTCOMES = [
    None,
    RegressionConfig(column="score", minimum=0.0, maximum=5.0),
    MultiLabelConfig(labels=["polite", "true"]),
]


@pytest.mark.parametrize("book_keeping", [True, False])
@pytest.mark.parametrize("tuning", ["full", "lora", "head"])
@pytest.mark.parametrize("outcome", OUTCOMES, ids=["classes", "regression", "multi_label"])
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_preflight_passes_on_pairs_of_every_outcome(
    outcome: OutcomeConfig | None, tuning: str, book_keeping: bool, tmp_path: Path
) -> None:
    workload = workload_of(plan_of(make_backbone(tmp_path), tuning, outcome))
    dp_sgd = DpSgd(
        workload.model.train(),
        lambda model, batch: workload.task.loss(workload.outputs(model, batch), batch),
        physical_batch_size=8,
        book_keeping=book_keeping,
    )
    preflight(dp_sgd, workload.synthetic(4, torch.Generator().manual_seed(3)), autocast=None)
