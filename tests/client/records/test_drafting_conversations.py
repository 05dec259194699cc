"""Drafts of conversations, in the forms that files of them have."""

import json
from pathlib import Path
from typing import Any

import pandas
import pytest
import yaml

import confide.cli
from confide.client.records.drafting.draft import Named
from confide.client.records.drafting.reading import draft_source
from confide.client.records.drafting.writing import draft_yaml
from confide.client.records.sources.sources import load_records

COUNT = 40


def openai(n: int) -> dict[str, Any]:
    said = ("system", "Be kind."), ("user", f"Where is order {n}?"), ("assistant", f"{n} is near.")
    return {"messages": [{"role": role, "content": text} for role, text in said]}


def sharegpt(n: int) -> dict[str, Any]:
    said = ("human", f"Where is order {n}?"), ("gpt", f"{n} is near.")
    return {"conversations": [{"from": role, "value": text} for role, text in said]}


def alpaca(n: int) -> dict[str, Any]:
    asked = {"instruction": f"Where is order {n}?", "input": "Order of May" if n % 3 else ""}
    return {**asked, "output": f"Order {n} is near."}


def completion(n: int) -> dict[str, Any]:
    return {"prompt": f"Where is order {n}?", "completion": f"Order {n} is near.", "shop": "north"}


def written(folder: Path, make: Any) -> Path:
    path = folder / "records.json"
    path.write_text(json.dumps([make(n) for n in range(COUNT)]))
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (openai, {"messages_column": "messages"}),
        (sharegpt, {"messages_column": "conversations"}),
        (alpaca, {"prompt_column": "instruction", "context_column": "input"}),
        (completion, {"prompt_column": "prompt"}),
    ],
)
def test_conversations_are_drafted_as_such(make: Any, said: dict[str, str], tmp_path: Path) -> None:
    drafted = draft_yaml(draft_source(str(written(tmp_path, make))), source="records.json")
    task = yaml.safe_load(drafted)
    assert task["kind"] == "causal_lm"
    columns = ("prompt_column", "context_column", "messages_column")
    assert {name: task[name] for name in columns if name in task} == said
    answer = {openai: None, sharegpt: None, alpaca: "output", completion: "completion"}[make]
    assert task["outcome"].get("column") == answer


@pytest.mark.parametrize("lines", [True, False])
def test_json_and_parquet_hold_the_same_conversations(lines: bool, tmp_path: Path) -> None:
    path = written(tmp_path, openai)
    pandas.read_json(path).to_parquet(tmp_path / "records.parquet")
    if lines:
        path = tmp_path / "records.jsonl"
        path.write_text("\n".join(json.dumps(openai(n)) for n in range(COUNT)))
    one, other = (
        load_records(str(it), ("messages",), in_memory_mb=64).records["messages"][:]
        for it in (path, tmp_path / "records.parquet")
    )
    assert list(one) == list(other)


def test_a_class_beside_questions_is_drafted_where_it_is_named(tmp_path: Path) -> None:
    rows = [{**alpaca(n), "topic": ["orders", "bills"][n % 2]} for n in range(COUNT)]
    path = tmp_path / "records.json"
    path.write_text(json.dumps(rows))
    assert draft_source(str(path), Named(label="topic")).task.kind != "causal_lm"


def test_a_project_of_conversations_asks_for_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, sharegpt)
    monkeypatch.chdir(tmp_path)
    assert confide.cli.main(["init", "mine", "--from", "records.json"]) == 0
    assert confide.cli.main(["data", "check", "experiment=mine"]) != 0
    assert "backbone.name=FOLDER" in capsys.readouterr().err
