"""A model of any kind answers with what `predict` gives for that record alone, bit for bit."""

import base64
from pathlib import Path
from typing import Any

import httpx
import pandas
import pytest
from every_kind import KINDS, records_of, train, words_of
from served_models import app_of, asked, infer, request, serving, told

from confide.client.personal.model import model_of
from confide.inference.prediction import predict
from confide.serving.app import Served
from confide.serving.datatypes import json_values
from confide.simulations.datasets.stations import loads

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # peft asks transformers for a property that transformers has renamed.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


def in_text(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return records as JSON and CSV hold them: files in base 64."""
    return frame.map(lambda it: base64.b64encode(it).decode() if isinstance(it, bytes) else it)


def alone(run: Path, frame: pandas.DataFrame, one: Served) -> list[dict[str, Any]]:
    """Return what `predict` gives for records of which each is given by itself."""
    types = {column.name: column.datatype for column in one.signature.outputs}
    found = []
    for at in range(len(frame)):
        answer = predict(run, frame.iloc[[at]])
        row = {str(name): json_values(answer[name].tolist(), types[str(name)]) for name in answer}
        found += [dict(zip(row, values, strict=True)) for values in zip(*row.values(), strict=True)]
    return found


def lines(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_predict(kind: str, tmp_path: Path) -> None:
    words = words_of(kind, tmp_path)
    place = tmp_path / "run"
    train(words, place)
    frame = records_of(words, tmp_path / "records")
    sent = in_text(frame)
    with app_of(place) as (app, one):
        taken = one.signature.expected(list(sent))
        columns = {it.name: sent[it.name].tolist() for it in taken if it.name in sent}
        numbers = {
            it.name: [None if text == "" else float(text) for text in columns[it.name]]
            for it in taken
            if it.datatype == "FP64" and it.name in columns
        }
        body = sent.to_csv(index=False).encode()
        as_csv = request("POST", "/predict", content=body, headers={"content-type": "text/csv"})
        as_json = request("POST", "/predict", json=lines(columns | numbers))
        answers = asked(app, as_csv, as_json, infer(one, columns | numbers))
        expected = alone(place, frame, one)
    assert [answer.status_code for answer in answers] == [200] * 3, answers[0].text
    for answer in answers[:2]:
        assert answer.json()["predictions"] == expected
    assert lines(told(answers[2])) == expected


@pytest.mark.parametrize("kind", ["forecast", "classes of series"])
def test_readings_give_a_line_a_series(kind: str, tmp_path: Path) -> None:
    """What is to be predicted is in none of them: nobody knows it yet."""
    train(words_of(kind, tmp_path), tmp_path / "run")
    rows = loads(days=2).drop(columns="overload")
    with app_of(tmp_path / "run") as (app, one):
        assert [tuple(column) for column in one.signature.inputs] == [
            ("station", "BYTES"),
            ("hour", "BYTES"),
            ("load", "FP64"),
        ]
        sent = rows.astype({"hour": str})
        by_protocol = infer(one, {name: sent[name].tolist() for name in sent})
        answers = asked(app, request("POST", "/predict", json=sent.to_dict("records")), by_protocol)
        by_series = [predict(tmp_path / "run", part) for _, part in rows.groupby("station")]
        types = {column.name: column.datatype for column in one.signature.outputs}
    expected = pandas.concat(by_series)
    found = {str(name): json_values(expected[name].tolist(), types[str(name)]) for name in expected}
    assert answers[0].json()["predictions"] == lines(found)
    assert told(answers[1]) == found


def test_an_institutions_own_model_answers(tmp_path: Path) -> None:
    words = [*words_of("classes of rows", tmp_path), "backbone=mlp", "strategy=fedper"]
    run = tmp_path / "run"
    train(words, run)
    frame = records_of(words, tmp_path / "records")
    with serving(run, "--personal", "Cleveland") as process:
        body = frame.to_csv(index=False).encode()
        answer = httpx.post(
            f"{process.url}/predict", content=body, headers={"content-type": "text/csv"}
        )
    found = pandas.DataFrame(answer.json()["predictions"])
    with model_of(run, "Cleveland") as folder:
        own = pandas.concat([predict(folder, frame.iloc[[at]]) for at in range(3)])
    shared = predict(run, frame)
    for name in own:
        assert found[name].tolist() == json_values(
            own[name].tolist(), "BYTES" if name == "prediction" else "FP32"
        )
    assert found["probability_present"].tolist() != json_values(
        shared["probability_present"].tolist(), "FP32"
    )
