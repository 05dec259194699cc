"""An answer is what `predict` gives for that record alone, whoever else asks at the same time."""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from builders import build_plan, build_tuning
from picture_models import cnn_workload
from pictures_made import build_pictures, drawn, file_of
from served_models import app_of, asked, infer, loaded, request, served, told
from small_items import interactions, make_catalogue
from small_language_models import build_answer_plan, make_language_model
from small_models import MINILM, make_backbone, save_run, save_table_run
from starlette.types import ASGIApp

from confide.cli import main
from confide.config.models.cnn import CnnConfig
from confide.config.models.items import ItemsConfig
from confide.config.outcomes.multi_label import MultiLabelConfig
from confide.config.outcomes.next_item import NextItemConfig
from confide.config.tasks.recommendation import RecommendationConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.errors import DataError
from confide.inference.prediction import predict
from confide.models.backbones import content_hash, find_backbone
from confide.models.compute import Compute
from confide.models.language.writing import WritingOptions
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model
from confide.models.start import parent_of
from confide.models.workload import build_workload
from confide.protocol.plan import TrainingPlan
from confide.serving.answering import Answerer
from confide.serving.datatypes import json_values
from confide.serving.identity import identity_of

TABLE = {"age": [30.0, None, 61.5, 99.0, 1.0], "pain": ["some", "none", "some", None, "none"]}
TEXTS = {"text": ["late again", "", "what a very good crew, and so kind to us", "late", "a b c"]}


def rows(columns: Mapping[str, list[Any]]) -> list[dict[str, list[Any]]]:
    count = len(next(iter(columns.values())))
    return [{name: [values[i]] for name, values in columns.items()} for i in range(count)]


def alone(run: Path, row: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Return what `predict` gives for one record."""
    frame = predict(run, pandas.DataFrame(row))
    kinds = {name: "BYTES" if name == "prediction" else "FP32" for name in frame}
    return {str(name): json_values(frame[name].tolist(), kinds[name]) for name in frame}


@pytest.mark.parametrize("kind", ["logistic", "perceptron", "whole encoder", "frozen encoder"])
def test_answers_are_bit_for_bit_those_of_predict_alone(kind: str, tmp_path: Path) -> None:
    if kind == "logistic":
        run, columns = save_table_run(tmp_path), TABLE
    elif kind == "perceptron":
        run, columns = save_table_run(tmp_path, hidden=(7, 5)), TABLE
    elif kind == "whole encoder":
        run, columns = save_run(tmp_path, backbone=make_backbone(tmp_path / "backbone")), TEXTS
    else:
        run, columns = save_run(tmp_path, "head", backbone=MINILM), TEXTS
    with app_of(run) as (app, one):
        answers = asked(app, *(infer(one, row) for row in rows(columns)))
        (together,) = asked(app, infer(one, columns))
    expected = [alone(run, row) for row in rows(columns)]
    assert [told(answer) for answer in answers] == expected
    assert rows(told(together)) == expected


def test_a_record_that_does_not_fit_fails_no_other(tmp_path: Path) -> None:
    with app_of(save_table_run(tmp_path)) as (app, one):
        sent = [{"age": [30.0], "pain": [pain]} for pain in ("some", "sharp", "none")]
        answers = asked(app, *(infer(one, columns) for columns in sent * 5))
    assert [answer.status_code for answer in answers] == [200, 400, 200] * 5
    assert "unknown categor" in answers[1].json()["error"]


def test_problems_are_those_of_predict(tmp_path: Path) -> None:
    run = save_table_run(tmp_path)
    wrong = {"age": ["x", "30"], "pain": ["sharp", "some"]}
    with pytest.raises(DataError) as error:
        predict(run, pandas.DataFrame(wrong))
    with app_of(run) as (app, _):
        sent = pandas.DataFrame(wrong).to_dict("records")
        (answer,) = asked(app, request("POST", "/predict", json=sent))
    assert answer.json()["error"] == " ".join(error.value.problems)


def test_values_outside_their_range_are_told_as_predict_tells_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = save_table_run(tmp_path / "run"), tmp_path / "in.csv"
    file.write_text("age,pain\n400,some\n30,none\n")
    assert main(["predict", str(run), str(file)]) == 0
    notes = [it for it in capsys.readouterr().err.splitlines() if it.startswith("note: ")]
    with app_of(run) as (app, one):
        inside, outside, plain, fine = asked(
            app,
            infer(one, {"age": [30.0], "pain": ["some"]}),
            infer(one, {"age": [400.0, 30.0], "pain": ["some", "none"]}),
            request(
                "POST",
                "/predict",
                content=file.read_bytes(),
                headers={"content-type": "text/csv"},
            ),
            request("POST", "/predict", json=[{"age": None, "pain": "some"}]),
        )
    assert [f"note: {outside.json()['parameters']['warnings']}"] == notes
    assert [f"note: {it}" for it in plain.json()["warnings"]] == notes
    assert "1 of 2 values lie outside its range" in notes[0]
    assert "warnings" not in inside.json()["parameters"]
    assert "warnings" not in fine.json()


def test_what_is_not_foreseen_is_told_by_its_name_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(batch: object) -> Any:
        raise ZeroDivisionError("a secret")

    predictor = replace(loaded(save_table_run(tmp_path)), logits=fail)
    answerer = Answerer(predictor, WritingOptions())
    one = answerer.asked({"age": ["30"], "pain": ["some"]})
    assert [type(it) for it in answerer.answer([one, one])] == [ZeroDivisionError] * 2
    with app_of(tmp_path) as (app, it):
        vars(it.batcher)["_answer_fn"] = answerer.answer
        (answer,) = asked(app, infer(it, {"age": [30.0], "pain": ["some"]}))
    assert (answer.status_code, answer.json()["error"]) == (
        500,
        "The model failed (ZeroDivisionError).",
    )
    assert "secret" not in caplog.text


def test_every_answer_says_which_model_it_is_of(tmp_path: Path) -> None:
    run = save_table_run(tmp_path)
    (tmp_path / "summary.json").write_text(
        f'{{"model_sha256": "{loaded(run).description.model_sha256}",'
        ' "privacy": {"unit": "record", "epsilon": 3.0, "delta": 1e-5, "clipping_norm": 1}}'
    )
    with app_of(run) as (app, one):
        answer, about = asked(
            app,
            infer(one, {"age": [30.0], "pain": ["some"]}),
            request("GET", f"/v2/models/{one.identity.name}"),
        )
    description = loaded(run).description
    expected = {
        "model_sha256": description.model_sha256,
        "plan_sha256": description.plan.sha256,
        "run": "small",
        "form": "run",
        "privacy_unit": "record",
        "privacy_epsilon": 3.0,
        "privacy_delta": 1e-5,
    }
    assert answer.json()["parameters"] == about.json()["parameters"] == expected
    assert answer.headers["confide-model-sha256"] == description.model_sha256
    assert answer.headers["confide-privacy-epsilon"] == "3.0"
    assert about.json()["versions"] == [description.model_sha256[:12]]


def test_runs_that_a_model_was_trained_on_from_are_told(tmp_path: Path) -> None:
    predictor = loaded(save_table_run(tmp_path))
    parents = tuple(parent_of(predictor.plan, digit * 64) for digit in "ab")
    plan = replace(predictor.plan, parents=parents)
    later = replace(predictor, description=replace(predictor.description, plan=plan))
    assert identity_of(later, tmp_path, None).parameters["parents"] == f"{'a' * 12} {'b' * 12}"


def test_a_summary_of_another_model_is_not_told(tmp_path: Path) -> None:
    run = save_table_run(tmp_path)
    (tmp_path / "summary.json").write_text('{"model_sha256": "0", "privacy": {"epsilon": 3.0}}')
    one = served(run)
    one.batcher.end()
    assert "privacy_epsilon" not in one.identity.parameters


def test_a_summary_that_claims_no_number_keeps_no_answer_from_anybody(tmp_path: Path) -> None:
    run = save_table_run(tmp_path)
    claimed = {"unit": "record", "epsilon": float("nan"), "delta": float("inf")}
    written = {"model_sha256": loaded(run).description.model_sha256, "privacy": claimed}
    (tmp_path / "summary.json").write_text(json.dumps(written))
    one = served(run)
    one.batcher.end()
    told = one.identity.parameters
    assert told["privacy_unit"] == "record"
    assert not {"privacy_epsilon", "privacy_delta"} & set(told)


# --- what is written, and what is made


def saved(run: Path, plan: TrainingPlan) -> Path:
    """Save the model that a plan starts from."""
    workload = build_workload(plan.task, plan.backbone, plan.tuning, compute=Compute(), seed=0)
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in trainable_tensors(workload.model).items()
    }
    save_model(run / "model", workload, tensors, plan)
    return run


def test_probabilities_of_many_labels_are_those_of_the_record_alone(tmp_path: Path) -> None:
    labels = [f"label {number}" for number in range(19)]
    task = TextClassificationConfig(max_tokens=16, outcome=MultiLabelConfig(labels=labels))
    backbone = make_backbone(tmp_path / "backbone")
    digest, tuning = content_hash(find_backbone(backbone)), build_tuning("full")
    run = saved(
        tmp_path,
        build_plan(task=task, backbone=backbone, backbone_sha256=digest, tuning=tuning),
    )
    with app_of(run) as (app, one):
        (answer,) = asked(app, infer(one, TEXTS))
    assert rows(told(answer)) == [alone(run, row) for row in rows(TEXTS)]


def test_a_model_that_writes_answers_each_question_as_if_it_were_alone(tmp_path: Path) -> None:
    run = saved(tmp_path, build_answer_plan(make_language_model(tmp_path / "llama")))
    questions = ["Where is my card?", "Hi", "Why was I charged?"]
    with app_of(run) as (app, one):
        answers = asked(app, *(infer(one, {"prompt": [it]}) for it in questions))
        (metrics,) = asked(app, request("GET", "/metrics"))
    expected = predict(run, pandas.DataFrame({"prompt": questions}))
    assert [told(answer)["prediction"] for answer in answers] == [
        [it] for it in expected.prediction
    ]
    assert "confide_serve_batch_records_count 3.0" in metrics.text.splitlines()


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("items")
    backbone = ItemsConfig(name=str(make_catalogue(folder / "catalogue")), width=4)
    task = RecommendationConfig(outcome=NextItemConfig(top=2), known=4, metrics=["hit_rate_10"])
    digest = content_hash(Path(backbone.name))
    tuning = build_tuning("head")
    return saved(
        folder, build_plan(task=task, backbone=backbone, backbone_sha256=digest, tuning=tuning)
    )


def test_rows_of_one_user_in_two_requests_are_not_put_together(items: Path) -> None:
    rows = interactions(users=4)
    first = rows[rows.user.isin(["u0", "u1"])]
    second = rows[rows.user.isin(["u1", "u2"])].assign(user="u1")
    sent = [
        request(
            "POST",
            "/predict",
            json=json.loads(it[["user", "item", "time"]].to_json(orient="records")),
        )
        for it in (first, second)
    ]
    with app_of(items) as (app, _):
        answers = [answer.json()["predictions"] for answer in asked(app, *sent)]
    assert [[row["user"] for row in answer] for answer in answers] == [["u0", "u1"], ["u1"]]
    for rows, answer in zip((first, second), answers, strict=True):
        expected = predict(items, rows)
        assert [row["item_1"] for row in answer] == expected["item_1"].tolist()


def test_records_that_are_made_already_are_taken_too(items: Path) -> None:
    history = {"history": ['["i1", "i2"]', '["i3"]']}
    with app_of(items) as (app, one):
        answer, odd = asked(
            app,
            infer(one, history, outputs=[{"name": "item_1"}]),
            infer(one, history, outputs=[{"name": "user"}]),
        )
    expected = predict(items, pandas.DataFrame(history))
    assert told(answer) == {"item_1": expected["item_1"].tolist()}
    assert "outputs.user: these records say nothing of it" in odd.json()["error"]


# --- files


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run, workload = tmp_path_factory.mktemp("pictures"), cnn_workload()
    tuning = build_tuning("full")
    backbone = CnnConfig(widths=[4, 6])
    plan = build_plan(job="small", task=build_pictures(), backbone=backbone, tuning=tuning)
    save_model(run / "model", workload, trainable_tensors(workload.model), plan)
    return run


def ask_pictures(app: ASGIApp, *cells: str | None) -> Any:
    return asked(app, request("POST", "/predict", json=[{"image": cell} for cell in cells]))[0]


def test_pictures_travel_as_their_bytes(pictures: Path) -> None:
    files = [file_of(drawn(seed)) for seed in range(3)]
    expected = predict(pictures, pandas.DataFrame({"image": files}))
    with app_of(pictures) as (app, _):
        answer = ask_pictures(app, *(base64.b64encode(file).decode() for file in files))
    told = [row["prediction"] for row in answer.json()["predictions"]]
    assert told == expected["prediction"].tolist()


def test_no_file_of_this_machine_is_looked_up(pictures: Path, tmp_path: Path) -> None:
    place = tmp_path / "a.png"
    place.write_bytes(file_of(drawn()))
    for name in (str(place), "\0held\0" + "0" * 64 + f"\0\0file\0{place}"):
        as_text = base64.b64encode(name.encode()).decode()
        with app_of(pictures) as (app, _):
            assert "no base 64" in ask_pictures(app, name).json()["error"]
            answer = ask_pictures(app, as_text)
        assert answer.status_code == 400
        assert "no picture that can be read" in answer.json()["error"]


def test_pictures_of_a_request_hold_no_more_pixels_than_one_may(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = base64.b64encode(file_of(drawn(0, (20, 20)))).decode()
    monkeypatch.setattr("confide.serving.answering._MOST_EXTENT", 800)
    with app_of(pictures) as (app, _):
        assert ask_pictures(app, file, file).status_code == 200
        answer = ask_pictures(app, file, None, file, file)
    assert answer.status_code == 400
    assert "more than 100 million pixels or samples together" in answer.json()["error"]
