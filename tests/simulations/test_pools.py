"""Institutions' records encoded together are bit for bit those that each encodes by itself."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from builders import LINEAR, build_plan, build_task, workload_of
from datasets import Dataset
from small_items import make_catalogue
from small_language_models import build_answer_plan, make_language_model
from small_models import MINILM, make_backbone
from small_seq2seq import build_text_plan, make_seq2seq, numbers
from torch import Tensor, nn

from confide.client.records.encoded import InstitutionData, encode_institution
from confide.client.records.pool import is_poolable
from confide.client.records.tally import Tally
from confide.config.data import DataConfig
from confide.config.models.items import ItemsConfig
from confide.config.outcomes.forecast import ForecastConfig
from confide.config.outcomes.next_item import NextItemConfig
from confide.config.outcomes.regression import RegressionConfig
from confide.config.outcomes.spans import SpansConfig
from confide.config.outcomes.survival import SurvivalConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.media.image_classification import ImageClassificationConfig
from confide.config.tasks.recommendation import RecommendationConfig
from confide.config.tasks.series import ReadingConfig, SeriesConfig
from confide.config.tasks.task import TaskConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.config.tasks.token_classification import TokenClassificationConfig
from confide.config.tunings.tuning import TuningConfig
from confide.errors import DataError
from confide.models.backbones import find_backbone, load_tokenizer
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload
from confide.privacy.keys import split_key
from confide.protocol.messages import SPLITS
from confide.simulations import pools as module
from confide.simulations.pools import encode_together, pools
from confide.simulations.population import PartitionedRecords
from confide.simulations.records import fingerprints_of
from confide.tasks.task import Examples
from confide.tasks.text_classification import TextClassification
from confide.tasks.token_classification import TokenClassification

SECRET = bytes(range(32))
RECORDS = 90
SIZES = (7, 5, 30, 12, 35)
"""Records of five institutions; one record is nobody's."""
WORDS = ("a", "flight", "so", "unbelievably", "delayed", "late", "crew", "café", "!")
Case = tuple[TaskConfig, Workload, Dataset, DataConfig]


def population(records: Dataset) -> PartitionedRecords:
    """Deal records out in an order of their own; some belong to nobody."""
    order = numpy.random.default_rng(5).permutation(len(records)).tolist()
    indices, start = {}, 0
    for number, size in enumerate(SIZES):
        indices[f"ward-{number}"] = order[start : start + size]
        start += size
    return PartitionedRecords(records=records, indices=indices, tally=Tally(read=len(records)))


def rows(count: int = RECORDS, *, seed: int = 3) -> dict[str, list[Any]]:
    """Draw rows that repeat, some with another label, with values that are missing."""
    rng = numpy.random.default_rng(seed)
    few = rng.normal(50, 30, size=8).round(3).tolist()
    return {
        "a": [few[place] if place < 8 else None for place in rng.integers(0, 9, count)],
        "b": rng.integers(0, 3, count).astype(str).tolist(),
        "kind": rng.choice(["red", "green", ""], count).tolist(),
        "id": [f"r{number}" for number in range(count)],
        "owner": [f"p{number}" for number in rng.integers(0, 25, count)],
        "label": rng.choice(["no", "yes"], count).tolist(),
    }


def texts(count: int = RECORDS) -> dict[str, list[Any]]:
    """Draw texts of unlike lengths, one of which is empty."""
    rng = numpy.random.default_rng(4)
    said = [" ".join(rng.choice(WORDS, size)) for size in rng.integers(0, 40, count)]
    return {"text": said, "label": rng.choice(["no", "yes"], count).tolist(), **owners(count)}


def owners(count: int) -> dict[str, list[str]]:
    drawn = numpy.random.default_rng(6).integers(0, 25, count)
    return {"owner": [f"p{number}" for number in drawn]}


def bare(task: Any, config: TaskConfig) -> Workload:
    """Return the workload of a task whose model is of no interest."""
    columns = config.target_columns
    return Workload(
        task, nn.Identity(), task.encode, task.synthetic, Compute(), target_columns=columns
    )


def data(**settings: Any) -> DataConfig:
    return DataConfig(path="x.csv", **{"validation": 0.2, "test": 0.05, **settings})


def table(**settings: Any) -> Callable[[Path], Case]:
    """Return a case of a table; ``settings``: of the records."""
    columns = {
        "a": ColumnConfig(minimum=-20, maximum=90, indicator=True),
        "b": ColumnConfig(kind="categorical", categories=["0", "1"], unseen="other"),
        "kind": ColumnConfig(kind="categorical", categories=["red", "green"]),
    }
    encoding = settings.pop("numeric", NumericConfig())
    plan = build_plan(task=build_task(columns=columns, numeric=encoding))

    def case(folder: Path) -> Case:
        return plan.encoded_task, workload_of(plan), Dataset.from_dict(rows()), data(**settings)

    return case


def numbers_case(folder: Path) -> Case:
    outcome = RegressionConfig(column="a", minimum=0, maximum=60, outside="clip")
    records = rows()
    records["a"] = [50.0 if one is None else one for one in records["a"]]
    task = build_task("b", maximum=2.0, labels=[], outcome=outcome, metrics=["mae"])
    return task, workload_of(build_plan(task=task)), Dataset.from_dict(records), data()


def survival_case(folder: Path) -> Case:
    records = {**rows(), "time": [float(n % 40) for n in range(RECORDS)], "event": ["1", "0"] * 45}
    outcome = SurvivalConfig(
        time_column="time",
        event_column="event",
        event_values=["1"],
        censored_values=["0"],
        horizon=30.0,
        intervals=4,
    )
    task = build_task("b", maximum=2.0, labels=[], outcome=outcome, metrics=["concordance"])
    return task, workload_of(build_plan(task=task)), Dataset.from_dict(records), data()


def text_case(folder: Path) -> Case:
    config = TextClassificationConfig(labels=["no", "yes"], max_tokens=32)
    task = TextClassification(config, tokenizer=load_tokenizer(find_backbone(MINILM)))
    return config, bare(task, config), Dataset.from_dict(texts()), data()


def grouped_text_case(folder: Path) -> Case:
    task, workload, records, _ = text_case(folder)
    return task, workload, records, data(group_column="owner")


def tags_case(folder: Path) -> Case:
    """Return words with a tag each: targets of a record are rows, as many as it has tokens."""
    config = TokenClassificationConfig(outcome=SpansConfig(types=["PER", "LOC"]), max_tokens=24)
    task = TokenClassification(config, tokenizer=load_tokenizer(find_backbone(MINILM)))
    rng = numpy.random.default_rng(4)
    said = [rng.choice(WORDS, size).tolist() for size in rng.integers(1, 40, RECORDS)]
    tags = [["B-PER" if len(word) == 4 else "O" for word in words] for words in said]
    records = {"words": list(map(json.dumps, said)), "tags": list(map(json.dumps, tags))}
    return config, bare(task, config), Dataset.from_dict(records), data()


def translation_case(folder: Path) -> Case:
    plan = build_text_plan(make_seq2seq(folder))
    records = numbers(*[number**3 for number in range(RECORDS)])
    return plan.task, workload_of(plan), records, data()


def answers_case(folder: Path) -> Case:
    plan = build_answer_plan(make_language_model(folder, trained_layers=None))
    asked = [f"What is {number}?" + " Really?" * (number % 5) for number in range(RECORDS)]
    records = {"prompt": asked, "answer": [str(number**2) for number in range(RECORDS)]}
    return plan.task, workload_of(plan), Dataset.from_dict(records), data()


def series_case(folder: Path) -> Case:
    readings = {"load": ReadingConfig(minimum=0, maximum=100)}
    outcome = ForecastConfig(column="load", minimum=0, maximum=100, steps=2)
    config = SeriesConfig(readings=readings, lookback=3, season=3, outcome=outcome)
    rng = numpy.random.default_rng(1)
    records = {
        "at": [f"{number:03}" for number in range(RECORDS)],
        "window": [json.dumps(one) for one in rng.uniform(0, 120, (RECORDS, 3, 1)).tolist()],
        "ahead": [json.dumps(one) for one in rng.uniform(0, 100, (RECORDS, 2)).tolist()],
    }
    return config, workload_of(build_plan(task=config)), Dataset.from_dict(records), data()


def items_case(folder: Path) -> Case:
    config = RecommendationConfig(
        outcome=NextItemConfig(top=3), known=4, recent=2, metrics=["hit_rate_10"]
    )
    backbone = ItemsConfig(name=str(make_catalogue(folder / "catalogue")), width=4)
    tuning = TuningConfig(kind="head")
    workload = build_workload(config, backbone, tuning, compute=Compute(), seed=0)
    histories = [[f"i{number % 5}"] * (number % 7) + [f"n{number}"] for number in range(RECORDS)]
    records = {
        "history": list(map(json.dumps, histories)),
        "next_item": [f"i{number % 4}" for number in range(RECORDS)],
    }
    return config, workload, Dataset.from_dict(records), data()


CASES: dict[str, Callable[[Path], Case]] = {
    "rows that repeat": table(),
    "rows on one range": table(numeric=LINEAR),
    "rows of norm 1": table(numeric=NumericConfig(encoding="periodic", scaling="row")),
    "rows with ids": table(id_column="id"),
    "owners": table(group_column="owner"),
    "owners and ids": table(group_column="owner", id_column="id"),
    "numbers, some clipped": numbers_case,
    "times, some censored": survival_case,
    "texts": text_case,
    "owners of texts": grouped_text_case,
    "tags": tags_case,
    "translations": translation_case,
    "answers": answers_case,
    "series": series_case,
    "items": items_case,
}


def together(case: Case, shared: PartitionedRecords | None = None) -> dict[str, Any]:
    task, workload, records, config = case
    people = shared or population(records)
    names = list(people.indices)
    encoded = encode_together(names, people, config, task=task, workload=workload, secret=SECRET)
    return dict(zip(names, encoded, strict=True))


def alone(case: Case) -> dict[str, Any]:
    _, workload, records, config = case
    return {
        name: encode_institution(name, part, config, workload=workload, key=split_key(SECRET, name))
        for name, part in population(records).parts.items()
    }


def assert_same_tensor(one: Tensor | None, other: Tensor | None) -> None:
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.is_contiguous()
        assert one.numpy().tobytes() == other.numpy().tobytes()


def assert_same(one: InstitutionData, other: InstitutionData) -> None:
    for split in SPLITS:
        mine, theirs = one.split(split), other.split(split)
        assert list(mine.columns) == list(theirs.columns)
        assert mine.ragged == theirs.ragged
        for name in mine.columns:
            assert_same_tensor(mine.columns[name], theirs.columns[name])
        assert_same_tensor(mine.lengths, theirs.lengths)
    assert_same_tensor(one.groups, other.groups)
    assert one.held_out_groups.keys() == other.held_out_groups.keys()
    for split, codes in one.held_out_groups.items():
        assert_same_tensor(codes, other.held_out_groups[split])
    assert one.group_column == other.group_column
    assert one.digest == other.digest


@pytest.fixture
def only_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where records are encoded one by one."""

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        pytest.fail(f"{name} was encoded by itself")

    monkeypatch.setattr(module, "encode_institution", refuse)


@pytest.mark.usefixtures("only_pools")
@pytest.mark.parametrize("name", CASES)
def test_pool_gives_what_each_institution_encodes_by_itself(name: str, tmp_path: Path) -> None:
    case = CASES[name](tmp_path)
    found, expected = together(case), alone(case)
    assert found.keys() == expected.keys()
    for who, (encoded, units) in found.items():
        assert units == expected[who][1]
        assert_same(encoded, expected[who][0])
    # Empty splits are among those compared
    assert any(len(one.split(split)) == 0 for one, _ in found.values() for split in SPLITS)


def test_fingerprints_of_a_pool_are_those_of_each_one() -> None:
    people = population(Dataset.from_dict(rows()))
    expected = {}
    for name, part in people.parts.items():
        digest = hashlib.sha256()
        for column in sorted(part.column_names):
            digest.update(repr((column, list(part[column]))).encode())
        expected[name] = digest.hexdigest()
    assert fingerprints_of(people) == expected


def test_pools_are_bounded_and_keep_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_POOLED", 20)
    sizes = {"a": 7, "b": 13, "c": 1, "d": 50, "e": 20, "f": 1}
    found = list(pools({name: range(size) for name, size in sizes.items()}))
    assert found == [["a", "b"], ["c"], ["d"], ["e"], ["f"]]
    assert list(pools({})) == []


# --- problems


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("a", "much", "Column a: 1 of [0-9]+ values are not numbers"),
        ("kind", "blue", "Column kind: 1 unknown category"),
        ("label", "perhaps", "Column label: unknown label .perhaps"),
        ("label", None, "Column label: 1 of [0-9]+ labels are null"),
    ],
)
def test_problem_is_told_of_the_institution_that_has_it(
    column: str, value: Any, words: str, tmp_path: Path
) -> None:
    task, workload, records, config = table()(tmp_path)
    people = population(records)
    changed = records.to_dict()
    changed[column] = list(map(lambda one: None if one is None else str(one), changed[column]))
    changed[column][people.indices["ward-3"][2]] = value
    case = task, workload, Dataset.from_dict(changed), config
    with pytest.raises(DataError) as expected:
        alone(case)
    with pytest.raises(DataError, match=f"^Institution ward-3: {words}") as found:
        together(case)
    assert found.value.problems == expected.value.problems


def test_targets_of_one_institution_in_another_unit_are_told(tmp_path: Path) -> None:
    task, workload, records, config = numbers_case(tmp_path)
    people, changed = population(records), records.to_dict()
    for row in people.indices["ward-2"]:
        changed["a"][row] = 5000.0
    case = task, workload, Dataset.from_dict(changed), config
    with pytest.raises(DataError, match=r"^Institution ward-2: Column a: .* in another unit"):
        together(case)


def test_institution_with_nothing_to_train_on_is_told(tmp_path: Path) -> None:
    task, workload, records, _ = table()(tmp_path)
    case = task, workload, records, data(validation=0.5, test=0.49)
    with pytest.raises(DataError, match=r"^Institution ward-\d has \d+ records, none of"):
        together(case)


# --- what is not pooled


def never(*args: Any, **settings: Any) -> Any:
    raise AssertionError("a pool was made")


def features_kept(folder: Path) -> Case:
    """Return a case of a head on features that a cache knows by their set of records."""
    config = TextClassificationConfig(labels=["no", "yes"], max_tokens=8)
    plan = build_plan(task=config, backbone=make_backbone(folder), tuning=TuningConfig(kind="head"))
    return config, workload_of(plan), Dataset.from_dict(texts()), data()


def test_features_of_a_frozen_backbone_are_not_pooled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = features_kept(tmp_path)
    assert not is_poolable(case[0], case[1])
    monkeypatch.setattr(module, "RecordPool", never)
    found, expected = together(case), alone(case)
    for who, (encoded, _) in found.items():
        assert_same(encoded, expected[who][0])


def test_custom_tasks_and_files_are_not_pooled(tmp_path: Path) -> None:
    task, workload, _, _ = table()(tmp_path)
    assert is_poolable(task, workload)
    assert not is_poolable(task, dataclasses.replace(workload, custom_task="theirs.Task"))
    pictures = ImageClassificationConfig(labels=["no", "yes"])
    assert not is_poolable(pictures, workload)


def test_pool_does_not_hold_what_institutions_get(tmp_path: Path) -> None:
    found = together(table()(tmp_path))
    kept = found["ward-0"][0].train.columns["features"]
    assert kept.untyped_storage().nbytes() == kept.nbytes


def test_records_are_read_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, workload, records, config = table()(tmp_path)
    sizes: list[int] = []

    def prepare(some: Dataset) -> Examples:
        sizes.append(len(some))
        return workload.task.encode(some)

    counted = dataclasses.replace(workload, prepare=prepare)
    monkeypatch.setattr(module, "is_poolable", lambda *_: True)
    together((task, counted, records, config))
    assert sizes == [sum(SIZES), 0]
