"""Exported models.

The run's own outputs to 1e-4, from a folder that may be moved, for whoever loads it.
"""

import copy
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy
import pandas
import pytest
import torch
from datasets import Dataset
from small_models import FAMILIES, MINILM, ROWS, TEXTS, make_backbone, save_run, save_table_run
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from confide.cli import main
from confide.config.models.perceptrons import LogisticConfig
from confide.config.models.table import BACKBONES
from confide.config.tunings.table import TUNINGS
from confide.errors import ConfigError, ModelError
from confide.inference.export import export
from confide.inference.prediction import predict
from confide.models.compute import Compute
from confide.models.saved import load_model

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

FORMS = BACKBONES["logistic"].forms
EXACT = tuple(form for form in FORMS if form != "int8")
QUICK = [
    ("logistic", "merged"),
    ("logistic", "onnx"),
    ("lora", "hf"),
    ("lora", "merged"),
    ("lora_ffa", "hf"),
    ("bottleneck", "hf"),
    ("prefix", "hf"),
    ("head", "merged"),
    ("logistic-rows", "merged"),
    ("head-rows", "merged"),
]
SLOW = [
    pair
    for pair in itertools.product(("logistic", "mlp", *TUNINGS), FORMS)
    if pair not in QUICK and (pair[0] not in TUNINGS or pair[1] in TUNINGS[pair[0]].forms)
]
Runs = Callable[[str], Path]
Moved = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Return the folder of a run with a tiny model, written when first asked for."""
    place = tmp_path_factory.mktemp("small")

    def run(kind: str) -> Path:
        if (place / kind).is_dir():
            return place / kind
        if kind == "logistic-rows":
            return save_run(place / kind, backbone=LogisticConfig(row_norm=3.0))
        if kind == "head-rows":
            backbone = replace(make_backbone(place / "bert"), row_norm=3.0)
            return save_run(place / kind, "head", backbone=backbone)
        if kind in ("logistic", "mlp"):
            return save_table_run(place / kind, hidden=(4,) if kind == "mlp" else ())
        return save_run(place / kind, kind, backbone=make_backbone(place / "bert"))

    return run


@pytest.fixture(scope="module")
def moved(small: Runs, tmp_path_factory: pytest.TempPathFactory) -> Moved:
    """Return an exported folder that was moved since, written when first asked for."""
    done: dict[tuple[str, str], Path] = {}

    def folder(kind: str, form: str) -> Path:
        if (kind, form) not in done:
            place = tmp_path_factory.mktemp(f"{kind}-{form}")
            comparison = export(small(kind), form, place / "first")
            assert comparison.exact or form == "int8"
            done[kind, form] = (place / "first").rename(place / "moved")
            assert [path.name for path in place.iterdir()] == ["moved"]  # nothing half-made stays
        return done[kind, form]

    return folder


def records_of(kind: str) -> Dataset:
    return ROWS if kind.startswith(("logistic", "mlp")) else TEXTS


def differences(one: pandas.DataFrame, other: pandas.DataFrame) -> float:
    columns = [name for name in one if name != "prediction"]
    return float(numpy.abs(one[columns].to_numpy() - other[columns].to_numpy()).max())


# --- the same outputs


def assert_predicts_as_the_run(run: Path, exported: Path, records: Dataset, *, exact: bool) -> None:
    expected, got = predict(run, records), predict(exported, records)
    assert differences(expected, got) <= (1e-4 if exact else 0.1)
    assert not exact or got["prediction"].tolist() == expected["prediction"].tolist()


@pytest.mark.parametrize(("kind", "form"), QUICK)
def test_exported_and_moved_folder_predicts_as_the_run_does(
    kind: str, form: str, small: Runs, moved: Moved
) -> None:
    assert_predicts_as_the_run(small(kind), moved(kind, form), records_of(kind), exact=True)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "form"), SLOW)
def test_every_kind_exports_to_every_form(kind: str, form: str, small: Runs, moved: Moved) -> None:
    assert_predicts_as_the_run(
        small(kind), moved(kind, form), records_of(kind), exact=form in EXACT
    )


@pytest.mark.slow
@pytest.mark.parametrize(("tuning", "form"), [*itertools.product(("head", "lora", "full"), FORMS)])
def test_real_backbone_exports_to_every_form(tuning: str, form: str, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", tuning, backbone=MINILM, scale=0.02)
    comparison = export(run, form, tmp_path / "exported")
    assert comparison.difference < (1e-4 if form in EXACT else 0.1)
    assert comparison.exported.size_mb < (64 if form in EXACT else 17)
    assert_predicts_as_the_run(run, tmp_path / "exported", TEXTS, exact=form in EXACT)


@pytest.mark.parametrize(
    ("family", "form"),
    [
        *((family, "merged") for family in FAMILIES),
        *(pytest.param(family, "onnx", marks=pytest.mark.slow) for family in FAMILIES),
    ],
)
def test_families_of_encoders_export_alike(family: str, form: str, tmp_path: Path) -> None:
    run = save_run(
        tmp_path / "run", "full", backbone=make_backbone(tmp_path / family, family), scale=0.1
    )
    assert export(run, form, tmp_path / "exported").exact


@pytest.mark.parametrize("tuning", ["head", "lora"])
def test_backbone_that_was_moved_is_named(tuning: str, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", tuning, backbone=make_backbone(tmp_path / "bert"))
    expected = predict(run, TEXTS)
    moved = (tmp_path / "bert").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"no such folder\. If it lies elsewhere now.*--backbone"):
        predict(run, TEXTS)
    with pytest.raises(ModelError, match="expected content hash"):
        predict(run, TEXTS, backbone=make_backbone(tmp_path / "other", "distilbert").name)
    assert differences(predict(run, TEXTS, backbone=moved), expected) == 0
    assert export(run, "merged", tmp_path / "exported", backbone=moved).exact
    assert str(moved) not in (tmp_path / "exported" / "confide.json").read_text()
    with pytest.raises(ConfigError, match="was exported and brings its weights"):
        predict(tmp_path / "exported", TEXTS, backbone=moved)


def test_adapters_that_weights_cannot_take_up_are_not_merged(small: Runs, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--to merged: what tuning\.kind=bottleneck adds cannot"):
        export(small("bottleneck"), "merged", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_class_in_the_folder_adapts_what_automodel_does_not(small: Runs, moved: Moved) -> None:
    folder = moved("bottleneck", "hf")
    ids = torch.tensor([[101, 2204, 102]])
    _, logits = run_outputs(small("bottleneck"), ids, torch.ones_like(ids))
    load = AutoModelForSequenceClassification.from_pretrained
    classifier = copy.deepcopy(load(folder, trust_remote_code=True))
    assert torch.allclose(classifier(ids).logits, logits, atol=1e-4)
    encoder, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    before = AutoModel.from_pretrained(small("bottleneck").parent / "bert")
    assert torch.allclose(encoder(ids).last_hidden_state, before(ids).last_hidden_state, atol=1e-5)


def test_model_of_a_table_has_no_backbone_to_name(small: Runs) -> None:
    with pytest.raises(ModelError, match=r"backbone\.kind=logistic starts from no weights"):
        predict(small("logistic"), ROWS, backbone="somewhere")


# --- what transformers makes of it


def run_outputs(
    run: Path, ids: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    model = load_model(run / "model", compute=Compute())[0].model.eval()
    with torch.no_grad():
        return model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state, model(ids, mask)  # type: ignore[operator]


@pytest.mark.parametrize("form", ["hf", "merged"])
def test_transformers_loads_encoder_and_classifier(form: str, small: Runs, moved: Moved) -> None:
    folder = moved("lora", form)
    tokens = AutoTokenizer.from_pretrained(folder)(
        TEXTS["text"][:], truncation=True, padding=True, return_tensors="pt"
    )
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    states, logits = run_outputs(small("lora"), ids, mask)
    encoder, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    classifier = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    assert not report["missing_keys"]
    assert torch.allclose(
        encoder(ids, attention_mask=mask).last_hidden_state[mask == 1], states[mask == 1], atol=1e-4
    )
    assert torch.allclose(classifier(**tokens).logits, logits, atol=1e-4)
    assert classifier.config.id2label == {0: "bad", 1: "fair", 2: "good"}


def test_transformers_loads_a_table_model(small: Runs, moved: Moved) -> None:
    folder = moved("logistic", "merged")
    features = torch.rand(5, 4)
    expected = load_model(small("logistic") / "model", compute=Compute())[0].model(features)
    for auto in (AutoModel, AutoModelForSequenceClassification):
        model = auto.from_pretrained(folder, trust_remote_code=True)
        assert torch.allclose(model(features).logits, expected, atol=1e-6)


def test_exported_classifier_can_be_trained_further(moved: Moved) -> None:
    folder = moved("lora", "merged")
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    loss = model(torch.tensor([[101, 2204, 102]]), labels=torch.tensor([2])).loss
    loss.backward()
    assert all(
        parameter.grad is not None
        for name, parameter in model.named_parameters()
        if "token_type" not in name
    )


@pytest.mark.slow
def test_fresh_process_without_confide_classifies(
    small: Runs, moved: Moved, tmp_path: Path
) -> None:
    folder = moved("full", "merged")
    code = (
        "import sys; from transformers import AutoModel, pipeline;"
        " AutoModel.from_pretrained(sys.argv[1]);classify = pipeline('text-classification',"
        " sys.argv[1], trust_remote_code=True);print(classify('late again', top_k=None), 'confide'"
        " in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    last = done.stdout.splitlines()[-1]
    scored, imported = last.rsplit(" ", 1)
    made = {one["label"]: one["score"] for one in json.loads(scored.replace("'", '"'))}
    expected = predict(small("full"), TEXTS.select([0])).iloc[0]
    assert imported == "False"
    assert all(
        abs(made[name] - expected[f"probability_{name}"]) < 1e-4 for name in ("bad", "fair", "good")
    )
    assert "MISSING" not in done.stderr


# --- what is in the folder


def test_folder_holds_safetensors_and_one_class_and_points_nowhere(moved: Moved) -> None:
    folder = moved("lora", "hf")
    names = {path.name for path in folder.iterdir()}
    assert {
        "adapter_model.safetensors",
        "adapter_config.json",
        "model.safetensors",
        "modeling_confide.py",
    } <= names
    assert [
        path.suffix for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pkl", ".py")
    ] == [".py"]
    assert str(Path.home()) not in (folder / "config.json").read_text()
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_int8_is_measured_beside_the_original_on_labelled_records(
    small: Runs, tmp_path: Path
) -> None:
    comparison = export(small("logistic"), "int8", tmp_path / "small", check=ROWS)
    assert (comparison.num_examples, comparison.num_labelled) == (3, 3)
    assert comparison.run.metrics.keys() == comparison.exported.metrics.keys() > {"accuracy"}
    assert 0 < comparison.difference < 0.05
    assert min(comparison.run.ms_per_record, comparison.exported.ms_per_record) > 0


# --- what is refused


def test_form_that_differs_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    """Outputs so large that rounding alone shows."""
    run = save_run(tmp_path / "run", "lora", backbone=make_backbone(tmp_path / "tiny"), scale=1e4)
    with pytest.raises(
        ModelError, match=r"--to merged: outputs differ from the run's own by .* allowed 0.0001"
    ):
        export(run, "merged")
    assert not list((run / "export").iterdir())


def test_earlier_export_is_replaced_and_any_other_folder_is_not(tmp_path: Path) -> None:
    run = save_table_run(tmp_path / "run")
    export(run, "hf", tmp_path / "out")
    (tmp_path / "out" / "left-over").touch()
    export(run, "merged", tmp_path / "out")
    assert not (tmp_path / "out" / "left-over").exists()
    for taken in (tmp_path, run / "model"):
        with pytest.raises(
            ConfigError, match="was not written by confide export; name another folder"
        ):
            export(run, "hf", taken)


def test_exported_folder_is_not_exported_again(small: Runs, tmp_path: Path) -> None:
    export(small("logistic"), "hf", tmp_path / "out")
    with pytest.raises(ConfigError, match="was exported already, to hf"):
        export(tmp_path / "out", "onnx")


def test_a_form_that_a_model_does_not_have_is_told_with_those_it_has(
    small: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Also where the package is not there, which would not help
    monkeypatch.setattr("confide.inference.packages.find_spec", lambda name: None)
    assert main(["export", str(small("logistic")), "--to", "xgboost"]) == 2
    told = capsys.readouterr().err
    assert "--to xgboost: a model of backbone.kind=logistic has no such form" in told
    assert "it is exported to hf, merged, onnx, int8 only" in told


def test_unknown_form_is_refused(small: Runs) -> None:
    with pytest.raises(ConfigError, match="--to gguf: expected one of hf, merged, onnx, int8"):
        export(small("logistic"), "gguf")


def test_missing_package_is_named_with_what_brings_it(
    small: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        sys.modules, "onnxscript", None
    )  # as Python marks a package that is not there
    with pytest.raises(
        ConfigError, match=r"--to onnx needs onnxscript; `pip install 'confide\[export\]'`"
    ):
        export(small("logistic"), "onnx")


def test_damaged_export_is_refused_by_name(moved: Moved, tmp_path: Path) -> None:
    folder = shutil.copytree(moved("logistic", "merged"), tmp_path / "copy")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelError, match=r"model\.safetensors is missing or not what was exported"):
        predict(folder, ROWS)


@pytest.mark.parametrize(
    "broken",
    [{"model_type": "other", "auto_map": {"AutoConfig": "hostile.C"}}, {"quantization_config": {}}],
)
def test_a_hostile_folder_is_refused_and_its_code_not_run(
    moved: Moved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: dict[str, object]
) -> None:
    folder = tmp_path / "hostile"
    shutil.copytree(moved("head", "merged"), folder)
    (folder / "hostile.py").write_text("raise AssertionError('imported')")
    description, config = (
        json.loads((folder / name).read_text()) for name in ("confide.json", "config.json")
    )
    (folder / "config.json").write_text(json.dumps({**config, **broken}))
    (folder / "confide.json").write_text(json.dumps({**description, "files": {}}))
    monkeypatch.setattr("builtins.input", lambda _: "y")
    with pytest.raises(ModelError, match="cannot be loaded"):
        predict(folder, TEXTS)
