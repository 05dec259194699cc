"""A small run of every kind of model, from its overrides to records that it predicts on."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import masks_made
import pandas
import small_items
import sounds_made
from masks_made import write_squares
from picture_models import make_vision
from pictures_made import write_folder
from rich.console import Console
from small_language_models import make_language_model
from small_models import make_backbone
from small_seq2seq import ENGLISH, GERMAN, in_words, make_seq2seq
from small_whisper import make_whisper
from sounds_made import spelling_job, write_spelled, write_tones
from survivors import patients

from confide.config.composing.compose import compose
from confide.server.progress.lines import LineProgress
from confide.simulations.commands.partition import main as partition
from confide.simulations.run import simulate

STEPS = "client.local_steps=2"
"""Of those kinds that are trained in steps of a number that is free."""
_SHORT = (
    *("simulation.baselines=[]", "tracking=none", "privacy=none", "trainer.num_threads=1"),
    *("data.validation=0.1", "data.test=0.3"),
)
_FEW = ("data.num_clients=2", "data.partitioner=iid")
_HEART = ("experiment=heart_disease", STEPS)
_STATIONS = ("data.kwargs={days: 20}", "task.block=48", "task.lookback=8", STEPS)
_SAID = ("late again", "a kind crew", "so late and so rude", "on time", "lost my bag", "thank you")
_NAMES = {"anna": "B-person", "maria": "B-person", "rome": "B-place", "oslo": "B-place"}


def _jsonl(path: Path, lines: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    """Write records of sites, and return what names them."""
    path.write_text(
        "".join(json.dumps({"site": "ab"[at % 2], **it}) + "\n" for at, it in enumerate(lines))
    )
    return (f"data.path={path}", "data=default", "data.public=true", "data.partition_by=site")


def _encoder(folder: Path, lines: Sequence[Mapping[str, object]], *words: str) -> list[str]:
    backbone = f"backbone.name={make_backbone(folder / 'backbone').name}"
    own = _jsonl(folder / "texts.jsonl", lines)
    return [*words, "task.max_tokens=16", "backbone=transformer", backbone, *own, STEPS]


def _texts(folder: Path) -> list[str]:
    lines = [{"text": f"{_SAID[n % 6]} {n}", "label": "ab"[n % 3 > 0]} for n in range(48)]
    return _encoder(folder, lines, "task=text", "task.labels=[a,b]", "tuning=full")


def _labels(folder: Path) -> list[str]:
    lines = [
        {"text": f"{_SAID[n % 6]} {n}", "about": ["", "delay", "crew|delay"][n % 3]}
        for n in range(48)
    ]
    outcome = ("task/outcome=multi_label", "task.outcome.labels=[delay,crew]")
    column = ("task.outcome.column=about", "task.outcome.separator='|'")
    return _encoder(folder, lines, "task=text", *outcome, *column, "tuning=lora", "tuning.rank=2")


def _grades(folder: Path) -> list[str]:
    lines = [{"text": f"{_SAID[n % 6]} {n}", "grade": str(n % 3)} for n in range(48)]
    outcome = ("task/outcome=ordinal", "task.outcome.labels=['0','1','2']")
    column = "task.outcome.column=grade"
    return _encoder(folder, lines, "task=text", *outcome, column, "tuning=head")


def _spans(folder: Path) -> list[str]:
    lines = []
    for n in range(48):
        said = [list(_NAMES)[n % 4], "in", list(_NAMES)[n % 3], str(n)]
        lines.append({"words": said, "tags": [_NAMES.get(word, "O") for word in said]})
    types = "task.outcome.types=[person,place]"
    return _encoder(folder, lines, "task=token_classification", types, "tuning=full")


def _survival(folder: Path) -> list[str]:
    patients(300).to_csv(folder / "patients.csv", index=False)
    own = (f"data.path={folder / 'patients.csv'}", "data.public=true", "data.partition_by=centre")
    return ["task=dialysis", "backbone=logistic", "tuning=full", "client=private_table", *own]


def _conversations(folder: Path) -> list[str]:
    lines = [{"prompt": f"Where is order {n}?", "answer": f"Order {n} is near."} for n in range(32)]
    folder.mkdir(exist_ok=True)
    name = make_language_model(folder / "backbone").name
    return [
        *("task=conversations", "task.max_tokens=96", "task.outcome.max_tokens=32"),
        *("backbone=language_model", f"backbone.name={name}", "backbone.trained_layers=1"),
        *("tuning=lora", "tuning.rank=4", STEPS, *_jsonl(folder / "talks.jsonl", lines)),
    ]


def _many_turns(folder: Path) -> list[str]:
    turns = (
        ("user", "Hello"),
        ("assistant", "Yes?"),
        ("user", "Order {}"),
        ("assistant", "{} came."),
    )
    lines = [
        {"messages": json.dumps([{"role": it, "content": text.format(n)} for it, text in turns])}
        for n in range(32)
    ]
    words = [word for word in _conversations(folder) if not word.startswith("data")]
    return [*words, "task.messages_column=messages", *_jsonl(folder / "many.jsonl", lines)]


def _translation(folder: Path, *tuning: str) -> list[str]:
    lines = [{"source": in_words(n, ENGLISH), "target": in_words(n, GERMAN)} for n in range(10, 42)]
    return [
        *("task=translation", "task.max_tokens=16", "task.outcome.max_tokens=16", *tuning),
        *("backbone=seq2seq", f"backbone.name={make_seq2seq(folder / 'backbone').name}"),
        *_jsonl(folder / "numbers.jsonl", lines),
        STEPS,
    ]


def _pictures(folder: Path, *model: str) -> list[str]:
    for number, name in enumerate(("east", "west")):
        write_folder(folder / "wards" / name, 30, seed=number)
    return [
        *("task=image", "task.labels=[dark,light]", "task.channels=1", *model),
        *(f"data.path={folder / 'wards'}", "data.public=true"),
    ]


def _vision(folder: Path) -> list[str]:
    backbone = make_vision(folder, "vit")
    words = ("task.size=16", "task.channels=3", "backbone=vision", f"backbone.name={backbone.name}")
    return [*_pictures(folder, *words, "tuning=lora", "tuning.rank=2")]


def _whisper(folder: Path) -> list[str]:
    left = ("backbone", "tuning", "task.outcome", "task.bands", "task.step_ms")
    texts = spelling_job(write_spelled(folder / "wards"))
    return [
        *(word for word in texts if not word.startswith(left)),
        *("task/outcome=text", "task.outcome.column=text", "task.outcome.max_tokens=16"),
        *("backbone=seq2seq", f"backbone.name={make_whisper(folder / 'whisper').name}"),
        "tuning=lora",
    ]


def _given(*words: str) -> Callable[[Path], list[str]]:
    return lambda folder: list(words)


KINDS: dict[str, Callable[[Path], list[str]]] = {
    "classes of rows": _given(*_HEART),
    "classes of rows, additive": _given(*_HEART, "backbone=additive"),
    "number of rows": _given("experiment=synthetic_linear", "data.num_clients=3"),
    "survival": _survival,
    "trees": _given("experiment=heart_trees", "backbone.num_trees=1", "backbone.depth=2"),
    "forecast": _given("experiment=stations", *_STATIONS, "task.season=8"),
    "classes of series": _given(
        *("task=overloads", "data=stations", "backbone=patches", "tuning=full"), *_STATIONS
    ),
    "classes of texts": _texts,
    "labels of texts": _labels,
    "grades of texts": _grades,
    "spans": _spans,
    "recommendation": lambda folder: small_items.words(folder),
    "pictures, cnn": lambda folder: _pictures(
        folder, "task.size=8", "backbone=cnn", "backbone.widths=[4]", "tuning=full"
    ),
    "pictures, vision": _vision,
    "masks": lambda folder: masks_made.job(write_squares(folder / "squares", count=40)),
    "sounds": lambda folder: sounds_made.job(write_tones(folder / "tones")),
    "speech, ctc": lambda folder: spelling_job(write_spelled(folder / "wards")),
    "speech, whisper": _whisper,
    "conversations": _conversations,
    "conversations of many turns": _many_turns,
    "texts from texts": lambda folder: _translation(folder, "tuning=full"),
    "texts from texts, adapters": lambda folder: _translation(folder, "tuning=lora"),
}
"""Kind -> writes what its run takes into a folder and returns the overrides."""


def words_of(kind: str, folder: Path) -> list[str]:
    """Write what a kind's run takes into a folder, and return its overrides: one round of it."""
    left = ("server.num_rounds", "simulation.baselines", "privacy", "tracking", "data.test")
    words = [
        word for word in KINDS[kind](folder) if not word.startswith((*left, "data.validation"))
    ]
    # Trees take as many rounds as they have levels
    rounds = () if kind == "trees" else ("server.num_rounds=1",)
    return [*words, *rounds, *_SHORT]


def train(words: Sequence[str], folder: Path) -> dict[str, Any]:
    """Simulate into a folder, and return the summary."""
    unseen = LineProgress(Console(file=io.StringIO()), metric="accuracy")
    cached = (f"trainer.feature_cache={folder.parent / 'features'}", *words)
    return simulate(compose(cached), folder, progress=unseen)


def records_of(words: Sequence[str], folder: Path, count: int = 3) -> pandas.DataFrame:
    """Return records of a run's institutions as their files hold them, all as text.

    Pictures and sounds are the bytes of their files, and records that are made of rows are made.
    """
    assert partition([str(folder), *words]) == 0
    schema = compose(words).task
    frame = pandas.read_csv(min(folder.glob("*.csv")), dtype=str, keep_default_na=False)
    frame = frame.head(count)
    for media in () if schema.files is None else schema.files.each:
        if media.column in frame:
            files = [(folder / name).read_bytes() for name in frame[media.column]]
            frame = frame.assign(**{media.column: files})
    return frame


__all__ = ["KINDS", "records_of", "train", "words_of"]
