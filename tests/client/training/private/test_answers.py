"""Private steps on answers: both engines, groups, and what one pass may hold."""

from pathlib import Path

import pytest
import torch
from builders import workload_of
from small_language_models import FAMILIES, RECORDS, build_answer_plan, make_language_model

from confide.client.training.private.dp_sgd import DpSgd
from confide.client.training.private.preflight import preflight
from confide.client.training.trainer import Trainer
from confide.config.outcomes.answer import AnswerConfig
from confide.config.privacy import PrivacyConfig
from confide.config.tasks.causal_lm import CausalLmConfig
from confide.errors import ModelError
from confide.models.language import language_model

PRIVATE = PrivacyConfig(unit="record", epsilon=8.0)


@pytest.mark.parametrize("book_keeping", [True, False])
@pytest.mark.parametrize("trained_layers", [1, None])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_clipped_sums_are_right_in_both_engines(
    tmp_path: Path, family: str, trained_layers: int | None, book_keeping: bool
) -> None:
    backbone = make_language_model(tmp_path, family, trained_layers=trained_layers)
    workload = workload_of(build_answer_plan(backbone, privacy=PRIVATE))
    invented = workload.synthetic(4, torch.Generator().manual_seed(0))
    workload.model.train()

    def losses(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return workload.task.loss(workload.outputs(model, batch), batch)

    engine = DpSgd(
        workload.model, losses, physical_batch_size=16, book_keeping=book_keeping, longest=64
    )
    preflight(engine, invented, autocast=None)
    assert engine.book_keeping == book_keeping


@pytest.mark.parametrize("group_size", [None, 4])
def test_a_private_trainer_passes_its_own_checks(tmp_path: Path, group_size: int | None) -> None:
    plan = build_answer_plan(make_language_model(tmp_path), privacy=PRIVATE)
    Trainer(workload_of(plan), private=True, group_size=group_size)


def test_a_pass_holds_no_more_logits_than_memory_does(tmp_path: Path) -> None:
    workload = workload_of(build_answer_plan(make_language_model(tmp_path)))
    most = workload.compute.physical_batch_size
    assert 1 <= most * 16 * 272 <= 2**25


@pytest.mark.parametrize(
    ("tokens", "answer", "why"),
    [
        (8000, 16, r"task\.max_tokens=8000: .* takes at most 7000; lower it"),
        (6000, 16, r"task\.max_tokens=6000: attention of 8 heads .*; lower it to 5792"),
        (5792, 5000, r"task\.outcome\.max_tokens=5000: so many times 60,000 words .* to 4473"),
    ],
)
def test_records_that_no_memory_takes_are_refused(
    tmp_path: Path, tokens: int, answer: int, why: str
) -> None:
    backbone = make_language_model(
        tmp_path, vocab_size=60_000, num_attention_heads=8, max_position_embeddings=7000
    )
    task = CausalLmConfig(max_tokens=tokens, outcome=AnswerConfig(max_tokens=answer))
    with pytest.raises(ModelError, match=why):
        workload_of(build_answer_plan(backbone, task=task))


def test_attention_in_all_trained_layers_has_a_bound(tmp_path: Path) -> None:
    settings = {"num_hidden_layers": 6, "num_attention_heads": 8, "max_position_embeddings": 7000}
    backbone = make_language_model(tmp_path, **settings)
    task = CausalLmConfig(max_tokens=5792, outcome=AnswerConfig(max_tokens=16))
    workload_of(build_answer_plan(backbone, task=task))  # One layer alone is trained
    backbone.trained_layers = None
    why = r"in 6 trained layers takes .*lower it to 4729, or lower backbone\.trained_layers"
    with pytest.raises(ModelError, match=why):
        workload_of(build_answer_plan(backbone, task=task))


def test_more_kept_outputs_than_memory_takes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language_model, "_MOST_KEPT", 3 * 48 * 32 - 1)
    workload = workload_of(build_answer_plan(make_language_model(tmp_path)))
    with pytest.raises(ModelError, match=r"of 3 records of up to .*lower task\.max_tokens"):
        workload.prepare(RECORDS)
