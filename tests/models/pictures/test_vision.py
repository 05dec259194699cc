"""Pretrained models of pictures: what they take, what they give, and private gradients of them."""

import functools
from pathlib import Path

import numpy
import pytest
import torch
from datasets import Dataset
from picture_models import MODELS, SIZE, cnn_workload, make_vision, vision_workload
from pictures_made import build_pictures, cell, drawn, lights
from transformers import AutoModelForImageClassification, MobileNetV2ImageProcessorPil

from confide.client.training.private.dp_sgd import DpSgd
from confide.client.training.trainer import Trainer
from confide.config.models.cnn import CnnConfig
from confide.config.tunings.tuning import TuningConfig
from confide.errors import ModelError
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload
from confide.pictures.processor import load_processor

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)


def records(count: int = 6) -> Dataset:
    values, labels = lights(count)
    return Dataset.from_dict({"image": [cell(one) for one in values], "label": labels})


@pytest.mark.parametrize("family", sorted(MODELS))
def test_features_are_what_a_familys_own_head_takes(family: str, tmp_path: Path) -> None:
    workload = vision_workload(tmp_path, family, "head", size=None)
    encoded = workload.prepare(records())
    folder = tmp_path / family.replace(" ", "-")
    own = AutoModelForImageClassification.from_pretrained(folder).eval()
    taken: list[torch.Tensor] = []
    layer = own.classifier if isinstance(own.classifier, torch.nn.Linear) else own.classifier[-1]
    layer.register_forward_pre_hook(lambda _, args: taken.append(args[0]))
    processor = load_processor(folder).processor
    grey = [numpy.repeat(one[:, :, None], 3, axis=2) for one in lights(6)[0]]
    with torch.no_grad():
        own(**processor(images=grey, return_tensors="pt"))
    torch.testing.assert_close(encoded.columns["features"], taken[0], rtol=1e-4, atol=1e-4)


def test_resizing_is_pillows_whatever_the_folder_says(tmp_path: Path) -> None:
    name = make_vision(tmp_path, "mobilenet").name
    processor = load_processor(Path(name))
    assert isinstance(processor.processor, MobileNetV2ImageProcessorPil)
    assert processor.resized(drawn(0, (9, 30, 1)), None).shape == (1, SIZE, SIZE)
    assert processor.resized(drawn(0, (9, 30, 3)), None).shape == (3, SIZE, SIZE)
    # A size of the schema's resizes the whole picture
    whole = processor.resized(drawn(0, (9, 30, 1)), 10)
    assert whole.shape == (1, 10, 10)


@pytest.mark.parametrize(
    ("build", "by_books"),
    [
        pytest.param(lambda _: cnn_workload(), False, id="cnn"),
        pytest.param(lambda _: cnn_workload(channels=3, size=9), False, id="colour cnn"),
        *(
            pytest.param(functools.partial(vision_workload, family=f, tuning="head"), True, id=f)
            for f in ("vit", "mobilenet")
        ),
        *(
            pytest.param(functools.partial(vision_workload, family="vit", tuning=kind), by, id=kind)
            for kind, by in (("lora", True), ("lora_ffa", True), ("norm", True), ("bias", False))
        ),
    ],
)
def test_private_gradients_are_those_of_single_records(
    build: "functools.partial[Workload]", by_books: bool, tmp_path: Path
) -> None:
    """The trainer's preflight compares them; the engine that does not cover a layer names it."""
    trainer = Trainer(build(tmp_path), private=True)
    assert trainer._private is not None
    assert trainer._private.dp_sgd.book_keeping == by_books
    if by_books:
        workload = build(tmp_path)
        loss_fn = functools.partial(_losses, workload)
        other = DpSgd(workload.model, loss_fn, physical_batch_size=64, book_keeping=False)
        from confide.client.training.private.preflight import preflight

        invented = workload.synthetic(4, torch.Generator().manual_seed(1))
        preflight(other, invented, autocast=None)


def _losses(workload: Workload, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> object:
    return workload.task.loss(workload.outputs(model, batch), batch)


def test_adapters_start_where_the_backbone_is_and_train_a_few_tensors(tmp_path: Path) -> None:
    lora = vision_workload(tmp_path, "vit", "lora")
    named = [name for name, p in lora.model.named_parameters() if p.requires_grad]
    assert {name.partition(".")[0] for name in named} == {"encoder", "head"}
    assert all("lora_" in name or name.startswith("head") for name in named)
    head = vision_workload(tmp_path, "vit", "head")
    batch = lora.prepare(records()).columns["pixel_values"]
    with torch.no_grad():
        features = lora.model.eval().pooled(batch)
    torch.testing.assert_close(features, head.prepare(records()).columns["features"])


def test_features_of_a_picture_do_not_depend_on_those_beside_it(tmp_path: Path) -> None:
    workload = vision_workload(tmp_path, "mobilenet", "head")
    together = workload.prepare(records()).columns["features"]
    alone = workload.prepare(records().select([4])).columns["features"]
    assert together[4].equal(alone[0])


def test_sizes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"takes no pictures of \[20, 20\] pixels"):
        vision_workload(tmp_path, "vit", "lora", size=20)
    with pytest.raises(ModelError, match=r"task\.size=null"):
        cnn_workload(size=None)
    with pytest.raises(ModelError, match=r"leave nothing of task\.size=8"):
        build_workload(
            build_pictures(),
            CnnConfig(widths=[4] * 5),
            TuningConfig(kind="full"),
            compute=Compute(),
            seed=0,
        )


def test_folder_without_a_processor_is_refused(tmp_path: Path) -> None:
    name = make_vision(tmp_path, "vit").name
    file = Path(name) / "preprocessor_config.json"
    file.write_text('{"image_processor_type": "NoSuchImageProcessor"}')
    with pytest.raises(ModelError, match=r"names NoSuchImageProcessor"):
        load_processor(Path(name))
    file.unlink()
    with pytest.raises(ModelError, match=r"expected preprocessor_config\.json"):
        load_processor(Path(name))
