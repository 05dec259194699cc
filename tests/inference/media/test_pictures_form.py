"""Models of pictures predict on files, and stand alone in every form."""

from pathlib import Path

import numpy
import onnxruntime
import pandas
import pytest
import torch
from builders import build_plan
from picture_models import SIZE, make_vision, tuning_of
from pictures_made import build_pictures, file_of, lights, write_folder
from transformers import AutoImageProcessor, AutoModelForImageClassification

from confide.client.commands.predict import main as predict_main
from confide.config.models.backbone import BackboneConfig
from confide.config.models.cnn import CnnConfig
from confide.config.outcomes.regression import RegressionConfig
from confide.config.tasks.media.image_classification import ImageClassificationConfig
from confide.errors import DataError, ModelError
from confide.inference.export import export
from confide.inference.prediction import predict
from confide.models.backbones import pretrained_hash
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model
from confide.models.workload import build_workload

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)


def trained(
    folder: Path, task: ImageClassificationConfig, backbone: BackboneConfig, tuning: str
) -> Path:
    """Save a model that is not where it started."""
    chosen = tuning_of(tuning)
    plan = build_plan(
        task=task, backbone=backbone, backbone_sha256=pretrained_hash(backbone), tuning=chosen
    )
    workload = build_workload(task, backbone, chosen, compute=Compute(), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in workload.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    save_model(folder / "RUN" / "model", workload, trainable_tensors(workload.model), plan)
    return folder / "RUN"


CASES = {
    "cnn": ("cnn", "full", None),
    "head": ("mobilenet", "head", None),
    "scaled head": ("vit", "head", 3.0),
    "resnet": ("resnet", "head", 2.0),
    "lora": ("vit", "lora", None),
    "bias": ("vit", "bias", None),
    "frozen half": ("vit", "lora_ffa", None),
}


def run_of(case: str, folder: Path, **fields: object) -> Path:
    family, tuning, row_norm = CASES[case]
    if family == "cnn":
        return trained(folder, build_pictures(**fields), CnnConfig(widths=[4, 6]), tuning)
    backbone = make_vision(folder, family, row_norm=row_norm)
    return trained(folder, build_pictures(**{"size": SIZE, **fields}), backbone, tuning)


@pytest.mark.parametrize(
    ("case", "form"),
    [
        ("cnn", "hf"),
        ("scaled head", "merged"),
        ("lora", "hf"),
        *(
            pytest.param(case, form, marks=pytest.mark.slow)
            for case, form in [
                *(("head", "hf"), ("resnet", "hf"), ("lora", "merged")),
                *(("bias", "hf"), ("frozen half", "hf")),
            ]
        ),
    ],
)
def test_folder_predicts_with_transformers_alone(case: str, form: str, tmp_path: Path) -> None:
    run = run_of(case, tmp_path)
    place = tmp_path / "exported"
    assert export(run, form, place).exact
    values, _ = lights(3)
    own = predict(run, pandas.DataFrame({"image": [file_of(one) for one in values]}))
    needs_code = any(path.suffix == ".py" for path in place.iterdir())
    assert needs_code == (case in ("cnn", "scaled head", "resnet"))
    model = AutoModelForImageClassification.from_pretrained(place, trust_remote_code=needs_code)
    processor = AutoImageProcessor.from_pretrained(place, backend="pil")
    colour = [numpy.repeat(one[:, :, None], 3, axis=2) for one in values]
    with torch.no_grad():
        logits = model.eval()(**processor(images=colour, return_tensors="pt")).logits
    assert model.config.id2label == {0: "dark", 1: "light"}
    expected = own[["probability_dark", "probability_light"]].to_numpy()
    numpy.testing.assert_allclose(logits.softmax(dim=1).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("case", ["cnn", pytest.param("head", marks=pytest.mark.slow)])
def test_onnx_takes_pixels_of_eight_bits_in_any_batch(case: str, tmp_path: Path) -> None:
    run = run_of(case, tmp_path)
    assert export(run, "onnx", tmp_path / "onnx").exact
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx")
    (taken,) = session.get_inputs()
    side = SIZE if case == "head" else 8
    expected = ("pixel_values", "tensor(uint8)", [1, side, side])
    assert (taken.name, taken.type, taken.shape[1:]) == expected
    pixels = numpy.zeros((5, 1, taken.shape[2], taken.shape[2]), numpy.uint8)
    assert session.run(["logits"], {"pixel_values": pixels})[0].shape == (5, 2)
    assert export(run, "int8", tmp_path / "int8").logit_difference < 1


def test_adapters_of_scaled_features_are_merged_only(tmp_path: Path) -> None:
    task = build_pictures(size=SIZE)
    run = trained(tmp_path, task, make_vision(tmp_path, "vit", row_norm=2.0), "lora")
    with pytest.raises(ModelError, match=r"choose --to merged"):
        export(run, "hf", tmp_path / "hf")
    assert export(run, "merged", tmp_path / "merged").exact


def test_command_predicts_on_a_folder_a_table_and_parquet(tmp_path: Path) -> None:
    run, folder = run_of("cnn", tmp_path), write_folder(tmp_path / "new", 6)
    assert predict_main([str(run), str(folder), "--output", str(tmp_path / "a.csv")]) == 0
    made = pandas.read_csv(tmp_path / "a.csv")
    assert list(made["file"]) == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*.png")
    )
    assert "image" not in made
    table = pandas.DataFrame({"image": made["file"], "id": range(6)})
    table.to_csv(folder / "t.csv", index=False)
    assert predict_main([str(run), str(folder / "t.csv"), "--output", str(tmp_path / "b.csv")]) == 0
    again = pandas.read_csv(tmp_path / "b.csv")
    assert list(again["probability_light"]) == list(made["probability_light"])
    assert list(again["image"]) == list(made["file"])
    files = [(folder / one).read_bytes() for one in made["file"]]
    pandas.DataFrame({"image": files, "id": range(6)}).to_parquet(tmp_path / "t.parquet")
    written = str(tmp_path / "c.parquet")
    assert predict_main([str(run), str(tmp_path / "t.parquet"), "--output", written]) == 0
    last = pandas.read_parquet(written)
    assert list(last["id"]) == list(range(6))
    assert "image" not in last
    numpy.testing.assert_allclose(last["probability_light"], made["probability_light"])


def test_broken_pictures_are_told_before_anything_is_predicted(tmp_path: Path) -> None:
    run = run_of("cnn", tmp_path)
    frame = pandas.DataFrame({"image": [file_of(lights(1)[0][0]), b"?"]})
    with pytest.raises(DataError, match=r"1 of 2 pictures are no picture"):
        predict(run, frame)


def test_numbers_are_predicted_of_pictures_too(tmp_path: Path) -> None:
    outcome = RegressionConfig(column="age", minimum=0, maximum=100)
    run = run_of("cnn", tmp_path, labels=[], outcome=outcome)
    made = predict(run, pandas.DataFrame({"image": [file_of(one) for one in lights(4)[0]]}))
    assert made["prediction"].between(0, 100).all()
    assert export(run, "merged", tmp_path / "merged").exact
