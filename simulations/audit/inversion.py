"""Gradient inversion: what an update of one record shows, without privacy and with it.

A layer's gradient is that of its outputs times its inputs, so that weight and bias together give
the inputs exactly (Phong et al. 2017, "Privacy-Preserving Deep Learning: Revisited and Enhanced";
the analytic case of Zhu et al. 2019, arXiv 1906.08935, and Geiping et al. 2020, arXiv 2003.14053).
Of a text whose encoder is trained, rows of the word embeddings that moved are its words.

The record is alone at its institution: nobody can be worse off. What comes out is looked up among
candidates, as a coordinator with a list of people would.
"""

import os
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from confide.client.assembly import make_trainer
from confide.config.client import OptimizerConfig
from confide.config.models.transformer import TransformerConfig
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.strategy import ObjectiveConfig
from confide.errors import PrivacyError
from confide.models.backbones import find_backbone, load_tokenizer
from confide.models.networks import trainable_tensors
from confide.privacy.randomness import KEY_BYTES
from confide.protocol.messages import Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, decode, encode
from confide.simulations.audit.crafted import output_layer
from confide.simulations.audit.door import answered, audit_policy, open_institution
from confide.simulations.audit.findings import PartResult
from confide.simulations.audit.plan import fresh_workload
from confide.simulations.audit.situation import Candidates, Situation, rounded
from confide.simulations.institutions import Setup
from confide.tasks.tabular import FEATURES
from confide.tasks.task import Examples

_HEAD = 0.1
_HIDDEN = (
    "Inversion: adapters and convolutions hide inputs from the analytic attack, which is skipped."
)
_DRAWN = 64
"""Features that a picture has room for."""


def audit_inversion(situation: Situation) -> PartResult:
    """Invert updates of one record."""
    candidates = situation.candidates
    generator = torch.Generator().manual_seed(situation.settings.seed)
    index = int(torch.randint(len(candidates.texts), (1,), generator=generator))
    record = candidates.examples.select(torch.tensor([index]))
    start = trainable_tensors(situation.workload.model)
    # A head starts at zero, which hides what lies before it; a coordinator sends what it likes.
    try:
        weight, _ = output_layer(start, situation.plan.task.num_outputs)
    except PrivacyError:
        return PartResult(notes=[_HIDDEN])
    if FEATURES not in record.columns:
        start[weight] = torch.randn(start[weight].shape, generator=generator) * _HEAD
    updates = {"plain": _plain_update(situation, record, start)}
    if situation.mechanism is not None:
        run = situation.mechanism.door.whole_run(record, start)
        updates["private"] = {name: sum(one[name] for one in run) for name in start}  # type: ignore[misc]
    shown: dict[str, Any] = {"candidates": len(candidates.texts), "is_real": candidates.is_real}
    shown["true"] = candidates.texts[index]
    if FEATURES in record.columns:
        shown |= _by_features(updates, candidates, index)
    elif (embedding := _word_embedding(start)) is not None:
        shown |= _by_words(updates, embedding, record, situation.plan)
    else:
        return PartResult(notes=[_HIDDEN])
    return PartResult(shown=shown)


def _plain_update(situation: Situation, record: Examples, start: Tensors) -> Tensors:
    """Take one step on one record without privacy, at the same door."""
    optimizer = OptimizerConfig(kind="sgd", learning_rate=1.0)
    plan = replace(
        situation.plan,
        job="inverted",
        objective=ObjectiveConfig(),
        privacy=PrivacyConfig(),
        client=replace(
            situation.plan.client, local_steps=1, sampling_rate=1.0, optimizer=optimizer
        ),
        num_rounds=1,
        seed=None,
    )
    trainer = make_trainer(fresh_workload(plan, situation.workload.compute), plan)
    setup = Setup(serves=plan, policy=audit_policy(1), noise_secret=os.urandom(KEY_BYTES))
    institution = open_institution(trainer, setup, record, name="audited")
    request = Request(plan=plan.to_json(), server_round=1, arrays=encode(start))
    reply = answered(institution.handle("train", request))
    assert reply.arrays is not None
    update = decode(reply.arrays, trainer.shapes, max_value=float("inf")).tensors
    return {name: -tensor.double() for name, tensor in update.items()}


def _by_features(updates: dict[str, Tensors], candidates: Candidates, index: int) -> dict[str, Any]:
    """Recover a row of numbers from the first layer's gradient."""
    rows = candidates.examples.columns[FEATURES].cpu().double()
    shown: dict[str, Any] = {"kind": "features", "vectors": {"true": rounded(rows[index][:_DRAWN])}}
    for name, update in updates.items():
        recovered = _first_inputs(update, rows.shape[1])
        similarity = functional.cosine_similarity(rows, recovered[None], dim=1)
        shown[name] = {
            "text": candidates.texts[int(similarity.argmax())],
            "similarity": float(similarity[index]),
            "rank": int((similarity > similarity[index]).sum()) + 1,
        }
        # At one scale: what is compared is the pattern.
        scale = rows[index].norm() / recovered.norm().clamp_min(1e-300)
        shown["vectors"][name] = rounded((recovered * scale)[:_DRAWN])
    return shown


def _first_inputs(gradient: Tensors, width: int) -> Tensor:
    """Return the inputs of the first layer that has as many, by least squares over its outputs."""
    for name, weight in gradient.items():
        bias = gradient.get(name.removesuffix("weight") + "bias")
        if name.endswith("weight") and weight.dim() == 2 and weight.shape[1] == width:
            if bias is not None:
                return torch.mv(weight.T, bias) / bias.square().sum().clamp_min(1e-300)
            direction: Tensor = torch.linalg.svd(weight).Vh[0]
            return direction
    return torch.zeros(width, dtype=torch.float64)


def _word_embedding(tensors: Tensors) -> str | None:
    return next((name for name in tensors if name.endswith("word_embeddings.weight")), None)


def _by_words(
    updates: dict[str, Tensors], embedding: str, record: Examples, plan: TrainingPlan
) -> dict[str, Any]:
    """Recover a text's words from the rows of the embeddings that moved."""
    assert isinstance(plan.backbone, TransformerConfig)
    tokenizer = load_tokenizer(find_backbone(plan.backbone))
    mask = record.columns["attention_mask"][0].bool().cpu()
    true = set(record.columns["input_ids"][0].cpu()[mask].tolist())
    shown: dict[str, Any] = {"kind": "words"}
    for name, update in updates.items():
        moved = update[embedding].norm(dim=1)
        most = len(true) if name == "private" else int((moved > 0).sum())
        found = moved.topk(most).indices.tolist()
        shown[name] = {
            "text": " ".join(tokenizer.convert_ids_to_tokens(sorted(found)))[:1000],
            "recovered": len(true & set(found)),
            "words": len(true),
        }
    return shown


__all__ = ["audit_inversion"]
