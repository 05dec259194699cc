"""No pass fills memory, however long texts or large pictures a plan asks for."""

from pathlib import Path

import pytest
import torch
from builders import build_tuning
from datasets import Dataset
from picture_models import make_vision, tuning_of, vision_workload
from pictures_made import build_pictures, cell, drawn
from small_models import MINILM, TEXT
from torch._subclasses.fake_tensor import FakeTensor
from transformers import AutoConfig, AutoModel

from confide.config.models.transformer import TransformerConfig
from confide.config.outcomes.spans import SpansConfig
from confide.config.tasks.task import TaskConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.config.tasks.token_classification import TokenClassificationConfig
from confide.errors import ModelError
from confide.models import memory
from confide.models.backbones import find_backbone, load_tokenizer
from confide.models.compute import Compute
from confide.models.encoders.encoder_inputs import settle_inputs
from confide.models.memory import in_parts, numbers_of_text
from confide.models.pictures import vision
from confide.models.workload import Workload, build_workload

SIZE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "intermediate_size": 16,
    "vocab_size": 50,
    "pad_token_id": 0,
}
FAMILIES = {
    "deberta-v2": {"relative_attention": True, "position_biased_input": False},
    "bert": {"max_position_embeddings": 600},
    "modernbert": {"local_attention": 8},
    "longformer": {"attention_window": 8, "max_position_embeddings": 600},
}


def make(family: str, **fields: object) -> torch.nn.Module:
    torch.manual_seed(0)
    settings = AutoConfig.for_model(family, **{**SIZE, **FAMILIES[family], **fields})
    model: torch.nn.Module = AutoModel.from_config(settings).eval()
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_numbers_of_a_long_text_follow_from_those_of_short_ones(family: str) -> None:
    model = make(family)

    def forward(tokens: int) -> None:
        ids = torch.ones((1, tokens), dtype=torch.int64)
        model(input_ids=ids, attention_mask=ids)

    found, counted = numbers_of_text(forward, 511), memory._counted(lambda: forward(512))
    assert found == pytest.approx(counted, rel=0.05)
    assert found >= counted * 0.999


def test_a_text_that_would_fill_memory_is_refused_before_it_is_tried() -> None:
    # Takes texts of any length, and 100 MB of weights of attention for each head and layer
    model = make("deberta-v2", num_hidden_layers=4)
    with pytest.raises(ModelError, match=r"at most 2,147,483,648; lower task\.max_tokens=8192"):
        settle_inputs(model, longest=8192)


def workload_of(folder: Path, task: TaskConfig) -> Workload:
    made = AutoConfig.for_model("deberta-v2", **{**SIZE, **FAMILIES["deberta-v2"]})
    tokenizer = load_tokenizer(find_backbone(MINILM))
    made.vocab_size = len(tokenizer)
    torch.manual_seed(0)
    AutoModel.from_config(made).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    backbone = TransformerConfig(name=str(folder))
    return build_workload(
        task, backbone, build_tuning("full"), compute=Compute(physical_batch_size=256), seed=0
    )


@pytest.mark.parametrize("kind", ["a text", "its tokens"])
def test_a_pass_over_long_texts_has_fewer(kind: str, tmp_path: Path) -> None:
    def task(tokens: int) -> TaskConfig:
        if kind == "a text":
            return TextClassificationConfig(labels=TEXT.labels, max_tokens=tokens)
        return TokenClassificationConfig(max_tokens=tokens, outcome=SpansConfig(types=["drug"]))

    assert workload_of(tmp_path, task(48)).compute.physical_batch_size == 256
    assert workload_of(tmp_path, task(1024)).compute.physical_batch_size < 16


@pytest.mark.parametrize("family", ["convnext", "vit"])
def test_a_pass_over_large_pictures_has_fewer(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = vision_workload(tmp_path, family, "full")
    assert made.compute.physical_batch_size == Compute().physical_batch_size
    monkeypatch.setattr(memory, "_MOST_IN_PASS", 2**20)
    numbers = vision.tried_size(made.model, made.task)  # type: ignore[arg-type]
    assert numbers > 2**20 // 256
    made = vision_workload(tmp_path, family, "full")
    assert made.compute.physical_batch_size == 2**20 // numbers


def test_numbers_of_a_large_picture_are_counted_without_its_memory(tmp_path: Path) -> None:
    made = vision_workload(tmp_path, "convnext", "full", size=1024)
    taken: list[bool] = []

    def forward(model: torch.nn.Module) -> torch.Tensor:
        pixels = torch.zeros((1, 1, 1024, 1024), dtype=torch.uint8)
        taken.append(isinstance(pixels, FakeTensor))
        outputs: torch.Tensor = model(pixels)
        return outputs

    numbers = memory.numbers_of_record(made.model, forward)
    assert taken == [True]
    assert numbers == memory._counted(lambda: forward(made.model))


@pytest.mark.parametrize("tuning", ["lora", "head"])
def test_a_picture_that_would_fill_memory_is_refused(
    tuning: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vision, "MOST_OF_PRETRAINED", 10_000)
    records = {"image": [cell(drawn(number)) for number in range(2)], "label": ["dark", "light"]}

    def prepared() -> None:
        made = build_workload(
            build_pictures(size=64),
            make_vision(tmp_path, "convnext"),
            tuning_of(tuning),
            compute=Compute(),
            seed=0,
        )
        made.prepare(Dataset.from_dict(records))

    with pytest.raises(ModelError, match=r"at most 10,000; lower task\.size"):
        prepared()


def test_frozen_passes_are_taken_in_parts() -> None:
    seen: list[int] = []

    def encode(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append(len(batch["ids"]))
        return batch["ids"] * 2 + batch["mask"]

    batch = {"ids": torch.arange(32)[:, None], "mask": torch.ones(32, 1, dtype=torch.int64)}
    assert in_parts(encode, batch, 2**30).equal(batch["ids"] * 2 + 1)
    assert max(seen) == 8
    seen.clear()
    in_parts(encode, batch, 2**20)
    assert seen == [32]
