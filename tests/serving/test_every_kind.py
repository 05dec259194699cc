"""A model of any kind answers with what `predict` gives for that record alone, bit for bit."""

import base64
from pathlib import Path
from typing import Any

import pandas
import pytest
from every_kind import KINDS, records_of, train, words_of
from served_models import app_of, asked, infer, request, told

from confide.inference.prediction import predict
from confide.serving.app import Served
from confide.serving.datatypes import json_values

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
        answer = predict(run, frame.iloc[[at]], device="cpu")
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
