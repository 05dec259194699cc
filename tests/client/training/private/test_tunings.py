"""Every kind of tuning under privacy: clipped sums in both engines, or a refusal by name."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from builders import build_tuning
from small_models import FAMILIES, TEXT, make_backbone

from confide.client.training.private.dp_sgd import DpSgd
from confide.client.training.private.preflight import preflight
from confide.client.training.trainer import Trainer
from confide.config.models.transformer import TransformerConfig
from confide.config.tunings.table import TUNINGS
from confide.errors import ModelError, PrivacyError
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

both_engines = pytest.mark.parametrize("book_keeping", [False, True])
# Families whose attention takes no cache of keys and values
WITHOUT_PREFIX = ("distilbert", "mpnet", "bart")
WITHOUT_BOOKS = {"bias": "is trained without its weight: book-keeping takes whole layers"}
# With BERT's tensors trained whole; other families are what test_families.py is about
KINDS = [kind for kind in TUNINGS if kind not in ("full", "head")]


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, TransformerConfig]:
    place = tmp_path_factory.mktemp("backbones")
    return {family: make_backbone(place / family, family) for family in ("bert", "gpt2")}


def build(backbone: TransformerConfig, kind: str, *, seed: int = 0) -> Workload:
    tuning = build_tuning(kind, rank=2, bottleneck=3, length=3)
    workload = build_workload(TEXT, backbone, tuning, compute=Compute(), seed=seed)
    turns = TUNINGS[kind].turns
    for name, parameter in workload.model.named_parameters():
        if len(turns) == 1 and turns[0] in name:  # it travels, and no institution trains it
            parameter.requires_grad_(False)
    return workload


def check(workload: Workload, *, book_keeping: bool) -> None:
    """Compare clipped sums with a loop over single records, in one engine and no other."""
    workload.model.train()
    engine = DpSgd(
        workload.model,
        lambda model, batch: workload.task.loss(workload.outputs(model, batch), batch),
        physical_batch_size=8,
        book_keeping=book_keeping,
        longest=workload.longest,
    )
    preflight(engine, workload.synthetic(5, torch.Generator().manual_seed(0)), autocast=None)
    assert engine.book_keeping == book_keeping


@both_engines
@pytest.mark.parametrize("kind", KINDS)
def test_clipped_sums_of_a_kind_are_right_or_refused_by_name(
    kind: str, book_keeping: bool, backbones: Mapping[str, TransformerConfig]
) -> None:
    workload = build(backbones["bert"], kind)
    if book_keeping and kind in WITHOUT_BOOKS:
        with pytest.raises(PrivacyError, match=WITHOUT_BOOKS[kind]):
            check(workload, book_keeping=True)
    else:
        check(workload, book_keeping=book_keeping)


@pytest.mark.slow
@both_engines
@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "bert"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in WITHOUT_BOOKS])
def test_clipped_sums_of_other_families_are_right(
    kind: str, family: str, book_keeping: bool, tmp_path: Path
) -> None:
    backbone = make_backbone(tmp_path, family)
    if kind == "prefix" and family in WITHOUT_PREFIX:
        with pytest.raises(ModelError, match="takes no cache of keys and values"):
            build(backbone, kind)
        return
    if (kind, family) == ("lora_exact", "gpt2"):
        with pytest.raises(ModelError, match="adds to the weights of linear layers"):
            build(backbone, kind)
        return
    check(build(backbone, kind), book_keeping=book_keeping)


def test_kind_that_books_refuse_is_trained_by_per_record_gradients(
    backbones: Mapping[str, TransformerConfig],
) -> None:
    trainer = Trainer(build(backbones["bert"], "bias"), private=True)
    assert not trainer._private.dp_sgd.book_keeping


def test_transposed_matrices_are_adapted_too(backbones: Mapping[str, TransformerConfig]) -> None:
    for kind in ("lora_ffa", "bottleneck"):
        check(build(backbones["gpt2"], kind), book_keeping=True)


def test_sides_with_other_seeds_agree_on_what_does_not_travel(
    backbones: Mapping[str, TransformerConfig],
) -> None:
    """A coordinator starts from a secret, institutions from 0: the same tensors, the same model."""
    one, other = (build(backbones["bert"], "lora_ffa", seed=seed) for seed in (0, 2**40))
    scores = []
    tensors = {
        name: 0.5 * torch.ones(shape) for name, shape in Trainer(one, private=False).shapes.items()
    }
    for workload in (one, other):
        trainer = Trainer(workload, private=False)
        examples = one.synthetic(3, torch.Generator().manual_seed(1))
        scores.append(trainer.scores(tensors, examples))
    assert torch.equal(*scores)
    assert scores[0].std() > 0
