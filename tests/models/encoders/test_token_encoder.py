"""A pretrained encoder that tags words: what of a vector is undone, and what is kept of it."""

from pathlib import Path

import pytest
import torch
from builders import build_tuning
from small_models import FAMILIES, make_backbone
from torch import nn

from confide.client.training.private.dp_sgd import DpSgd
from confide.client.training.private.preflight import preflight
from confide.client.training.trainer import Trainer
from confide.config.outcomes.spans import SpansConfig
from confide.config.tasks.token_classification import TokenClassificationConfig
from confide.errors import DataError
from confide.models.compute import Compute
from confide.models.encoders import token_encoder
from confide.models.encoders.token_encoder import (
    TokenClassifier,
    TokenHead,
    last_norm,
    load_token_classifier,
)
from confide.models.workload import Workload, build_workload
from confide.tasks.invented import invented_records
from confide.tasks.tabular import FEATURES
from confide.tasks.task import LABELS
from confide.tasks.tokens import CountsTokens

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

TAGS = TokenClassificationConfig(outcome=SpansConfig(types=["PER", "LOC"]), max_tokens=24)


def workload_of(folder: Path, kind: str, family: str = "bert") -> Workload:
    tuning = build_tuning(kind, rank=2)
    return build_workload(
        TAGS, make_backbone(folder, family), tuning, compute=Compute(feature_cache=None), seed=0
    )


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_each_tokens_vector_has_one_norm(family: str, tmp_path: Path) -> None:
    config = make_backbone(tmp_path, family)
    for row_norm, expected in ((None, 8**0.5), (3.0, 3.0)):
        config.row_norm = row_norm
        model = load_token_classifier(config, num_outputs=5, longest=24)
        with torch.no_grad():
            # As trained ones are, of which none is 1
            norm = last_norm(model.encoder)
            assert isinstance(norm, nn.LayerNorm)
            ids = torch.randint(5, 900, (3, 8), generator=torch.Generator().manual_seed(0))
            norms = model.features(ids, torch.ones_like(ids)).norm(dim=-1)
        assert torch.allclose(norms, torch.full_like(norms, expected), rtol=1e-2)


def test_scale_and_shift_of_the_last_norm_are_undone() -> None:
    encoder = FAMILIES["bert"]()
    norm = last_norm(encoder)
    assert isinstance(norm, nn.LayerNorm)
    with torch.no_grad():
        norm.weight.uniform_(0.2, 3.0)
        norm.bias.uniform_(-2.0, 2.0)
    model = TokenClassifier(encoder, num_outputs=5, longest=24, row_norm=None)
    ids = torch.randint(5, 900, (2, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        vectors = model.features(ids, torch.ones_like(ids))
    assert torch.allclose(vectors.mean(dim=-1), torch.zeros(2, 8), atol=1e-5)
    assert torch.allclose(vectors.norm(dim=-1), torch.full((2, 8), 8**0.5), rtol=1e-2)


def test_head_on_kept_vectors_gives_what_the_whole_model_gives(tmp_path: Path) -> None:
    head, whole = workload_of(tmp_path, "head"), workload_of(tmp_path, "full")
    assert isinstance(head.model, TokenHead)
    assert isinstance(whole.model, TokenClassifier)
    with torch.no_grad():
        head.model.head.weight.normal_()
        whole.model.head.load_state_dict(head.model.head.state_dict())
    records = invented_records(TAGS, 12)
    kept, encoded = head.prepare(records), whole.prepare(records)
    rows = torch.arange(len(records))
    with torch.no_grad():
        one = head.outputs(head.model.eval(), kept.take(rows))
        other = whole.outputs(whole.model.eval(), encoded.take(rows))
    there = encoded.columns["attention_mask"][:, : other.shape[1]] == 1
    assert torch.allclose(one[there], other[there], atol=1e-4)
    assert kept.take(rows)[LABELS].equal(encoded.take(rows)[LABELS])


def test_vectors_that_no_memory_holds_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload, records = workload_of(tmp_path, "head"), invented_records(TAGS, 12)
    monkeypatch.setattr(
        token_encoder, "_LARGEST", workload.prepare(records).columns[FEATURES].nbytes
    )
    workload.prepare(records)
    monkeypatch.setattr(token_encoder, "_LARGEST", 12)
    with pytest.raises(DataError, match=r"choose tuning=lora, which keeps none"):
        workload.prepare(records)


def test_a_models_first_answer_favours_no_tag(tmp_path: Path) -> None:
    workload = workload_of(tmp_path, "head")
    batch = workload.synthetic(4, torch.Generator().manual_seed(0)).take(torch.arange(4))
    assert not workload.outputs(workload.model, batch).any()


@pytest.mark.parametrize("kind", ["head", "lora", "full"])
@pytest.mark.parametrize("book_keeping", [False, True])
def test_clipped_sums_are_right_in_both_engines(
    kind: str, book_keeping: bool, tmp_path: Path
) -> None:
    workload = workload_of(tmp_path, kind)
    workload.model.train()
    engine = DpSgd(
        workload.model,
        workload.losses,
        physical_batch_size=8,
        book_keeping=book_keeping,
        longest=workload.longest,
    )
    preflight(engine, workload.synthetic(5, torch.Generator().manual_seed(0)), autocast=None)
    assert engine.book_keeping == book_keeping


@pytest.mark.parametrize("group_size", [None, 3])
@pytest.mark.parametrize("kind", ["head", "lora"])
def test_trainers_take_records_and_groups(
    kind: str, group_size: int | None, tmp_path: Path
) -> None:
    trainer = Trainer(workload_of(tmp_path, kind), private=True, group_size=group_size)
    assert trainer.shapes


def test_tokens_of_records_are_counted(tmp_path: Path) -> None:
    task = workload_of(tmp_path, "head").task
    assert isinstance(task, CountsTokens)
    counts = task.count_tokens(['["He","met"]', "Rome"])
    assert list(counts.lengths) == [4, 3]
