"""An exported folder is ready for a hub: valid metadata, usage that runs, nothing private."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
from huggingface_hub import ModelCard, RepoCard, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results
from report_run import run
from small_models import make_backbone, save_run

from confide.inference.export import export
from confide.inference.prediction import predict
from confide.inference.predictor import load_predictor
from confide.models.compute import Compute
from confide.models.licences import licence_of

NAMES = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")


@pytest.fixture(scope="module")
def heart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of heart's, exported."""
    folder = tmp_path_factory.mktemp("heart") / "run"
    run(folder, "simulation.baselines=[]", "task.subgroups.sex=[]", "report.card.license=MIT")
    export(folder, "hf")
    return folder / "export" / "hf"


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported adapter on a backbone that lies in a folder of this machine."""
    place = tmp_path_factory.mktemp("texts")
    backbone = make_backbone(place / "bert")
    (place / "bert/README.md").write_text("---\nlicense: mit\n---\n# BERT\n")
    (place / "bert/LICENSE").write_text("MIT License\n")
    made = save_run(place / "run", "lora", backbone=backbone)
    (made / "model_card.md").write_text("---\ntags:\n- a\n---\n# A model\n")
    export(made, "hf")
    return made / "export" / "hf"


def usage(folder: Path) -> str:
    return codes(folder)[0]


def codes(folder: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)


def printed(code: str, folder: Path) -> str:
    """Run code as somebody who has the folder does; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False
    )
    assert not done.returncode, done.stderr
    return done.stdout


def test_metadata_is_what_hubs_read(heart: Path) -> None:
    card = ModelCard.load(heart / "README.md")
    assert (card.data.license, card.data.library_name) == ("mit", "transformers")
    assert card.data.pipeline_tag == "tabular-classification"
    assert set(card.data.tags) == {"federated-learning", "custom_code"}
    metadata = metadata_load(heart / "README.md")
    assert metadata is not None
    name, results = model_index_to_eval_results(metadata["model-index"])
    assert name == "simulation"
    assert {one.metric_type for one in results} >= {"accuracy", "auc"}
    again = RepoCard(card.content)  # what upload_folder reads first
    assert again.data.to_dict() == card.data.to_dict()
    assert "safetensors filter=lfs" in (heart / ".gitattributes").read_text()


@pytest.mark.parametrize("which", ["heart", "texts"])
def test_usage_of_the_readme_runs_without_confide(
    which: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(which)
    code = usage(folder) + "\nimport sys\nprint('confide' in sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=True
    )
    assert "tensor(" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_a_record_becomes_a_row_as_the_readme_says(heart: Path) -> None:
    with_confide = codes(heart)[1]
    told = printed(f"{with_confide}print(model(features).logits.softmax(1)[0].tolist())", heart)
    (record,) = re.findall(r"record = (\{.*?\n\})", with_confide, re.DOTALL)
    expected = predict(heart, pandas.DataFrame([ast.literal_eval(record)]))
    assert json.loads(told.splitlines()[-1]) == pytest.approx(
        expected.filter(like="probability_").iloc[0].tolist(), abs=1e-6
    )


@pytest.mark.parametrize("form", ["onnx", "int8"])
def test_onnx_has_the_card_and_usage_that_runs(heart: Path, form: str) -> None:
    export(heart.parents[1], form)
    folder = heart.parent / form
    card, other = ModelCard.load(folder / "README.md"), ModelCard.load(heart / "README.md")
    assert card.data.library_name == "onnx"
    assert card.text.partition("## How to use")[0] == other.text.partition("## How to use")[0]
    assert "In order: `absent`, `present`." in card.text
    assert (folder / "curves.svg").is_file()
    assert (folder / ".gitattributes").read_text().startswith("*.onnx filter=lfs")
    (code,) = codes(folder)
    (record,) = re.findall(r"record = (\{.*?\n\})", code, re.DOTALL)
    expected = predict(folder, pandas.DataFrame([ast.literal_eval(record)]))
    (told,) = json.loads(printed(code, folder))
    assert told == pytest.approx(expected.filter(like="probability_").iloc[0].tolist(), abs=1e-6)


def test_usage_of_texts_in_onnx_runs_without_confide(texts: Path) -> None:
    export(texts.parents[1], "onnx")
    folder = texts.parent / "onnx"
    (code,) = codes(folder)
    told = printed(f"{code}import sys\nprint('confide' in sys.modules)", folder)
    scores, known = told.splitlines()
    expected = predict(folder, pandas.DataFrame({"text": ["a text"]}))
    assert known == "False"
    assert json.loads(scores)[0] == pytest.approx(
        expected.filter(like="probability_").iloc[0].tolist(), abs=1e-5
    )


def test_nothing_private_is_in_the_folder(heart: Path, texts: Path) -> None:
    for folder in (heart, texts):
        for path in folder.iterdir():
            content = path.read_bytes().decode("utf-8", "replace")
            assert str(Path.home()) not in content or str(Path.home()) == "/"
            assert str(folder.parents[2]) not in content, path.name
            assert not any(name in content for name in NAMES), path.name
    assert {path.name for path in heart.iterdir()} == {
        *(".gitattributes", "README.md", "confide.json", "config.json", "curves.svg"),
        *("model.safetensors", "modeling_confide_tabular.py"),
    }
    settings = json.loads((texts / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "bert"


def test_licence_of_the_backbone_goes_with_it_and_card_may_be_changed(texts: Path) -> None:
    assert (texts / "LICENSE.backbone").read_text() == "MIT License\n"
    (texts / "README.md").write_text("# Ours\n")
    (texts / "LICENSE.backbone").write_text("MIT\n")
    load_predictor(texts, compute=Compute())  # neither decides an output


def test_licence_is_told_as_it_is_found(tmp_path: Path) -> None:
    assert licence_of(tmp_path).sentence == "not stated"
    (tmp_path / "COPYING").write_text("GPL")
    assert licence_of(tmp_path).sentence == "as its COPYING has it"
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert licence_of(tmp_path).sentence == "apache-2.0, by its README.md"
    (tmp_path / "README.md").write_text("---\nlicense: [a\n---\n")
    assert licence_of(tmp_path).name == ""
