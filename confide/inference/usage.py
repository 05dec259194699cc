"""How an exported model is used, in Markdown: code that runs in its folder."""

import json
from pathlib import Path
from typing import Any

from confide.config.tasks.task import TaskConfig
from confide.inference.hub_folder import Usage
from confide.inference.predictor import FORMS, ONNX_FILE
from confide.protocol.plan import TrainingPlan
from confide.tasks.outcomes.build import outcome_of

_FOLDER = 'folder = "."  # of this file, or where it was downloaded to'
_HUB_FOLDER = 'folder = "."  # of this file, or OWNER/NAME on the hub'
_MOST_TOKENS = 512
_WITH_CONFIDE = [
    "With confide, from records as the task's schema has them:",
    "",
    "```",
    "confide predict FOLDER RECORDS",
    "```",
    "",
]


def usage_of(folder: Path, plan: TrainingPlan, form: str) -> Usage:
    """Return how the model of a folder is used.

    Args:
        folder: holds the model, whole.
        plan: as it was trained.
        form: that it has.
    """
    library = FORMS[form].library
    usage_fn = {"onnx": _onnx, "xgboost": _xgboost}.get(library, _transformers)
    lines, is_custom = usage_fn(folder, plan)
    text = "\n".join(["## How to use", "", *lines, *_WITH_CONFIDE])
    return Usage(text, is_custom, library)


def _transformers(folder: Path, plan: TrainingPlan) -> tuple[list[str], bool]:
    file = folder / "config.json"
    config: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    autos = [name for name in config.get("auto_map", {}) if name != "AutoConfig"]
    if not autos:
        return [], False
    own = next((name for name in autos if name != "AutoModel"), "AutoModel")
    load = f"model = {own}.from_pretrained(folder, trust_remote_code=True).eval()"
    told: list[str] = []
    if (folder / "tokenizer.json").is_file():
        told = _block(
            f"from transformers import {own}, AutoTokenizer",
            "",
            _HUB_FOLDER,
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
            load,
            *_tokenized(plan.task, "pt"),
            "print(model(**inputs).logits)",
        )
    elif config.get("widths"):
        told = _block(
            "import torch",
            f"from transformers import {own}",
            "",
            _HUB_FOLDER,
            load,
            f"features = torch.zeros(1, {config['widths'][0]})  # a row as confide encodes it",
            "print(model(features).logits)",
        )
        if _is_encodable(plan.task):
            told += [_ROW, ""]
            told += _block(
                *("import pandas", "import torch", f"from transformers import {own}", ""),
                *("from confide.inference.encoding import encode", ""),
                _FOLDER,
                load,
                *_record(plan.task),
                'features = torch.from_numpy(encode(folder, records)["features"])',
                "print(model(features).logits)",
            )
    code = config["auto_map"][own].partition(".")[0]
    trusted = (
        f"`{own}` reads the file `{code}.py` of this folder, which is why it has to be trusted;"
        " look at it first."
    )
    return [trusted, "", *told], True


_ROW = (
    "A row is made of a record's columns by what `confide.json` says of each: its range or"
    " categories, and how they are encoded. confide does so:"
)


def _onnx(folder: Path, plan: TrainingPlan) -> tuple[list[str], bool]:
    name = outcome_of(plan.task).score_name
    names = plan.task.outcome.output_names(plan.task.labelling)
    session = f'session = onnxruntime.InferenceSession(f"{{folder}}/{ONNX_FILE}")'
    said = [f"`{ONNX_FILE}` gives `logits` and `{name}`, for any number of records."]
    said += [f"In order: {', '.join(f'`{one}`' for one in names)}."] if names else []
    lines = [" ".join(said), ""]
    run = f'print(session.run(["{name}"], inputs)[0].tolist())'
    if (folder / "tokenizer.json").is_file():
        lines += _block(
            *("import onnxruntime", "from transformers import AutoTokenizer", ""),
            _FOLDER,
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
            session,
            *_tokenized(plan.task, "np", name="tokens"),
            "inputs = {it.name: tokens[it.name] for it in session.get_inputs()}",
            run,
        )
    elif _is_encodable(plan.task):
        lines += [_ROW, ""]
        lines += _block(
            *("import onnxruntime", "import pandas", ""),
            *("from confide.inference.encoding import encode", ""),
            _FOLDER,
            session,
            *_record(plan.task),
            "inputs = encode(folder, records)",
            run,
        )
    return lines, False


def _xgboost(folder: Path, plan: TrainingPlan) -> tuple[list[str], bool]:
    if not _is_encodable(plan.task):
        return [], False
    code = _block(
        *("import pandas", "import xgboost", ""),
        *("from confide.inference.encoding import encode", ""),
        _FOLDER,
        'booster = xgboost.Booster(model_file=f"{folder}/model.json")',
        *_record(plan.task),
        'features = encode(folder, records)["features"]',
        "rows = xgboost.DMatrix(features, feature_names=booster.feature_names)",
        "print(booster.predict(rows).tolist())",
    )
    return [_ROW, "", *code], False


def _is_encodable(task: TaskConfig) -> bool:
    # A task of somebody's own is imported where its user says so, and on no file's word
    return bool(task.table_columns) and not task.custom_tasks


def _tokenized(task: TaskConfig, tensors: str, *, name: str = "inputs") -> list[str]:
    longest = min([*task.text_limits.values(), _MOST_TOKENS])
    texts = ", ".join(['["a text"]'] * max(1, len(task.text_limits)))
    return [
        f"{name} = tokenizer(",
        f"    {texts}, truncation=True, max_length={longest}, padding=True,"
        f' return_tensors="{tensors}"',
        ")",
    ]


def _record(task: TaskConfig) -> list[str]:
    """Return lines that make a record up: the middle of each range, the first category."""
    cells = {
        name: column.categories[0]
        if column.minimum is None or column.maximum is None
        else f"{(column.minimum + column.maximum) / 2:g}"
        for name, column in task.table_columns.items()
    }
    return [
        "record = {",
        *(f"    {_quoted(name)}: {_quoted(cell)}," for name, cell in cells.items()),
        "}",
        "records = pandas.DataFrame([record])  # or pandas.read_csv(FILE, dtype=str)",
    ]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _block(*lines: str) -> list[str]:
    return ["```python", *lines, "```", ""]


__all__ = ["usage_of"]
